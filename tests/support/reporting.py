"""What a long run prints around its tests: the seed, how to replay a failure, what was seen."""

from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import pytest
from rich.console import Console
from rich.table import Table

from support.proving import PROVING, SEED, TARGET, Proof


@dataclass
class Shown:
    """One test, in all its variants, as the summary shows it."""

    truth: str
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    broken: int = 0


_proofs: dict[str, Proof] = {}
_shown: dict[str, Shown] = {}
_console = Console(stderr=True, highlight=False)


@pytest.fixture
def proof(request: pytest.FixtureRequest) -> Iterator[Proof]:
    """Provide a test's chance, its progress bar and its counts."""
    found = _proofs[request.node.nodeid] = Proof(
        request.node.name.removeprefix("test_").replace("_", " ")
    )
    yield found
    found.close()


def pytest_sessionstart() -> None:
    """Say with which seed this run begins, before anything can go wrong."""
    if PROVING:
        _console.print(f"the same again: make {TARGET} SEED={SEED}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out of `make test` what only a long run looks at."""
    left_out = [] if PROVING else [item for item in items if item.get_closest_marker("long_run")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note what a test saw, and say beside its failure how to see that again."""
    report = yield
    if PROVING and isinstance(item, pytest.Function):
        if report.failed:
            line = f"make {TARGET} SEED={SEED} ARGS='-k {item.originalname}'"
            report.sections.append(("the same again", line))
        if call.when == "call" and not report.skipped:
            _note(item, report)
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Print no dot for what holds: its bar stands there."""
    if PROVING and report.passed and report.when == "call":
        return report.outcome, "", "PASSED"
    return None


def pytest_terminal_summary() -> None:
    """Print what was looked at, to be quoted."""
    if not _shown:
        return
    table = Table("what holds", "looked at", "mismatches", "seconds", show_lines=True)
    for shown in _shown.values():
        seen = "\n".join(
            f"{count:,} {what.replace('_', ' ')}" for what, count in shown.counts.items()
        )
        found = f"{shown.broken} failed" if shown.broken else "0"
        table.add_row(shown.truth, seen, found, f"{shown.seconds:.1f}")
    _console.print(table)
    _console.print(f"the same again: make {TARGET} SEED={SEED}")


def _note(item: pytest.Function, report: pytest.TestReport) -> None:
    truth = (item.obj.__doc__ or item.name).splitlines()[0]
    shown = _shown.setdefault(item.nodeid.partition("[")[0], Shown(truth))
    proof = _proofs.get(item.nodeid)
    shown.counts.update(proof.counts if proof else {"cases": 1})
    shown.seconds += report.duration
    shown.broken += report.failed
