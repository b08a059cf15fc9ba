"""What may stand in no output of any process: searched in all that a run has written."""

import re
from collections.abc import Iterator
from pathlib import Path

COMMANDS = "commands.log"
"""What commands printed to a person; `dead-letters show` prints a body, as it was asked to."""

SECRETS = {
    "a signing secret": rb"whsec_",
    "a signature": rb"v1=[0-9a-fA-F]{64}",
    "a password in a URL": rb"://[^\s/:@\"']*:[^\s/:@\"'*]+@",
    "a password of the run": rb"(?:kafka|redis)-pass-[0-9a-f]{4}",
}
BODIES = {
    # Plain, as Python prints bytes, and as JSON in JSON.
    "a body": rb"object\\*[\"']: ?\\*[\"'](?:event|subscription|invoice|checkout\.session)\b",
}


def find_leaks(folder: Path) -> Iterator[str]:
    """Yield each log below a folder that holds what it must not, and the line."""
    for path in sorted(folder.rglob("logs/*.log")):
        kinds = SECRETS if path.name == COMMANDS else SECRETS | BODIES
        found = re.compile(b"|".join(b"(%s)" % kind for kind in kinds.values()))
        with path.open("rb") as lines:
            for line in lines:
                if match := found.search(line):
                    what = list(kinds)[(match.lastindex or 1) - 1]
                    yield f"{path.relative_to(folder)}: {what}: {line[:300]!r}"
