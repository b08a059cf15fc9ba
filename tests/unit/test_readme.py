"""The README says what the code does: generated tables are fresh, closed lists are complete."""

import re
from pathlib import Path

import pytest

from consumer.billing.handlers import NoFact
from consumer.billing.outcome import Unchanged
from consumer.storage.dead_letters import Reason
from ops.options import render_label_values, render_metrics, render_options

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("options", render_options()),
        ("metrics", render_metrics()),
        ("labels", render_label_values()),
    ],
)
def test_generated_tables_are_fresh(name: str, expected: str) -> None:
    """A table in the README equals what the code would generate now."""
    found = re.search(rf"<!-- {name} -->\n(.*)\n<!-- /{name} -->", README, re.DOTALL)
    assert found is not None
    assert found.group(1) == expected


@pytest.mark.parametrize("reason", [*Unchanged, *NoFact, *Reason])
def test_every_reason_is_explained(reason: str) -> None:
    """Each reason that can stand in a row has its sentence."""
    assert f"| `{reason}` |" in README


def test_links_lead_somewhere() -> None:
    """Each relative link of the README names a file or folder."""
    root = Path(__file__).parents[2]
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert targets
    assert [target for target in targets if not (root / target).exists()] == []
