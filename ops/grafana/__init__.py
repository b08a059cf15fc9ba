"""Grafana's dashboards, generated from a short description: `python -m ops.grafana` writes them."""
