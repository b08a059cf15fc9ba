"""Prometheus' rules as the repository has them, and which metrics a text speaks of."""

import re
from typing import Any

import yaml

from ops.catalogue import catalogue
from support.locks import ROOT

FOLDER = ROOT / "ops" / "prometheus"
FILES = sorted(FOLDER.glob("rules/*.yml"))
GROUPS: list[Any] = [
    group for file in FILES for group in yaml.safe_load(file.read_text())["groups"]
]
RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
FOREIGN = {
    "up",
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
}
"""What Prometheus and its client export by themselves."""
KNOWN = {name for entry in catalogue() for name in entry.series()} | RECORDED | FOREIGN


def metrics_of(text: str) -> set[str]:
    """Return the names of metrics in an expression or a text."""
    names = re.findall(r"\b(?:[a-z]+:)?(?:hookline_[a-z_]+)(?::[a-z0-9_]+)?", text)
    names += re.findall(r"\bhookline:[a-z_]+:[a-z0-9_]+", text)
    return set(names) | set(re.findall(r"\b(?:up|process_[a-z_]+)\b(?=[{\[])", text))
