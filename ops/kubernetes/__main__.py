"""Write what is made from Prometheus' rules and Grafana's dashboards."""

from ops.kubernetes.generated import OPS, generate

for path, content in generate().items():
    (OPS / path).write_text(content)
