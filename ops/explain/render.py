"""An explanation on a terminal, made for 80 columns; plain text where the output is no terminal."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from consumer.billing.projection import Row
from consumer.recompute import Difference
from ops.explain.explanation import Comparison, Explanation, Standing
from ops.explain.timeline import Entry, Timeline
from ops.explain.words import day, duration, moment, status
from schemas.entitlement import Entitlement

INDENT = (0, 0, 0, 2)
PROMPT = timedelta(seconds=60)
"""A delivery that took no longer is nothing to look at."""


def render(console: Console, explanation: Explanation) -> None:
    """Print an explanation; where that is no terminal, without blanks at the end of lines."""
    if console.is_terminal:
        _print(console, explanation)
        return
    with console.capture() as capture:
        _print(console, explanation)
    for line in capture.get().splitlines():
        console.out(line.rstrip(), highlight=False)


def _print(console: Console, explanation: Explanation) -> None:
    console.print(_headline(explanation))
    for warning in explanation.warnings:
        console.print(Text(f"! {warning}", style="bold yellow"))
    if explanation.comparison is not None:
        left_out = ", ".join(explanation.comparison.events)
        _section(console, f"Without {left_out}", _comparison(explanation, explanation.comparison))
    if explanation.standings:
        deciding, *others = explanation.standings
        _section(console, "Why", _why(deciding))
        _section(console, "Next", (Text(one.sentence) for one in explanation.prospects))
        _section(console, "Other subscriptions", _others(others))
    _section(console, "Timeline", _timeline(explanation.timeline))


def _headline(explanation: Explanation) -> Text:
    answer = explanation.answer
    colour = "green" if answer.entitled else "red"
    if answer.entitled and answer.status == "past_due":
        colour = "yellow"
    text = Text(explanation.sentence, style=f"bold {colour}")
    if explanation.reference:
        text.append(f"\nReference: {explanation.reference}", style="not bold default")
    if explanation.facts_up_to is not None:
        told = f"\nTold by the events recorded and the facts up to {day(explanation.facts_up_to)}"
        text.append(f"{told}; the events before were removed.", style="not bold default")
    return text


def _section(console: Console, title: str, lines: Iterable[RenderableType]) -> None:
    found = list(lines)
    if found:
        console.print(Text(f"\n{title}", style="bold underline"))
        console.print(Padding(Group(*found), INDENT))


def _why(standing: Standing) -> Iterator[RenderableType]:
    yield Text.assemble(_name(standing), " decides.")
    yield Text(standing.sentence)
    yield _bullets(one.sentence for one in standing.grounds)


def _others(standings: Iterable[Standing]) -> Iterator[RenderableType]:
    for one in standings:
        yield _name(one)
        yield Padding(Text(one.sentence), INDENT)


def _name(standing: Standing) -> Text:
    one = standing.subscription
    return Text.assemble((one.subscription_id, "bold"), f" ({status(one.status)}, {one.tier})")


def _bullets(sentences: Iterable[str]) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0))
    for sentence in sentences:
        grid.add_row(Text("-"), Text(sentence))
    return grid


def _comparison(explanation: Explanation, comparison: Comparison) -> Iterator[RenderableType]:
    if not comparison.differences:
        yield Text("Nothing would differ.", style="bold")
        return
    old, new = _say_answer(explanation.answer), _say_answer(comparison.answer)
    same = f"The answer would be the same: {new}."
    other = f"The answer would be {new}, instead of {old}."
    yield Text(same if old == new else other, style="bold")
    for name, found in groupby(comparison.differences, key=lambda one: one.subscription_id):
        yield Text(name or "")
        moves = (_move(one) for one in found)
        yield Padding(Text("\n".join(moves)), INDENT)


def _say_answer(answer: Entitlement) -> str:
    return f"{answer.tier}, {'' if answer.entitled else 'not '}entitled"


def _timeline(timeline: Timeline) -> Iterator[RenderableType]:
    if timeline.entries:
        yield Text("by Stripe's time, UTC; # order of arrival, + what the way took", style="dim")
    names = {one.subscription_id for one in timeline.entries if one.subscription_id}
    for heading, entries in groupby(timeline.entries, key=lambda one: f"{one.at:%a %-d %b %Y}"):
        yield Text(f"\n{heading}", style="bold")
        grid = Table.grid(padding=(0, 2, 0, 0))
        for entry in entries:
            grid.add_row(
                Text(f"{entry.at:%H:%M:%S}"),
                Text(f"#{entry.arrival}" if entry.arrival else "", style="dim"),
                _delay(entry),
                _body(entry, name_subscription=len(names) > 1),
            )
        yield grid
    if timeline.later:
        yield Text(f"\n{timeline.later} later, not shown", style="dim")


def _delay(entry: Entry) -> Text:
    if entry.delay is None:
        return Text("")
    style = "yellow" if entry.delay > PROMPT else "dim"
    return Text(f"+{duration(max(entry.delay, timedelta()))}", style=style)


def _body(entry: Entry, *, name_subscription: bool) -> Text:
    quiet = entry.outcome in {"unchanged", "ignored"}
    failed = entry.outcome == "failed"
    body = Text(entry.title, style="red" if failed else "dim" if quiet else "bold")
    for mark, holds in (
        ("late", entry.late),
        ("same second", entry.same_second),
        ("left out", entry.left_out),
        ("FAILED", failed),
    ):
        if holds:
            body.append(f" [{mark}]", style="not dim not bold yellow")
    plain = "not bold default"
    if entry.event_id:
        body.append(f"\n{entry.event_id}", style="not bold dim")
    if name_subscription and entry.subscription_id:
        body.append(f" {entry.subscription_id}", style="not bold dim")
    if entry.told:
        body.append(f"\nsays: {entry.told}", style="dim" if quiet else plain)
    for change in entry.changes:
        body.append(f"\n> {change}", style="not bold not dim green")
    if entry.why:
        style = "not bold red" if failed else "not bold dim"
        body.append(f"\n{_outcome(entry)}: {entry.why}", style=style)
    return body


def _outcome(entry: Entry) -> str:
    if entry.outcome in {"failed", "applied"}:
        return {"failed": "set aside", "applied": "applied"}[entry.outcome]
    return "told nothing new" if entry.told else "no effect"


def _move(one: Difference) -> str:
    old, new = _plain(one.stored), _plain(one.recomputed)
    move = f"{old} -> {new}"
    return f"{one.field}: {status(move) if one.field == 'status' else move}"


def _plain(value: Any) -> str:
    if isinstance(value, Row):
        return f"{status(value.status)}, {value.tier}"
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return moment(value)
    return "none" if value is None else str(value)
