"""Requests that are nearly Stripe's, by the million: none is taken that Stripe has not signed."""

import asyncio
from collections import Counter
from random import Random
from types import SimpleNamespace

import pytest
from stripe import SignatureVerificationError, WebhookSignature

from fuzz.mutations import BODIES, NOW, SECRETS, attempt
from fuzz.oracle import matching_secret
from schemas.signature import Verified, sign, verify, verify_recorded
from support.door import Door, without_log
from support.proving import Proof, examples


def test_nothing_forged_is_accepted(proof: Proof) -> None:
    """Whatever is done to a signed request, it is taken exactly if a second reading takes it."""
    random, mutations = proof.random, examples(1_000_000, 20_000)
    seen: Counter[str] = Counter()
    for _ in proof.track(range(mutations), mutations):
        it = attempt(random)
        verdict = verify(it.header, it.body, it.secrets, it.now)
        position = verdict.position if isinstance(verdict, Verified) else None
        assert position == matching_secret(it.header, it.body, it.secrets, it.now), it
        seen["still signed" if isinstance(verdict, Verified) else verdict.reason] += 1
    proof.count(mutated_requests=mutations, **seen)
    assert min(seen[reason] for reason in ("still signed", "wrong_signature", "too_new")) > 100


def test_no_stranger_causes_a_server_error(proof: Proof) -> None:
    """Through the app: 400 for what is forged or no event, 200 with its record for the rest."""
    requests = examples(200_000, 3_000)
    with without_log():
        seen = asyncio.run(answer_all(proof, requests))
    proof.count(requests_through_the_app=requests, **seen)
    assert set(seen) == {"accepted", "invalid_signature", "invalid_payload"}


async def answer_all(proof: Proof, requests: int) -> Counter[str]:
    """Send mutated requests to one door; returns how often it gave which answer."""
    random, door = proof.random, Door([], NOW)
    seen: Counter[str] = Counter()
    for _ in proof.track(range(requests), requests):
        it = attempt(random)
        door.secrets, door.now = it.secrets, it.now
        status, document = await door.send(it.body, it.header)
        signed = matching_secret(it.header, it.body, it.secrets, it.now) is not None
        assert status == (200 if "status" in document else 400), (it, document)
        assert signed or status == 400, (it, document)
        assert not signed or document.get("error") != "invalid_signature", (it, document)
        published = [envelope.body for envelope in door.publisher.published]
        assert published == ([it.body] if status == 200 else []), it
        door.publisher.published.clear()
        seen[document.get("status") or document["error"]] += 1
    return seen


def test_the_sdk_and_we_agree_on_what_stripe_writes(
    proof: Proof, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A header as Stripe writes it, right or wrong, fresh or stale, has the SDK's own verdict.

    What was let in verifies in the record as it did on the day of its stamp.
    """
    monkeypatch.setattr("stripe._webhook.time", SimpleNamespace(time=lambda: float(NOW)))
    random, headers = proof.random, examples(200_000, 5_000)
    accepted = 0
    for _ in proof.track(range(headers), headers):
        header, content, secret = canonical(random)
        ours = isinstance(verify(header.encode(), content, [secret], NOW), Verified)
        assert ours == accepted_by_sdk(header, content, secret), (header, content, secret)
        stamp = int(header.partition(",")[0].removeprefix("t="))
        recorded = verify_recorded(header.encode(), content, [secret])
        assert recorded == verify(header.encode(), content, [secret], stamp), (header, content)
        accepted += ours
    proof.count(canonical_headers=headers, accepted_by_both=accepted)
    assert headers / 4 < accepted < headers * 3 / 4


def canonical(random: Random) -> tuple[str, bytes, str]:
    """Return a header of Stripe's form with a body and a secret it may not belong to."""
    content, secret = random.choice(BODIES), random.choice(SECRETS)
    signed = content if random.random() < 0.8 else random.choice(BODIES)
    signer = secret if random.random() < 0.8 else random.choice(SECRETS)
    stamp = NOW + random.choice((0, 0, 300, -299, -300, -301, -400, -86_400))
    header, *others = sign(signed, signer, stamp), sign(signed, random.choice(SECRETS), stamp)
    parts = [*header.split(","), *(other.partition(",")[2] for other in others)]
    wanted = parts[: random.choice((2, 2, 3))]
    schemes = random.choice(([], [], [f"v0={random.randbytes(32).hex()}"]))
    signatures = random.sample(wanted[1:], len(wanted) - 1)
    return ",".join([parts[0], *signatures, *schemes]), content, secret


def accepted_by_sdk(header: str, content: bytes, secret: str) -> bool:
    """Ask the SDK as its documentation shows."""
    try:
        return bool(WebhookSignature.verify_header(content, header, secret, tolerance=300))
    except SignatureVerificationError:
        return False
