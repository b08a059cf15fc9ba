"""Settings for an `up` beside all others on this machine."""

from ops.embedded.ports import free_ports, is_free

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
LAST_PORT = 65_535


def free_ports_of_up() -> dict[str, str]:
    """Return settings that move everything to ports that nobody uses."""
    found = {name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
    return found | {"HOOKLINE_CONSUMER_ADMIN_PORT": str(_two_free_ports())}


def _two_free_ports() -> int:
    """Return the first of two neighbouring free ports, for two consumers."""
    while True:
        (port,) = free_ports(1)
        if port < LAST_PORT and is_free(port + 1):
            return port
