"""What every command does first: read its settings, let its log lines say who writes them."""

import sys

from ops.logs import configure
from schemas.settings import S, load


def load_for(kind: type[S], process: str) -> S:
    """Read a command's settings and set up its log on stderr; raises SettingsError."""
    settings = load(kind)
    configure(settings.log_level, process)
    return settings


def load_to_serve(kind: type[S], process: str) -> S:
    """Read the settings of a process that serves, and set up its log on stdout; raises as above."""
    settings = load(kind)
    configure(settings.log_level, process, sys.stdout)
    return settings
