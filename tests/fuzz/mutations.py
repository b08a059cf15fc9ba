"""Requests that are nearly Stripe's: valid ones, with something about them tampered with."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from schemas.signature import sign
from support.stripe import body, event, invoice, subscription

NOW = 1_700_000_000
SECRETS = ("whsec_fuzz_0123456789abcdef", "whsec_another", "fuzz_without_prefix")
BODIES = (
    b'{"id":"evt_1","object":"event"}',
    body(event("customer.subscription.created", subscription(), id="evt_2")),
    body(event("invoice.paid", invoice("paid"), id="evt_3")),
    '{"id":"evt_4","name":"Zoë 日本 🚀"}'.encode(),
    b"{}",
    b"",
)
PIECES = (
    b",", b"=", b" ", b"\0", b"\n", b"t=", b"v1=", b"v0=x", b",v1=", b"\xff", b"\xc3\xa4", b"+",
    b"_", b"0", "٣".encode(), b"e", b"-1", b"0x", b"\xed\xa0\x80", b"0" * 64, b"f" * 64,
)  # fmt: skip
JSON_PIECES = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 120, b"[" * 70, b"{" * 70, b"}", b"]", b'"',
    b"\\", b"\\ud800", b"\\u0000", b'"id":"evt_9",', b"null", b"true", b",", b":", b"\xff",
    b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r\n", b"\0", b'"customer":"cus_9",', b"1.5e-7",
    b"[[[[]]]]",
)  # fmt: skip


@dataclass
class Attempt:
    """One request, and what the receiver knows when it comes."""

    header: bytes
    body: bytes
    secrets: list[str]
    now: float


def attempt(random: Random) -> Attempt:
    """Return a request that was valid before it was tampered with, zero to four times."""
    secret = random.choice(SECRETS)
    content = random.choice(BODIES)
    for _ in range(random.choice((0, 0, 1, 2))):
        content = tamper(content, random, JSON_PIECES)
    found = Attempt(header_of(content, secret, random), content, known(secret, random), NOW)
    for _ in range(random.choice((0, 1, 1, 1, 2, 3, 4))):
        random.choice(STEPS)(found, random)
    return found


def header_of(content: bytes, secret: str, random: Random) -> bytes:
    """Return a header that verifies, written in one of the ways that are allowed."""
    stamp = sign(content, secret, NOW + random.randint(-300, 300)).encode()
    decoys = [b"v1=" + b"0" * 64, b"v0=" + b"1" * 64, b"v2=x", stamp.partition(b",")[2]]
    parts = [*stamp.split(b","), *random.sample(decoys, random.choice((0, 0, 0, 1, 3)))]
    random.shuffle(parts)
    return b",".join(parts)


def known(secret: str, random: Random) -> list[str]:
    """Return the secrets in force, the right one among them."""
    found = [secret, *random.sample(SECRETS, random.choice((0, 0, 1, 2)))]
    random.shuffle(found)
    return found


def tamper(data: bytes, random: Random, pieces: tuple[bytes, ...]) -> bytes:
    """Change some bytes: flip, insert, cut out, cut off, or double."""
    start = random.randrange(len(data) + 1)
    end = min(len(data), start + random.choice((0, 1, 1, 2, 8, 40)))
    match random.randrange(6):
        case 0 if start < len(data):
            flipped = data[start] ^ 1 << random.randrange(8)
            return data[:start] + bytes([flipped]) + data[start + 1 :]
        case 1:
            return data[:start] + random.choice(pieces) + data[start:]
        case 2:
            return data[:start] + data[end:]
        case 3:
            return data[:start]
        case 4:
            return data[:end] + data[start:]
        case _:
            return data[:start] + random.choice(pieces) + data[end:]


def change_header(found: Attempt, random: Random) -> None:
    """Change bytes of the header."""
    found.header = tamper(found.header, random, PIECES)


def change_body(found: Attempt, random: Random) -> None:
    """Change bytes of the body under a signature that stays."""
    found.body = tamper(found.body, random, JSON_PIECES)


def change_parts(found: Attempt, random: Random) -> None:
    """Reorder, double, drop or multiply the header's parts."""
    parts = found.header.split(b",")
    match random.randrange(4):
        case 0:
            random.shuffle(parts)
        case 1:
            parts.insert(random.randrange(len(parts) + 1), random.choice(parts))
        case 2:
            parts.remove(random.choice(parts))
        case _:
            parts += [random.choice(parts)] * random.choice((14, 15, 16, 17, 70))
    found.header = b",".join(parts)


def change_case(found: Attempt, random: Random) -> None:
    """Write part of the header, or all of it, in the other case."""
    start = random.choice((0, random.randrange(len(found.header) + 1)))
    found.header = found.header[:start] + found.header[start:].swapcase()


def splice(found: Attempt, random: Random) -> None:
    """Put another request's header beside this one's, or in its place."""
    other = header_of(random.choice(BODIES), random.choice(SECRETS), random)
    joined = (other, found.header + b"," + other, found.header[: random.randrange(100)] + other)
    found.header = random.choice(joined)


def change_time(found: Attempt, random: Random) -> None:
    """Write another time than the one that was signed, or the same one in another way."""
    ways = (b"t=+", b"t= ", b"t=0", b"t=-", b"t=1", b"t=\xd9\xa1", b"t==", b"T=", b"t=1_", b"t=.")
    found.header = found.header.replace(b"t=", random.choice(ways))


def rename_scheme(found: Attempt, random: Random) -> None:
    """Pass a signature off as one of another scheme."""
    names = (b"v1", b"v0", b"v2", b"V1", b"v1 ", b" v1", b"v", b"", b"t", b"v11")
    old, new = random.choice(names[:3]), random.choice(names)
    found.header = found.header.replace(old + b"=", new + b"=")


def change_secrets(found: Attempt, random: Random) -> None:
    """Drop, add or spoil a secret."""
    spoilt = random.choice(SECRETS)
    spoilt = random.choice(
        (spoilt, spoilt.removeprefix("whsec_"), f"whsec_{spoilt}", spoilt.upper(), f"{spoilt} ",
         "", " ", "whsec_", "\ud800", "\0")
    )  # fmt: skip
    place = random.randrange(len(found.secrets) + 1)
    found.secrets[place : place + random.choice((0, 1, 8))] = [spoilt][: random.choice((0, 1, 1))]


def move_clock(found: Attempt, random: Random) -> None:
    """Let the request arrive at another time, often just inside or outside of the window."""
    found.now += random.choice((-1e9, -601, -300.001, -300, -0.5, 0.5, 1, 300, 300.001, 301, 1e9))


Step = Callable[[Attempt, Random], None]
STEPS: tuple[Step, ...] = (
    change_header, change_header, change_body, change_parts, change_case, splice, change_time,
    rename_scheme, change_secrets, move_clock,
)  # fmt: skip
