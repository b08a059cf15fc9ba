"""Dead letters in words, safe to print: nothing of a record reaches a terminal as it came; pure."""

from collections.abc import Mapping

from consumer.storage.dead_letters import Reason
from ops.explain.words import WHY_NOTHING
from ops.usage import UsageError

WHAT_TO_DO: Mapping[Reason, str] = {
    Reason.HANDLER: "Replay it with a version that has no such fault.",
    Reason.DATA: "Replay it once PostgreSQL takes what it holds.",
    Reason.UNDECODABLE: "A replay helps only with a version that reads it.",
    Reason.UNSIGNED: "A replay helps only while HOOKLINE_WEBHOOK_SECRETS or "
    "HOOKLINE_RETIRED_SECRETS names the secret that it was signed with.",
}


def explain(reason: str) -> str:
    """Say what a reason means and what can be done, in two sentences."""
    why = WHY_NOTHING[reason]
    return f"{why[0].upper()}{why[1:]}. {WHAT_TO_DO[Reason(reason)]}"


def read_reason(text: str | None) -> Reason | None:
    """Read `--reason`; raises UsageError for what is none."""
    try:
        return None if text is None else Reason(text)
    except ValueError:
        known = ", ".join(Reason)
        raise UsageError(f"--reason {visible(text or '')}: give one of {known}") from None


def visible(text: str) -> str:
    """Spell out what a terminal would obey or hide: control characters, directions, surrogates."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def by_reason(counts: Mapping[str, int]) -> str:
    """Say how many of each reason, the most first."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{number:,} {reason}" for reason, number in ordered)
