"""Write the dashboards anew; a test compares what is committed with what this writes."""

from pathlib import Path

from ops.grafana.boards import BOARDS
from ops.grafana.render import render

FOLDER = Path(__file__).parent / "dashboards"

if __name__ == "__main__":
    for board in BOARDS:
        (FOLDER / f"{board.uid}.json").write_text(render(board))
