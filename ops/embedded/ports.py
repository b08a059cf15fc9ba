"""Ports of the embedded servers, and whether they are free."""

import socket
from contextlib import ExitStack

from ops.embedded.errors import EmbeddedError

HOST = "127.0.0.1"


def is_free(port: int) -> bool:
    """Tell whether a loopback port can be bound now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def require_free(port: int, server: str, setting: str) -> None:
    """Raise EmbeddedError naming the server and the setting that moves it, if a port is taken."""
    if not is_free(port):
        raise EmbeddedError(
            f"port {port} for {server} is taken by another program: end that program, "
            f"or set {setting} to a free port"
        )


def free_ports(count: int) -> list[int]:
    """Return loopback ports that nobody uses at this moment, all different."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def is_listening(port: int) -> bool:
    """Tell whether something accepts connections on a loopback port."""
    try:
        with socket.create_connection((HOST, port), timeout=0.5):
            return True
    except OSError:
        return False
