"""The guided fuzzer's targets without the fuzzer: samples pass, and a broken law is seen."""

import pytest

from fuzz import targets
from fuzz.mutations import BODIES
from fuzz.targets import SAMPLES, TARGETS, read_body, read_header, read_record_headers
from schemas.signature import Verified

CASES = [(name, sample) for name, samples in SAMPLES.items() for sample in samples]


@pytest.mark.parametrize(("name", "sample"), CASES)
def test_the_samples_pass(name: str, sample: bytes) -> None:
    """What the fuzzer begins with holds."""
    TARGETS[name](sample)


def test_a_verifier_that_takes_everything_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The header's target compares with a second opinion."""
    monkeypatch.setattr(targets, "verify", lambda *_: Verified(1, 0))
    read_header(SAMPLES["header"][0])
    with pytest.raises(AssertionError):
        read_header(b"")


def test_a_decoder_that_raises_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The targets of body and record let through what the consumer raises."""

    def stumble(_: object) -> None:
        raise OverflowError

    monkeypatch.setattr("consumer.decode.received_at", stumble)
    for read, sample in ((read_body, BODIES[1]), (read_record_headers, b"")):
        with pytest.raises(OverflowError):
            read(sample)
