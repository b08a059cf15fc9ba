"""Settings for an `up` beside all others on this machine."""

from support.ports import steady_port

PORTS = (
    "HOOKLINE_EMBEDDED_KAFKA_PORT",
    "HOOKLINE_EMBEDDED_CONTROLLER_PORT",
    "HOOKLINE_EMBEDDED_POSTGRES_PORT",
    "HOOKLINE_EMBEDDED_VALKEY_PORT",
    "HOOKLINE_INGEST_PORT",
    "HOOKLINE_INGEST_ADMIN_PORT",
    "HOOKLINE_GATEKEEPER_PORT",
    "HOOKLINE_GATEKEEPER_ADMIN_PORT",
)


def free_ports_of_up() -> dict[str, str]:
    """Return settings that move everything to ports that nobody uses, for starting again too."""
    found = {name: str(steady_port()) for name in PORTS}
    return found | {"HOOKLINE_CONSUMER_ADMIN_PORT": str(_two_free_ports())}


def _two_free_ports() -> int:
    """Return the first of two neighbouring free ports, for two consumers."""
    while True:
        first, second = steady_port(), steady_port()
        if second == first + 1:
            return first
