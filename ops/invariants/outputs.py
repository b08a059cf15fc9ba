"""I11: no input of a caller's causes a 5xx, and no output holds a secret."""

import re
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path

from ops.counting import count
from ops.invariants.subject import Finding, Looking, NotChecked, Subject

SHORTEST = 12
"""A shorter secret, as `hookline` for a password, is a word that an output may say."""

SPELLINGS = {
    "a signing secret of Stripe's": re.compile(rb"whsec_[A-Za-z0-9+/=_]{8}"),
    "a signature": re.compile(rb"v1=[0-9a-f]{64}"),
    "a password in a URL": re.compile(rb"[a-z]://[^/\s:@\"]*:[^/\s@\"*]+@"),
}


def check_outputs(subject: Subject) -> Looking:
    """Look through the answers that the sender got, and the files that hookline wrote."""
    looked = []
    if subject.statuses is not None:
        for status, times in sorted(subject.statuses.items()):
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in subject.excused:
                what = f"answered {status} {times} times while nothing was down"
                yield Finding("I11", "ingest", what)
        looked.append(count(sum(subject.statuses.values()), "answer"))
    if subject.outputs:
        for path in subject.outputs:
            for line, what in _find_secrets(path, subject.secrets):
                yield Finding("I11", f"{path.name}, line {line}", f"holds {what}")
        looked.append(count(len(subject.outputs), "file"))
    if not looked:
        raise NotChecked("neither answers of ingest nor files were given")
    return ", ".join(looked)


def _find_secrets(path: Path, secrets: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield the lines that hold a secret, and what kind it is; never the secret."""
    needles = [secret.encode() for secret in secrets if len(secret) >= SHORTEST]
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                for what, spelling in SPELLINGS.items():
                    if spelling.search(line):
                        yield number, what
                if any(needle in line for needle in needles):
                    yield number, "a configured secret"
    except OSError as error:
        raise NotChecked(f"{path} cannot be read: {error.strerror}") from None
