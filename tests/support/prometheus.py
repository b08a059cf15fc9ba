"""A real Prometheus with the rules of the repository, asked over its own API."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import yaml

from ops.embedded.ports import free_ports
from support.locks import ROOT
from support.polling import eventually
from support.programs import find_program

CONFIG = ROOT / "ops" / "prometheus" / "prometheus.yml"


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    url: str

    def query(self, expr: str) -> list[Any]:
        """Return what an expression gives now; fails where it does not parse."""
        return list(self._ask("query", query=expr)["result"])

    def alerts(self, state: str) -> set[str]:
        """Return the names of the alerts that are `firing` or `pending`."""
        found = self._ask("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in found if alert["state"] == state}

    def summaries(self) -> dict[str, str]:
        """Return what firing alerts say."""
        found = self._ask("alerts")["alerts"]
        return {
            alert["labels"]["alertname"]: alert["annotations"]["summary"]
            for alert in found
            if alert["state"] == "firing"
        }

    def problems(self) -> list[str]:
        """Return what went wrong with rules and targets."""
        rules = [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]
        targets = self._ask("targets")["activeTargets"]
        errors = [rule["lastError"] for rule in rules if rule.get("lastError")]
        return errors + [target["lastError"] for target in targets if target["lastError"]]

    def _ask(self, what: str, **parameters: str) -> Any:
        found = httpx.get(f"{self.url}/api/v1/{what}", params=parameters)
        assert found.status_code == httpx.codes.OK, found.text
        return found.json()["data"]


@contextmanager
def prometheus(
    folder: Path, targets: Mapping[str, Sequence[int]], interval: str | None = None
) -> Iterator[Prometheus]:
    """Run a Prometheus on admin ports by job; `interval` other than that of the repository."""
    config = yaml.safe_load(CONFIG.read_text())
    if interval is not None:
        config["global"] = {
            "scrape_interval": interval,
            "scrape_timeout": interval,
            "evaluation_interval": interval,
        }
    config["rule_files"] = [str(CONFIG.parent / pattern) for pattern in config["rule_files"]]
    config["scrape_configs"] = [
        {
            "job_name": job["job_name"],
            "static_configs": [{"targets": [f"127.0.0.1:{p}" for p in targets[job["job_name"]]]}],
        }
        for job in config["scrape_configs"]
    ]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(  # noqa: S603 - found by ourselves
            [
                find_program("prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
        running = Prometheus(f"http://127.0.0.1:{port}")
        try:
            eventually(lambda: _is_ready(running.url), 60, "Prometheus being ready")
            yield running
        finally:
            process.terminate()
            process.wait(30)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
