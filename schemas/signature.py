"""Stripe's signature over a body: verified, or refused for a reason; pure.

May live here: the header's grammar, the window, the comparison. May not: a clock, a secret's
origin, a log. Total: every input is accepted or refused, nothing raises.

The grammar works on bytes and is stricter than the SDK's (one `t`, no sign, no leading zero, no
second `=`, bounded), and the window has two sides. The comparison itself is the Stripe SDK's, in
constant time, on a header rebuilt from what our parser read; that of a record, which the SDK let
in, is the same digest in one call, at a fifth of the SDK's time.
https://docs.stripe.com/webhooks#verify-manually
"""

import hmac
import re
from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec
from stripe import SignatureVerificationError, WebhookSignature

TOLERANCE_SECONDS = 300
MAX_HEADER = 4096
MAX_SIGNATURES = 16

Body = bytes | bytearray

_TIMESTAMP = re.compile(rb"[1-9][0-9]{0,11}")
_SIGNATURE = re.compile(rb"[0-9a-fA-F]{64}")
_USUAL = re.compile(rb"t=(%b),v1=(%b)" % (_TIMESTAMP.pattern, _SIGNATURE.pattern))
"""What Stripe sends while one secret is in use: read in one go, by the same grammar."""


class RefusalReason(StrEnum):
    """Why a signature was refused; a label of the metric, never told to the caller."""

    MISSING = "missing_signature"
    TOO_LONG = "header_too_long"
    MALFORMED = "malformed_header"
    TOO_MANY = "too_many_signatures"
    NO_SIGNATURE = "no_v1_signature"
    TOO_OLD = "too_old"
    TOO_NEW = "too_new"
    NOT_UTF8 = "body_not_utf8"
    WRONG = "wrong_signature"


class Verified(msgspec.Struct, frozen=True):
    """The body is Stripe's; `position` (from 1) is the secret that matched."""

    position: int
    timestamp: int


class Refused(msgspec.Struct, frozen=True):
    """The body is not known to be Stripe's."""

    reason: RefusalReason


class _Header(msgspec.Struct, frozen=True):
    timestamp: int
    signatures: tuple[str, ...]


def verify(
    header: bytes | None, body: Body, secrets: Sequence[str], now: float
) -> Verified | Refused:
    """Verify a body that arrives at `now` (Unix seconds): its stamp lies within 300 s of it."""
    parsed = _parse(header)
    if isinstance(parsed, Refused):
        return parsed
    if parsed.timestamp < now - TOLERANCE_SECONDS:
        return Refused(RefusalReason.TOO_OLD)
    if parsed.timestamp > now + TOLERANCE_SECONDS:
        return Refused(RefusalReason.TOO_NEW)
    return _compare(parsed, body, secrets, _matches_by_sdk)


def verify_recorded(header: bytes | None, body: Body, secrets: Sequence[str]) -> Verified | Refused:
    """Verify a body that ingest has let in before, whatever its age; refuses what verify does."""
    parsed = _parse(header)
    if isinstance(parsed, Refused):
        return parsed
    return _compare(parsed, body, secrets, _matches_by_digest)


def sign(body: bytes, secret: str, timestamp: int) -> str:
    """Return the header that Stripe would send with this body at `timestamp`."""
    return f"t={timestamp},v1={_digest(body, secret, timestamp)}"


def _parse(header: bytes | None) -> _Header | Refused:
    if not header:
        return Refused(RefusalReason.MISSING)
    if len(header) > MAX_HEADER:
        return Refused(RefusalReason.TOO_LONG)
    if usual := _USUAL.fullmatch(header):
        return _Header(int(usual[1]), (usual[2].decode("ascii").lower(),))
    parts = [part.partition(b"=") for part in header.split(b",")]
    if not all(found and b"=" not in value for _, found, value in parts):
        return Refused(RefusalReason.MALFORMED)
    timestamps = [value for scheme, _, value in parts if scheme == b"t"]
    if len(timestamps) != 1 or not _TIMESTAMP.fullmatch(timestamps[0]):
        return Refused(RefusalReason.MALFORMED)
    return _read_signatures(
        int(timestamps[0]), [value for scheme, _, value in parts if scheme == b"v1"]
    )


def _read_signatures(timestamp: int, signatures: list[bytes]) -> _Header | Refused:
    if not signatures:
        return Refused(RefusalReason.NO_SIGNATURE)
    if len(signatures) > MAX_SIGNATURES:
        return Refused(RefusalReason.TOO_MANY)
    if not all(map(_SIGNATURE.fullmatch, signatures)):
        return Refused(RefusalReason.MALFORMED)
    return _Header(timestamp, tuple(signature.decode("ascii").lower() for signature in signatures))


def _compare(
    header: _Header,
    body: Body,
    secrets: Sequence[str],
    matches: Callable[[Body, str, int, str], bool],
) -> Verified | Refused:
    """Try every secret with every signature: stopping early would tell which one matched."""
    if not _is_utf8(body):
        return Refused(RefusalReason.NOT_UTF8)
    matched = [
        position
        for position, secret in enumerate(secrets, 1)
        for signature in header.signatures
        if matches(body, secret, header.timestamp, signature)
    ]
    return Verified(matched[0], header.timestamp) if matched else Refused(RefusalReason.WRONG)


def _matches_by_sdk(body: Body, secret: str, timestamp: int, signature: str) -> bool:
    header = f"t={timestamp},v1={signature}"
    try:
        return bool(WebhookSignature.verify_header(body, header, secret, tolerance=None))
    except (SignatureVerificationError, UnicodeEncodeError):
        # A secret that is no text (a lone surrogate in it) has signed nothing.
        return False


def _matches_by_digest(body: Body, secret: str, timestamp: int, signature: str) -> bool:
    if not secret.strip(" \t\r\n\f\v"):  # as the SDK does
        return False
    try:
        return hmac.compare_digest(_digest(body, secret, timestamp), signature)
    except UnicodeEncodeError:
        return False


def _digest(body: Body, secret: str, timestamp: int) -> str:
    return hmac.digest(secret.encode(), b"%d." % timestamp + body, "sha256").hex()


def _is_utf8(body: Body) -> bool:
    try:
        return body.isascii() or bool(body.decode("utf-8"))
    except UnicodeDecodeError:
        return False
