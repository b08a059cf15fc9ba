"""Does the time of a refusal tell how much of a signature was right? Only in `make fuzz`."""

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import pytest

from fuzz.mutations import NOW
from fuzz.welch import Difference, tell_apart
from schemas.signature import sign, verify
from support.proving import Proof

SAMPLES = 200_000
BOUND = 4.5
SECRET = "whsec_fuzz_0123456789abcdef"
ROUND = 1_000
ALONE = 200
"""Comparisons in one sample where the comparison is measured without what is around it."""

Compare = Callable[[str, str], bool]


@pytest.fixture(autouse=True)
def _no_collection() -> Iterator[None]:
    """Keep the collector from running in the middle of a sample."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_right_prefix_takes_no_longer(proof: Proof) -> None:
    """All characters right but the last, or the first one wrong: the time does not tell."""
    found = measure(proof)
    assert found.t < BOUND, found


@pytest.mark.parametrize("right", [63, 32, 16, 8, 4, 2, 1])
def test_a_comparison_that_stops_early_is_seen(
    proof: Proof, monkeypatch: pytest.MonkeyPatch, right: int
) -> None:
    """Control: the same harness sees a loop that ends at the first difference."""
    monkeypatch.setattr("stripe._webhook.secure_compare", stop_early)
    found = measure(proof, right)
    proof.count(**{f"t_of_{right}_right_characters": round(found.t)})
    assert right < 16 or found.t > BOUND, found


def test_equality_of_texts_through_the_verifier(
    proof: Proof, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`==` in the verifier: its one step more for a right first half may drown in the rest."""
    monkeypatch.setattr("stripe._webhook.secure_compare", equal)
    proof.count(t_in_hundredths=round(100 * measure(proof).t))


def test_equality_of_texts_alone_is_seen(proof: Proof) -> None:
    """Control: 200 times `==` in a sample, with nothing around it, tells a right prefix."""
    found = tell_apart(list(samples_alone(proof, equal)))
    assert found.t > BOUND, found


def test_the_comparison_in_use_alone_is_not_seen(proof: Proof) -> None:
    """200 times the SDK's comparison in a sample, with nothing around it, tells nothing."""
    from stripe._util import secure_compare  # noqa: PLC0415 - what the SDK itself calls

    found = tell_apart(list(samples_alone(proof, secure_compare)))
    assert found.t < BOUND, found


def equal(one: str, other: str) -> bool:
    """Compare as a hurried programmer would."""
    return one == other


def stop_early(one: str, other: str) -> bool:
    """Compare character by character, up to the first that differs."""
    for left, right in zip(one, other, strict=True):  # noqa: SIM110 - it is to be slow
        if left != right:
            return False
    return True


def measure(proof: Proof, right: int = 63) -> Difference:
    """Time refusals with so many right characters against none, in turn by chance."""
    return tell_apart(list(samples_of_verify(proof, right)))


def samples_of_verify(proof: Proof, right: int) -> Iterator[tuple[int, bool]]:
    """Yield how long each refusal took, and whether its prefix was right."""
    for guesses in rounds(proof, SAMPLES, right):
        requests = [(f"t={NOW},v1={each.guessed}".encode(), each.body) for each in guesses]
        times = []
        for header, body in requests:
            began = time.perf_counter_ns()
            verify(header, body, [SECRET], NOW)
            times.append(time.perf_counter_ns() - began)
        yield from zip(times, (each.which for each in guesses), strict=True)


def samples_alone(proof: Proof, compare: Compare) -> Iterator[tuple[int, bool]]:
    """Yield how long comparisons took, without header, HMAC and exceptions around them."""
    repeats = range(ALONE)
    for guesses in rounds(proof, SAMPLES // 10, 63):
        times = []
        for each in guesses:
            known, guessed = each.known, each.guessed
            began = time.perf_counter_ns()
            for _ in repeats:
                compare(known, guessed)
            times.append(time.perf_counter_ns() - began)
        yield from zip(times, (each.which for each in guesses), strict=True)


@dataclass(frozen=True, slots=True)
class Guess:
    """A digest that a forger tries; `which` tells whether its beginning is right."""

    body: bytes
    known: str
    guessed: str
    which: bool


def rounds(proof: Proof, samples: int, right: int) -> Iterator[list[Guess]]:
    """Yield guesses, all of a round made before the first is timed.

    Otherwise what was done to make the next one, which depends on its class, would be timed too.
    """
    random = proof.random
    for _ in proof.track(range(samples // ROUND), samples // ROUND):
        yield [make_guess(right, random) for _ in range(ROUND)]
    proof.count(samples=samples)


def make_guess(right: int, random: Random) -> Guess:
    """Return a guess with so many right characters at its beginning, or with none.

    Made by the same steps in both classes, and each for a body of its own: of a digest that comes
    again and again the processor learns the beginning, and reads the header faster by it.
    """
    which = random.random() < 0.5
    body = b'{"id":"evt_%s"}' % random.randbytes(8).hex().encode()
    known = sign(body, SECRET, NOW).partition("v1=")[2]
    made = bytearray(known.encode())
    place = right if which else 0
    made[place] = ord(f"{int(known[place], 16) ^ random.randrange(1, 16):x}")
    return Guess(body, known, made.decode(), which)
