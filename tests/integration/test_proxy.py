"""The proxy of the fault tests: each fault is what it says, and heals."""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from support.polling import eventually
from support.proxy import Proxy, Way


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while piece := self.request.recv(1024):
            self.server.heard += piece  # type: ignore[attr-defined]
            self.request.sendall(piece)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    heard = b""


@pytest.fixture
def server() -> Iterator[_Server]:
    """Provide a server that says what it hears."""
    with _Server(("127.0.0.1", 0), _Echo) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.05,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: _Server) -> Iterator[Proxy]:
    """Provide a proxy in front of it."""
    with Proxy(server.server_address[1]) as found:
        yield found


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    """Provide a connection through the proxy."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as found:
        yield found


def says(client: socket.socket, text: bytes) -> bytes:
    """Send something and return as much as was sent."""
    client.sendall(text)
    return b"".join(client.recv(1) for _ in text)


def is_silent(client: socket.socket) -> bool:
    """Tell whether nothing comes for a while."""
    client.settimeout(0.3)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(10)
    return False


def is_refused(proxy: Proxy) -> bool:
    """Tell whether a new connection is ended, which may be before its making is done."""
    try:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
            return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_it_forwards(client: socket.socket) -> None:
    """Without a fault it is not there."""
    assert says(client, b"hello") == b"hello"


@pytest.mark.parametrize(("way", "heard"), [(Way.TO_SERVER, b""), (Way.TO_CLIENT, b"hello")])
def test_it_stalls(
    client: socket.socket, proxy: Proxy, server: _Server, way: Way, heard: bytes
) -> None:
    """It holds what comes, in the direction that was named, and lets it pass when it heals."""
    says(client, b"-")
    proxy.stall(way)
    client.sendall(b"hello")
    assert is_silent(client)
    assert server.heard == b"-" + heard
    proxy.heal()
    assert client.recv(5) == b"hello"


def test_it_trickles(client: socket.socket, proxy: Proxy) -> None:
    """The answer comes byte by byte."""
    proxy.trickle(0.01)
    client.sendall(b"hello")
    eventually(lambda: client.recv(5, socket.MSG_PEEK) == b"h")
    assert says(client, b"") == b""
    assert b"".join(client.recv(1) for _ in range(5)) == b"hello"


@pytest.mark.parametrize("is_reset", [False, True])
def test_it_ends_connections(client: socket.socket, proxy: Proxy, is_reset: bool) -> None:  # noqa: FBT001 - a parameter
    """A cut is an end of the stream, a reset is an error; the next connection works."""
    assert says(client, b"hello") == b"hello"
    assert (proxy.reset() if is_reset else proxy.cut()) == 1
    if is_reset:
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    else:
        assert client.recv(1) == b""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as again:
        assert says(again, b"again") == b"again"


def test_it_refuses(client: socket.socket, proxy: Proxy) -> None:
    """No connection lives and none is made until it heals."""
    says(client, b"-")
    assert proxy.refuse() == 1
    assert is_refused(proxy)
    proxy.heal()
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as again:
        assert says(again, b"again") == b"again"


@pytest.mark.parametrize("answered", [False, True])
def test_it_cuts_at_a_word(
    client: socket.socket,
    proxy: Proxy,
    server: _Server,
    answered: bool,  # noqa: FBT001 - same
) -> None:
    """The server has heard the word or not, as asked; the client never gets the answer."""
    proxy.cut_at(b"COMMIT", answered=answered)
    assert says(client, b"hello") == b"hello"
    client.sendall(b"COMMIT")
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""
    assert proxy.cuts == 1
    assert server.heard == (b"helloCOMMIT" if answered else b"hello")
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as again:
        assert says(again, b"COMMIT") == b"COMMIT"
