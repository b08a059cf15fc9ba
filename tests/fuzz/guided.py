"""Run one target under atheris: `python -m fuzz.guided TARGET [libFuzzer's options] [CORPUS]`."""

import sys

import atheris

with atheris.instrument_imports(include=["schemas", "consumer", "json"]):
    from fuzz.targets import TARGETS


def main() -> None:
    """Fuzz until a law is broken (exit code 77) or the runs are done (0)."""
    name, *arguments = sys.argv[1:]
    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
