"""Requests as no client library would send them: raw bytes on a socket."""

import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class RawAnswer:
    """What came back before the server closed or the deadline passed."""

    status: int
    head: bytes
    body: bytes
    closed: bool


def talk(port: int, *chunks: bytes, seconds: float = 15) -> RawAnswer:
    """Send chunks and read until the server closes, or one whole answer is there."""
    with connect(port, seconds) as connection:
        try:
            for chunk in chunks:
                connection.sendall(chunk)
        except OSError:
            pass  # refused while we were still talking; the answer may be there all the same
        return read_answer(connection)


def connect(port: int, seconds: float = 15) -> socket.socket:
    """Open a connection that sends each chunk as it is given."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=seconds)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read_answer(connection: socket.socket) -> RawAnswer:
    """Read one whole answer, in however many pieces it comes, or to the end."""
    data = b""
    closed = False
    while not _is_whole(data):
        try:
            more = connection.recv(65536)
        except ConnectionResetError:
            more = b""
        if not more:
            closed = True
            break
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1]) if head else 0
    return RawAnswer(status, head.lower(), body, closed)


def _is_whole(data: bytes) -> bool:
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.split(b":")[1])
    return True


def request(
    content: bytes, *, path: str = "/webhooks/stripe", method: str = "POST", **headers: str
) -> bytes:
    """Return a request's bytes; a header's underscores become hyphens."""
    lines = {"host": "localhost", "content-length": str(len(content))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value != "")
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + content


@dataclass(frozen=True)
class Conversation:
    """All that came back until the server closed: answers in order, and interim ones (100)."""

    answers: tuple[RawAnswer, ...]
    interim: int

    @property
    def statuses(self) -> tuple[int, ...]:
        """Return the status of each answer."""
        return tuple(answer.status for answer in self.answers)

    @property
    def says_close(self) -> bool:
        """Tell whether the server ended it by itself: said so, or closed without an answer."""
        return not self.answers or b"connection: close" in self.answers[-1].head


def converse(port: int, *chunks: bytes, seconds: float = 60) -> Conversation:
    """Send chunks and read until the server closes, which it must within the seconds."""
    data = b""
    with connect(port, seconds) as connection:
        try:
            for chunk in chunks:
                connection.sendall(chunk)
        except (ConnectionResetError, BrokenPipeError):
            pass  # refused while we were still talking; the answer is there all the same
        try:
            while more := connection.recv(65536):
                data += more
        except ConnectionResetError:
            pass  # closed with bytes of ours unread; what came before counts
    return parse(data, is_head=chunks[0].startswith(b"HEAD "))


def parse(data: bytes, *, is_head: bool = False) -> Conversation:
    """Take answers apart; raises AssertionError if the bytes are no whole answers."""
    answers: list[RawAnswer] = []
    interim = 0
    while data:
        head, found, rest = data.partition(b"\r\n\r\n")
        assert found, data
        status = int(head.split(b" ", 2)[1])
        if status == 100:
            interim, data = interim + 1, rest
            continue
        lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = 0 if is_head else int(lines[b"content-length"])
        assert len(rest) >= length, data
        answers.append(RawAnswer(status, head.lower(), rest[:length], closed=True))
        data = rest[length:]
    return Conversation(tuple(answers), interim)
