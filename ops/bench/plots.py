"""The outcome as pictures: `python -m ops.bench.plots FILE FOLDER` draws what `--json` wrote.

Needs matplotlib, which `hookline[bench]` installs.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from textwrap import fill
from typing import Any

from ops.usage import UsageError

MISSING = "plots need matplotlib: pip install 'hookline[bench]'"
INK, GOOD, BAD, FAINT = "#222222", "#2a7f62", "#b3392f", "#9a9a9a"
WIDTH, HEIGHT, DPI = 8.0, 4.2, 120
LABEL = 44
"""Characters of a line beside an axis."""


def draw(document: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw every picture that the document has the samples for; returns the files.

    Raises UsageError without matplotlib.
    """
    pyplot = _load()
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, make in (("ratios", _ratios), ("drain", _drain), ("delays", _delays)):
        figure, axes = pyplot.subplots(figsize=(WIDTH, HEIGHT), dpi=DPI, layout="constrained")
        if make(axes, document):
            path = folder / f"{name}.png"
            # No date or version inside, so that the same samples give the same bytes.
            figure.savefig(path, metadata={"Software": None})
            drawn.append(path)
        pyplot.close(figure)
    return drawn


def require_library() -> None:
    """Raise UsageError if nothing could be drawn in the end."""
    if find_spec("matplotlib") is None:
        raise UsageError(MISSING)


def _load() -> Any:
    require_library()
    import matplotlib as mpl  # noqa: PLC0415 - an extra

    mpl.use("agg")
    mpl.rcParams.update(
        {
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": FAINT,
            "axes.labelcolor": INK,
            "font.size": 9,
            "text.color": INK,
        }
    )
    from matplotlib import pyplot as plt  # noqa: PLC0415 - same

    return plt


def _ratios(axes: Any, document: Mapping[str, Any]) -> bool:
    """Every ratio as a multiple of its bar: right of the line is better than the bar."""
    shown = [one for one in document["scenarios"] if one["bar"] and one["ratio"]]
    for row, one in enumerate(reversed(shown)):
        values = [_against_bar(one, value) for value in one["rounds"]]
        median = _against_bar(one, one["ratio"])
        colour = GOOD if one["meets_bar"] else BAD
        axes.plot([min(values), max(values)], [row, row], color=colour, linewidth=3, alpha=0.35)
        axes.plot(values, [row] * len(values), "|", color=colour, markersize=7)
        axes.plot([median], [row], "o", color=colour)
        axes.plot([_against_bar(one, one["aim"])], [row], marker="D", color=FAINT, markersize=4)
        axes.annotate(f"{one['ratio']:.3g}", (median, row + 0.2), ha="center", fontsize=8)
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks([0.25, 0.5, 1, 2, 4], ["¼", "½", "bar", "twice", "4 times"])
    axes.minorticks_off()
    axes.set_yticks(
        range(len(shown)),
        [f"{fill(one['says'], LABEL)}\n({one['id']})" for one in reversed(shown)],
        fontsize=7,
    )
    axes.figure.set_size_inches(WIDTH, 1.2 + 0.5 * len(shown))
    axes.set_xlabel("multiples of the bar, right is better; tick: a round, diamond: the aim", x=0.3)
    axes.set_title("each ratio against its bar", loc="left")
    return bool(shown)


def _against_bar(one: Mapping[str, Any], value: float) -> float:
    return float(one["bar"] / value if one["lower_is_better"] else value / one["bar"])


def _drain(axes: Any, document: Mapping[str, Any]) -> bool:
    """Events applied over time: hookline and one event per transaction."""
    drawn = False
    for arm, samples in _arms(document, "b").items():
        for sample in samples:
            curve = sample["raw"].get("curve", [])
            ours = arm.startswith("hookline")
            axes.plot(
                [at for at, _ in curve],
                [events for _, events in curve],
                color=GOOD if ours else BAD,
                alpha=0.7,
                label=arm,
            )
            drawn = True
    _legend_once(axes)
    axes.set_xlabel("seconds since the first commit")
    axes.set_ylabel("events committed")
    axes.set_title("a backlog, applied", loc="left")
    return drawn


def _delays(axes: Any, document: Mapping[str, Any]) -> bool:
    """How many of the events were committed within a time, at each rate."""
    found = {
        arm: sorted(delay for sample in samples for delay in sample["raw"].get("delays", []))
        for arm, samples in _arms(document, "k").items()
    }
    shown = {arm: delays for arm, delays in found.items() if delays}
    for arm, delays in shown.items():
        step = max(len(delays) // 500, 1)
        shares = [number / len(delays) for number in range(len(delays))]
        style = "--" if arm.startswith("loop") else "-"
        axes.plot([d * 1000 for d in delays[::step]], shares[::step], style, label=arm)
    if shown:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds from receipt to commit")
    axes.set_ylabel("share of the events")
    axes.set_title("from receipt to commit", loc="left")
    return bool(shown)


def _arms(document: Mapping[str, Any], scenario: str) -> dict[str, list[dict[str, Any]]]:
    """Return the samples of each arm of a scenario that count."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in document["samples"].get(scenario, {}).get("rounds", []):
        for arm, sample in one.items():
            if sample["counts"]:
                found.setdefault(arm, []).append(sample)
    return found


def _legend_once(axes: Any) -> None:
    """Name each line style once, however many rounds there were."""
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    if unique:
        axes.legend(unique.values(), unique.keys(), frameon=False)


def main(arguments: Sequence[str]) -> None:
    """Draw a document that was written before."""
    document, folder = arguments
    for path in draw(json.loads(Path(document).read_text(encoding="utf-8")), Path(folder)):
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
