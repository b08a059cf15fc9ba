"""A second opinion on a signed request: the rules read anew, byte by byte, with plain HMAC.

Shares nothing with schemas/signature.py, not even a constant, and asks no SDK.
"""

import hashlib
import hmac
from collections.abc import Sequence

DIGITS = b"0123456789"
HEX = DIGITS + b"abcdefABCDEF"
COMMA, EQUALS = b",="


def matching_secret(
    header: bytes | None, body: bytes, secrets: Sequence[str], now: float
) -> int | None:
    """Return the position (from 1) of the secret by which the request is Stripe's, or None."""
    found = read(header or b"")
    if found is None or abs(now - int(found[0])) > 300 or not is_text(body):
        return None
    time, digests = found
    for position, secret in enumerate(secrets, 1):
        if digest_of(time, body, secret) in digests:
            return position
    return None


def read(header: bytes) -> tuple[bytes, set[bytes]] | None:
    """Return the time and the signatures in lower case, or None for a header of another form."""
    parts = split(header) if len(header) <= 4096 else None
    if parts is None:
        return None
    times = [value for name, value in parts if name == b"t"]
    digests = [value for name, value in parts if name == b"v1"]
    if len(times) != 1 or not is_time(times[0]) or not 1 <= len(digests) <= 16:
        return None
    if not all(len(digest) == 64 and set(digest) <= set(HEX) for digest in digests):
        return None
    return times[0], {digest.lower() for digest in digests}


def split(header: bytes) -> list[tuple[bytes, bytes]] | None:
    """Return names and values, or None where a part has not exactly one equals sign."""
    parts: list[tuple[bytearray, bytearray]] = [(bytearray(), bytearray())]
    equals = 0
    for byte in header:
        if byte == COMMA:
            if equals != 1:
                return None
            parts.append((bytearray(), bytearray()))
            equals = 0
        elif byte == EQUALS:
            equals += 1
        else:
            parts[-1][min(equals, 1)].append(byte)
    return [(bytes(name), bytes(value)) for name, value in parts] if equals == 1 else None


def is_time(value: bytes) -> bool:
    """Tell whether a value is one to twelve digits that do not begin with zero."""
    return 1 <= len(value) <= 12 and set(value) <= set(DIGITS) and value[:1] != b"0"


def is_text(body: bytes) -> bool:
    """Tell whether a body is UTF-8."""
    return body.decode("utf-8", "ignore").encode() == body


def digest_of(time: bytes, body: bytes, secret: str) -> bytes | None:
    """Return what a secret makes of a body at a time; a blank one, or one that is no text, none."""
    if not secret.strip(" \t\r\n\f\v") or not secret.isascii():
        return None
    return hmac.new(secret.encode(), time + b"." + body, hashlib.sha256).hexdigest().encode()
