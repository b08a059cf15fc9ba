"""`python -m ops.bench.link_peer FOLDER`: let a peer's environment find hookline behind its own.

The peer's own packages come first, with the versions that it is pinned to; hookline's handler
and the libraries of that are found in the environment that this runs in.
"""

import sys
import sysconfig
from pathlib import Path


def link(environment: Path) -> None:
    """Write the one line that adds our packages behind the peer's; safe to repeat."""
    folder = environment / "lib" / Path(sysconfig.get_path("purelib")).parent.name / "site-packages"
    ours = sysconfig.get_path("purelib")
    (folder / "hookline.pth").write_text(f"import site; site.addsitedir({ours!r})\n")


if __name__ == "__main__":
    link(Path(sys.argv[1]))
