"""What every command does first: read its settings, let its log lines say who writes them."""

from ops.logs import configure
from schemas.settings import S, load


def load_for(kind: type[S], process: str) -> S:
    """Read one process's settings and set up its log; raises SettingsError."""
    settings = load(kind)
    configure(settings.log_level, process)
    return settings
