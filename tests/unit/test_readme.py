"""The pages say what the code does: generated tables are fresh, closed lists are complete."""

import json
import re
from pathlib import Path

import pytest

from consumer.billing.handlers import NoFact
from consumer.billing.outcome import Unchanged
from consumer.storage.dead_letters import Reason
from ops.bench import results, sizing
from ops.options import render_label_values, render_metrics, render_options

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
MEASURED = ROOT / "ops" / "bench" / "measured.json"
METRICS = ROOT / "ops" / "prometheus" / "metrics.md"
PAGES = [README, METRICS, ROOT / "ops" / "commands.md", ROOT / "tests" / "README.md"]


@pytest.mark.parametrize(
    ("page", "name", "expected"),
    [
        (README, "options", render_options()),
        (README, "measured", results.render(json.loads(MEASURED.read_text()))),
        (README, "sizing", sizing.render(json.loads(MEASURED.read_text()))),
        (METRICS, "metrics", render_metrics()),
        (METRICS, "labels", render_label_values()),
    ],
)
def test_generated_tables_are_fresh(page: Path, name: str, expected: str) -> None:
    """A table in a page equals what the code would generate now."""
    found = re.search(rf"<!-- {name} -->\n(.*)\n<!-- /{name} -->", page.read_text(), re.DOTALL)
    assert found is not None
    assert found.group(1) == expected


@pytest.mark.parametrize("reason", [*Unchanged, *NoFact, *Reason])
def test_every_reason_is_explained(reason: str) -> None:
    """Each reason that can stand in a row has its sentence."""
    assert f"| `{reason}` |" in README.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link of a page names a file or folder."""
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text())
    assert targets
    assert [target for target in targets if not (page.parent / target).exists()] == []
