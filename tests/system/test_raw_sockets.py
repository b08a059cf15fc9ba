"""Smuggling and framing on raw sockets: one request, one answer, and nothing is believed unsigned.

In what is sent, `<body>` is a case's own event, `<stamp>` its signature, `<length>` its length,
`<chunk>` the event as one chunk, `<chunked>` the same with its end, and `<evil>` a whole request
that nobody signed.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from schemas.signature import Verified, verify_recorded
from support.pipeline import SECRET, Pipeline
from support.raw_http import Conversation, converse
from support.served import port_of, records, serving, signed, stamp
from support.servers import Servers

POST = "POST /webhooks/stripe HTTP/1.1\r\n"
SIGNED = "Host: x\r\nStripe-Signature: <stamp>\r\n"
START = POST + SIGNED
SIZED = "Content-Length: <length>\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
GOOD = START + SIZED + "\r\n<body>"
EVIL = POST + "Host: x\r\nContent-Length: 12\r\n\r\n" + '{"id":"evil"}'[:12]


@dataclass(frozen=True)
class Case:
    """What is sent, the statuses that come back, and whether the server ends it by itself."""

    name: str
    sent: str
    statuses: tuple[int, ...]
    closes: bool = True


def sized(length: str) -> str:
    """Return a signed request with a declared length as given."""
    return f"{START}Content-Length:{length}\r\n\r\n<body>"


def coded(line: str) -> str:
    """Return a signed request in one chunk, its coding declared as given."""
    return f"{START}{line}\r\n\r\n<chunked>"


def chunks(text: str) -> str:
    """Return a signed request whose chunks are as given."""
    return f"{START}{CHUNKED}\r\n{text}"


def trailed(lines: str) -> str:
    """Return a signed request in one chunk with these trailers."""
    return f"{START}{CHUNKED}\r\n<chunk>0\r\n{lines}\r\n"


def headed(line: str) -> str:
    """Return a good request with one more line in its head."""
    return f"{START}{line}\r\n{SIZED}\r\n<body>"


def asked(line: str) -> str:
    """Return a good request under another request line."""
    return f"{line}\r\n{SIGNED}{SIZED}\r\n<body>"


LENGTHS = [
    Case("both, length first", START + SIZED + CHUNKED + "\r\n<chunked>", (400,)),
    Case("both, coding first", START + CHUNKED + SIZED + "\r\n<chunked>", (400,)),
    Case("both, hidden request", START + SIZED + CHUNKED + "\r\n0\r\n\r\n<evil>", (400,)),
    Case("two lengths that differ", headed("Content-Length: 3"), (400,)),
    Case("two lengths that agree", headed("Content-Length: <length>"), (400,)),
    Case("length with plus", sized(" +<length>"), (400,)),
    Case("length with minus", sized(" -1"), (400,)),
    Case("length with space inside", sized(" 1 2"), (400,)),
    Case("length with space after", sized(" <length> "), (200,), closes=False),
    Case("length in hex", sized(" 0x10"), (400,)),
    Case("length with comma", sized(" <length>, <length>"), (400,)),
    Case("length that overflows", sized(" 18446744073709551617"), (400,)),
    Case("length of 19 digits", sized(" 9223372036854775807"), (413,)),
    Case("length empty", sized(""), (400,)),
    Case("length as a word", sized(" ten"), (400,)),
    Case("length with underscore", sized(" 1_0"), (400,)),
    Case("no length at all", START + "\r\n<body>", (400,), closes=False),
    Case("no length, hidden request", START + "\r\n<evil>", (400, 400), closes=False),
    Case("GET with body", GOOD.replace("POST", "GET"), (405,)),
    Case("length too long", sized(" 400"), (408,)),
    Case("length too short", sized(" 5"), (400,), closes=False),
    Case("hidden request behind the body", GOOD + "<evil>", (200, 400), closes=False),
]

CODINGS = [
    Case("chunked", coded("Transfer-Encoding: chunked"), (200,), closes=False),
    Case("chunked in capitals", coded("TRANSFER-ENCODING: CHUNKED"), (200,), closes=False),
    Case("chunked, identity", coded("Transfer-Encoding: chunked, identity"), (400,)),
    Case("identity", coded("Transfer-Encoding: identity"), (400,)),
    Case("xchunked", coded("Transfer-Encoding: xchunked"), (400,)),
    Case("chunkedx", coded("Transfer-Encoding: chunkedx"), (400,)),
    Case("quoted", coded('Transfer-Encoding: "chunked"'), (400,)),
    Case("coding after a tab", coded("Transfer-Encoding:\tchunked"), (200,), closes=False),
    Case("coding after a vertical tab", coded("Transfer-Encoding: \x0bchunked"), (400,)),
    Case("space before the colon", coded("Transfer-Encoding : chunked"), (400,)),
    Case("tab before the colon", coded("Transfer-Encoding\t: chunked"), (400,)),
    Case("space before the name", coded("X: y\r\n Transfer-Encoding: chunked"), (400,)),
    Case(
        "coding twice",
        coded("Transfer-Encoding: x\r\nTransfer-Encoding: chunked"),
        (200,),
        closes=False,
    ),
    Case("coding of HTTP/1.0", coded("Transfer-Encoding: chunked").replace("1.1", "1.0"), (200,)),
    Case("no colon", headed("Transfer-Encoding"), (400,)),
]

CHUNKS = [
    Case("size with plus", chunks("+5\r\n<evil>"), (400,)),
    Case("size with minus", chunks("-5\r\n<evil>"), (400,)),
    Case("size with 0x", chunks("0x5\r\nabcde\r\n0\r\n\r\n"), (400,)),
    Case("size that overflows", chunks("10000000000000005\r\nabcde\r\n0\r\n\r\n"), (400,)),
    Case("size with space before", chunks(" 5\r\nabcde\r\n0\r\n\r\n"), (400,)),
    Case("size empty", chunks("\r\nabcde\r\n0\r\n\r\n"), (400,)),
    Case("size ended by a line feed", chunks("5\nabcde\r\n0\r\n\r\n"), (400,)),
    Case("extension", chunks("5;a=b\r\nabcde\r\n0\r\n\r\n"), (400,), closes=False),
    Case("extension with a line feed", chunks("5;a\nb\r\nabcde\r\n0\r\n\r\n"), (400,)),
    Case("chunk longer than its size", chunks("3\r\nabcde\r\n0\r\n\r\n"), (400,)),
    Case("no final chunk", chunks("5\r\nabcde\r\n"), (408,)),
    Case("hidden behind the chunks", trailed("") + "<evil>", (200, 400), closes=False),
    Case("trailer", trailed("x: y\r\n"), (200,), closes=False),
    Case("trailer as encoding", trailed("content-encoding: gzip\r\n"), (200,), closes=False),
    Case("trailer as signature", trailed("stripe-signature: x\r\n"), (200,), closes=False),
    Case("many trailers", trailed("x: y\r\n" * 100), (200,), closes=False),
    Case("trailer without an end", trailed("x: " + "y" * 400_000), (431,)),
    Case("extension without an end", chunks("5;" + "y" * 400_000), (431,)),
]

HEADS = [
    Case("bare line feeds", GOOD.replace("\r\n", "\n"), (400,)),
    Case("bare carriage return", headed("x: y\rz: 1"), (400,)),
    Case("folded line", headed("x: y\r\n z"), (400,)),
    Case("NUL in a value", headed("x: y\0z"), (400,)),
    Case("NUL in a name", headed("x\0: y"), (400,)),
    Case("empty name", headed(": y"), (400,)),
    Case("two hosts", headed("Host: y"), (200,), closes=False),
    Case("two signatures", headed("Stripe-Signature: <stamp>"), (400,), closes=False),
    Case("blank lines first", "\r\n\r\n" + GOOD, (200,), closes=False),
    Case("continue", headed("Expect: 100-continue"), (200,), closes=False),
    Case(
        "continue, too large",
        START + "Expect: 100-continue\r\nContent-Length: 9999999\r\n\r\n",
        (413,),
    ),
    Case("upgrade to h2c", headed("Connection: Upgrade\r\nUpgrade: h2c"), (400,)),
    Case("upgrade to websocket", headed("Connection: Upgrade\r\nUpgrade: websocket"), (400,)),
    Case(
        "upgrade, hidden request", headed("Connection: Upgrade\r\nUpgrade: h2c") + "<evil>", (400,)
    ),
    Case("connection: close, more behind", headed("Connection: close") + "<evil>", (200,)),
]

LINES = [
    Case("two spaces", asked("POST  /webhooks/stripe HTTP/1.1"), (200,), closes=False),
    Case("space in the path", asked("POST /webhooks /stripe HTTP/1.1"), (400,)),
    Case("tab for a space", asked("POST\t/webhooks/stripe HTTP/1.1"), (400,)),
    Case("absolute URI", asked("POST http://x/webhooks/stripe HTTP/1.1"), (200,), closes=False),
    Case("absolute URI without a path", asked("POST http://x HTTP/1.1"), (400,)),
    Case("authority form", asked("POST x:80 HTTP/1.1"), (400,)),
    Case("asterisk form", asked("OPTIONS * HTTP/1.1"), (404,)),
    Case("HTTP/0.9", "POST /webhooks/stripe\r\n\r\n", (400,)),
    Case("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400,)),
    Case("HTTP/3.0", asked("POST /webhooks/stripe HTTP/3.0"), (400,)),
    Case("HTTP/1.0", asked("POST /webhooks/stripe HTTP/1.0"), (200,)),
    Case("lower-case method", asked("post /webhooks/stripe HTTP/1.1"), (400,)),
    Case("unknown method", asked("PUSH /webhooks/stripe HTTP/1.1"), (400,)),
    Case("very long URI", asked(f"POST /{'x' * 20_000} HTTP/1.1"), (431,)),
    Case("path in UTF-8", asked("POST /webhooks/stripé HTTP/1.1"), (400,)),
    Case("slash at the end", asked("POST /webhooks/stripe/ HTTP/1.1"), (404,)),
    Case("two slashes", asked("POST //webhooks/stripe HTTP/1.1"), (404,)),
    Case("encoded slash", asked("POST /webhooks%2fstripe HTTP/1.1"), (200,), closes=False),
    Case("dots", asked("POST /x/../webhooks/stripe HTTP/1.1"), (404,)),
    Case("capitals", asked("POST /Webhooks/Stripe HTTP/1.1"), (404,)),
    Case("encoded NUL", asked("POST /webhooks/stripe%00 HTTP/1.1"), (404,)),
    Case("query", asked("POST /webhooks/stripe?a=b HTTP/1.1"), (200,), closes=False),
    Case("TLS hello", "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", (400,)),
]

PIPELINES = [
    Case("three good ones", GOOD * 3, (200, 200, 200), closes=False),
    Case("good, then no HTTP", GOOD + "nonsense\r\n\r\n", (200,), closes=False),
    Case("good, then a bad chunk", GOOD + chunks("zz\r\n"), (200,), closes=False),
    Case("good, then endless headers", GOOD + POST + "x: " + "y" * 40_000, (200,), closes=False),
    Case("good, then half a request", GOOD + START, (200,), closes=False),
    Case("unsigned, then good", EVIL + GOOD, (400, 200), closes=False),
    Case("wrong path, then good", EVIL.replace("stripe", "x") + GOOD, (404,)),
]

METHODS = {
    ("GET", "/webhooks/stripe"): 405,
    ("HEAD", "/webhooks/stripe"): 405,
    ("PUT", "/webhooks/stripe"): 405,
    ("PATCH", "/webhooks/stripe"): 405,
    ("DELETE", "/webhooks/stripe"): 405,
    ("OPTIONS", "/webhooks/stripe"): 405,
    ("TRACE", "/webhooks/stripe"): 405,
    ("CONNECT", "/webhooks/stripe"): 400,
    ("CONNECT", "x:80"): 400,
    ("GET", "/"): 404,
    ("HEAD", "/"): 404,
    ("POST", "/"): 404,
    ("OPTIONS", "/"): 404,
    ("DELETE", "/metrics"): 404,
}
MATRIX = [
    Case(f"{method} {path}", f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n", (status,))
    for (method, path), status in METHODS.items()
]

CASES = LENGTHS + CODINGS + CHUNKS + HEADS + LINES + PIPELINES + MATRIX


def event_of(case: Case) -> bytes:
    """Return the event that stands for a case."""
    return f'{{"id":"evt_{CASES.index(case)}","object":"event"}}'.encode()


def bytes_of(case: Case) -> bytes:
    """Return what is sent, signed now."""
    content = event_of(case).decode()
    words = {
        "<evil>": EVIL,
        "<chunked>": f"{len(content):x}\r\n{content}\r\n0\r\n\r\n",
        "<chunk>": f"{len(content):x}\r\n{content}\r\n",
        "<body>": content,
        "<length>": str(len(content)),
        "<stamp>": stamp(content.encode()),
    }
    text = case.sent
    for word, meaning in words.items():
        text = text.replace(word, meaning)
    return text.encode()


@pytest.fixture(scope="module")
def ingest(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """Provide one ingest for the whole file."""
    with serving(servers, tmp_path_factory.mktemp("raw")) as pipeline:
        yield pipeline


@pytest.fixture(scope="module")
def conversations(ingest: Pipeline) -> Mapping[str, Conversation]:
    """Provide all conversations, held side by side: each lasts until the server closes."""
    with ThreadPoolExecutor(len(CASES)) as pool:
        held = pool.map(lambda case: converse(port_of(ingest), bytes_of(case)), CASES)
        return {case.name: found for case, found in zip(CASES, held, strict=True)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_request_has_one_answer(conversations: Mapping[str, Conversation], case: Case) -> None:
    """Where a request ends is never in doubt: as many answers as requests, in their order."""
    found = conversations[case.name]
    assert (found.statuses, found.says_close) == (case.statuses, case.closes)


def test_the_body_is_asked_for_only_where_it_is_wanted(
    conversations: Mapping[str, Conversation],
) -> None:
    """Who waits for 100 gets it once, and not for a body that is too large anyway."""
    assert conversations["continue"].interim == 1
    assert sum(found.interim for found in conversations.values()) == 1


def test_only_what_was_signed_stands_in_the_topic(
    ingest: Pipeline, conversations: Mapping[str, Conversation]
) -> None:
    """After all that, a good request is answered, and each 200 has its record, no other one."""
    wanted = [event_of(case) for case in CASES for status in case.statuses if status == 200]
    last = b'{"id":"evt_last"}'
    assert converse(port_of(ingest), signed(last)).statuses == (200,)
    found = records(ingest)
    assert sorted(content for content, _ in found) == sorted([*wanted, last])
    verdicts = [verify_recorded(header, content, [SECRET]) for content, header in found]
    assert all(isinstance(verdict, Verified) for verdict in verdicts)
    assert len(conversations) == len(CASES)
