"""Prometheus' rules: each alert fires with its words when it should, not before, not besides."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.core import TyperGroup
from typer.main import get_command

from ops.catalogue import catalogue
from ops.cli import app
from support.alert_cases import CASES, EXEMPT, FIRING, NOT_YET, Case
from support.programs import find_program
from support.rules import ALERTS, FILES, FOLDER, GROUPS, KNOWN, RECORDED, RULES, metrics_of

ROOT = Path(__file__).parents[2]
RUNBOOKS = ROOT / "ops" / "runbooks"


def promtool(*arguments: str | Path) -> str:
    """Run promtool and return what it said; fails where it is not content."""
    found = subprocess.run(  # noqa: S603 - found by ourselves
        [find_program("promtool"), *arguments], capture_output=True, check=False, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_prometheus_takes_the_configuration() -> None:
    """Scrape jobs and all rule files it names."""
    said = promtool("check", "config", FOLDER / "prometheus.yml")
    assert f"{len(FILES)} rule files found" in said


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_its_cases(alert: str) -> None:
    """Firing, not yet, and exempt."""
    assert {case.kind for case in CASES if case.alert == alert} == {FIRING, NOT_YET, EXEMPT}


@pytest.mark.parametrize("step", sorted({case.step for case in CASES}))
def test_alerts_fire_when_they_should(step: str, tmp_path: Path) -> None:
    """Each case of support/alert_cases.py, by Prometheus' own rule engine."""
    file = tmp_path / "alerts.test.yml"
    document = {
        "rule_files": list(map(str, FILES)),
        "evaluation_interval": step,
        # Rules that ask for others come after them.
        "group_eval_order": sorted((g["name"] for g in GROUPS), key=_has_alerts),
        "tests": _tests(step),
    }
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    promtool("test", "rules", file)


def _has_alerts(group: str) -> bool:
    return any("alert" in rule for g in GROUPS if g["name"] == group for rule in g["rules"])


def _tests(step: str) -> list[dict[str, Any]]:
    """Return promtool's tests, one for all cases on the same series: each takes a while."""
    same: dict[tuple[tuple[str, str], ...], list[Case]] = {}
    for case in CASES:
        if case.step == step:
            same.setdefault(tuple(case.series.items()), []).append(case)
    return [
        {
            "name": "; ".join(f"{case.alert}, {case.kind}: {case.why}" for case in cases),
            "interval": step,
            "input_series": [{"series": name, "values": values} for name, values in series],
            "alert_rule_test": [_expected(case) for case in cases],
        }
        for series, cases in same.items()
    ]


def _expected(case: Case) -> dict[str, Any]:
    rule = ALERTS[case.alert]
    fires = {
        "exp_labels": rule["labels"] | case.labels,
        "exp_annotations": rule["annotations"] | {"summary": case.words},
    }
    return {
        "eval_time": case.at,
        "alertname": case.alert,
        "exp_alerts": [fires] if case.kind == FIRING else [],
    }


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_to_do(alert: str) -> None:
    """It waits, is a page or a ticket, tells its value, and leads to its runbook."""
    rule = ALERTS[alert]
    assert rule["for"]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert "$value" in rule["annotations"]["summary"]
    assert (ROOT / rule["annotations"]["runbook"]) == RUNBOOKS / f"{alert}.md"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("record") or rule["alert"])
def test_a_rule_asks_for_what_there_is(rule: dict[str, Any]) -> None:
    """Every metric of an expression is in the catalogue, recorded, or Prometheus' own."""
    assert metrics_of(rule["expr"]) <= KNOWN


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_a_recorded_name_tells_level_and_operation(name: str) -> None:
    """level:metric:operation, as Prometheus' own page on naming has it."""
    assert re.fullmatch(r"(job|partition|hookline):[a-z_]+:[a-z0-9_]+", name)


HEADINGS = ["Meaning", "Impact", "First command", "Usual causes", "Over when"]


def test_alerts_and_runbooks_belong_together() -> None:
    """One page for each alert, and no page for none."""
    assert {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"} == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_the_readme_lists_every_alert(alert: str) -> None:
    """With its page, its severity and how long it waits."""
    rule = ALERTS[alert]
    row = f"| [{alert}](ops/runbooks/{alert}.md) | {rule['labels']['severity']} | {rule['for']} |"
    assert row in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("alert", ALERTS)
def test_a_runbook_answers_five_questions(alert: str) -> None:
    """Meaning, impact, first command, usual causes, how to see that it is over; the same facts."""
    text = (RUNBOOKS / f"{alert}.md").read_text()
    assert text.startswith(f"# {alert}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS
    rule = ALERTS[alert]
    assert f"{rule['labels']['severity']}, after {rule['for']}" in text
    first = text.split("## First command")[1].split("## ")[0]
    assert re.search(r"```sh\n.+?\n```", first, re.DOTALL)
    asked = {name for name in metrics_of(text) if not name.endswith("_")}  # as in grep hookline_a_
    assert asked <= KNOWN | {entry.name for entry in catalogue()}


@pytest.mark.parametrize("page", sorted(RUNBOOKS.glob("*.md")), ids=lambda page: page.stem)
def test_commands_of_a_runbook_exist(page: Path) -> None:
    """What somebody types at night is a command of hookline, with its options."""
    for line in re.findall(r"(?:`|^)hookline ([a-z][a-z -]+)", page.read_text(), re.MULTILINE):
        command: Any = get_command(app)
        for word in line.split():
            if word.startswith("--"):
                assert word in {name for option in command.params for name in option.opts}, line
            elif isinstance(command, TyperGroup):
                command = command.commands[word]
