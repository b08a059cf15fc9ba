"""What Kubernetes is given of Prometheus' rules and Grafana's dashboards: the same, wrapped."""

from pathlib import Path

import yaml

OPS = Path(__file__).parents[1]
RULES = Path("prometheus") / "rules"
DASHBOARDS = Path("grafana") / "dashboards"
NOTE = "# Made by `python -m ops.kubernetes` from {}; change those.\n"


def generate() -> dict[str, str]:
    """Return the files that stand for rules and dashboards, by their paths below ops/."""
    return {
        "kubernetes/base/rules.yaml": NOTE.format("ops/prometheus/rules/") + _rules(),
        "grafana/kustomization.yaml": NOTE.format("ops/grafana/dashboards/") + _dashboards(),
    }


def _rules() -> str:
    groups = [
        group
        for path in sorted((OPS / RULES).glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
    ]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "hookline"},
        "spec": {"groups": groups},
    }
    return yaml.safe_dump(rule, sort_keys=False, width=1000)


def _dashboards() -> str:
    """Return a config map for each dashboard, labelled as Grafana's sidecar looks for them."""
    names = sorted(path.name for path in (OPS / DASHBOARDS).glob("*.json"))
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "generatorOptions": {
            "disableNameSuffixHash": True,
            "labels": {"grafana_dashboard": "1"},
        },
        "configMapGenerator": [
            {"name": f"dashboard-{Path(name).stem}", "files": [f"dashboards/{name}"]}
            for name in names
        ],
    }
    return yaml.safe_dump(kustomization, sort_keys=False)
