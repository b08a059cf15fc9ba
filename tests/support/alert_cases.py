"""Every alert on series made by hand: when it fires and with which words, not yet, and never.

Series are written as promtool reads them: `0+6x9` is 0, 6, 12 … nine times more, one value each
`step`. A case without words must not have its alert firing at that time.
"""

from dataclasses import dataclass, field

FIRING, NOT_YET, EXEMPT = "firing", "not yet", "exempt"


@dataclass(frozen=True)
class Case:
    """One alert at one time; `words` is the summary when it fires, `labels` what it carries."""

    alert: str
    kind: str
    why: str
    series: dict[str, str]
    at: str
    words: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    step: str = "1m"


CONSUMER = 'job="consumer",instance="c1"'
OTHER_CONSUMER = 'job="consumer",instance="c2"'
UP = {f'up{{job="{job}",instance="1"}}': "1x30" for job in ("ingest", "consumer", "gatekeeper")}


def requests(ok: str, failed: str) -> dict[str, str]:
    """Return ingest's requests, answered 200 and 503."""
    return {
        'hookline_ingest_requests_total{job="ingest",answer="200",reason="accepted"}': ok,
        'hookline_ingest_requests_total{job="ingest",answer="503",reason="not_delivered"}': failed,
    }


def answers(ok: str, failed: str) -> dict[str, str]:
    """Return the gatekeeper's answers, 200 and 503."""
    name = "hookline_gatekeeper_answers_total"
    return {
        f'{name}{{job="gatekeeper",answer="200",source="cache"}}': ok,
        f'{name}{{job="gatekeeper",answer="503",source="database"}}': failed,
    }


def delays(all_: str, in_time: str) -> dict[str, str]:
    """Return how many events were applied, and how many of them within 10 s."""
    name = "hookline_consumer_end_to_end_seconds"
    return {
        f"{name}_count{{{CONSUMER}}}": all_,
        f'{name}_bucket{{{CONSUMER},le="10.0"}}': in_time,
    }


def waiting(age: str, applied: str, stopped: str = "0x60", loop: str = "0x60") -> dict[str, str]:
    """Return how partition 3 stands at its consumer."""
    return {
        f'hookline_consumer_lag_seconds{{{CONSUMER},partition="3"}}': age,
        f'hookline_consumer_applied_records_total{{{CONSUMER},partition="3"}}': applied,
        f"hookline_consumer_stopped_partitions{{{CONSUMER}}}": stopped,
        f"hookline_consumer_loop_seconds{{{CONSUMER}}}": loop,
    }


def owners(first: int, second: int) -> dict[str, str]:
    """Return twelve partitions, and how many of them two consumers own."""
    return {
        'hookline_ingest_topic_partitions{job="ingest",instance="i"}': "12x10",
        f"hookline_consumer_partitions{{{CONSUMER}}}": f"{first}x10",
        f"hookline_consumer_partitions{{{OTHER_CONSUMER}}}": f"{second}x10",
    }


def signatures(matched: str, wrong: str) -> dict[str, str]:
    """Return signatures that matched the first secret, and such that matched none."""
    refused = 'hookline_ingest_requests_total{job="ingest",answer="400",reason="wrong_signature"}'
    return {
        'hookline_ingest_matched_secrets_total{job="ingest",position="1"}': matched,
        refused: wrong,
    }


def arrivals(last: str, matched: str) -> dict[str, str]:
    """Return when Stripe last sent something, and how much it sent."""
    return {
        'hookline_ingest_last_event_timestamp_seconds{job="ingest",instance="i"}': last,
        'hookline_ingest_matched_secrets_total{job="ingest",instance="i",position="1"}': matched,
    }


def breakers(first: str, second: str) -> dict[str, str]:
    """Return whether two consumers leave Redis alone."""
    return {
        f"hookline_redis_breaker_open{{{CONSUMER}}}": first,
        f"hookline_redis_breaker_open{{{OTHER_CONSUMER}}}": second,
    }


def differences(count: str) -> dict[str, str]:
    """Return how many answers of the cache were found to differ."""
    return {'hookline_gatekeeper_cache_differences_total{job="gatekeeper",instance="g"}': count}


def overdue(age: str, breaker: str) -> dict[str, str]:
    """Return how long entries wait to be dropped, and whether Redis is left alone."""
    return {
        f"hookline_consumer_invalidations_oldest_seconds{{{CONSUMER}}}": age,
        f"hookline_redis_breaker_open{{{CONSUMER}}}": breaker,
    }


def missing(count: str) -> dict[str, str]:
    """Return how many events Stripe listed and nobody had recorded."""
    return {f"hookline_reconcile_missing_total{{{CONSUMER}}}": count}


def reconciled(last: str) -> dict[str, str]:
    """Return when Stripe's list was last looked through."""
    return {f"hookline_reconcile_last_success_timestamp_seconds{{{CONSUMER}}}": last}


ERROR_FAST, ERROR_SLOW = "HooklineErrorBudgetBurnsFast", "HooklineErrorBudgetBurnsSlowly"
DELAY_FAST, DELAY_SLOW = "HooklineDelayBudgetBurnsFast", "HooklineDelayBudgetBurnsSlowly"
STANDSTILL = "HooklineStandstill"
STOPPED = "HooklinePartitionStopped"
OWNERLESS = "HooklinePartitionWithoutOwner"
HALTED = "HooklineConsumerHalted"
ABSENT = "HooklineTargetAbsent"
AWAY = "HooklineRedisAway"
SILENT = "HooklineStripeSilent"
NO_MATCH = "HooklineNoSecretMatches"
REFUSED = "HooklineSignaturesRefused"
OLD_SECRET = "HooklineOldSecretInUse"
DIFFERS, BEHIND = "HooklineCacheDiffers", "HooklineSweeperBehind"
MISSING, UNRECONCILED = "HooklineEventsWereMissing", "HooklineReconcileBehind"
LETTERS = "HooklineDeadLettersUnattended"

CASES = [
    # --- objectives
    Case(
        ERROR_FAST,
        FIRING,
        "one request in eleven",
        requests("0+60x20", "0+6x20"),
        "20m",
        "ingest answers 9.091% of requests with 5xx; 0.05 % is allowed",
        {"job": "ingest"},
    ),
    Case(
        ERROR_FAST,
        FIRING,
        "the gatekeeper answers nothing at all",
        answers("0x20", "0+6x20"),
        "20m",
        "gatekeeper answers 100% of requests with 5xx; 0.05 % is allowed",
        {"job": "gatekeeper"},
    ),
    Case(
        ERROR_FAST,
        NOT_YET,
        "pending for two minutes",
        requests("0+60x20", "0x15 0+6x20"),
        "18m",
    ),
    Case(
        ERROR_FAST,
        EXEMPT,
        "it is over: the short window is clean",
        requests("0+60x45", "0+6x10 60x40"),
        "45m",
    ),
    Case(
        ERROR_FAST,
        EXEMPT,
        "six of twelve requests at night",
        requests("0x10 1 2 3 4 5 6x20", "0x10 1 2 3 4 5 6x20"),
        "20m",
    ),
    Case(
        ERROR_SLOW,
        FIRING,
        "two in a thousand, for hours",
        requests("0+998x48", "0+2x48"),
        "3h",
        "ingest answers 0.2% of requests with 5xx, and has for hours; 0.05 % is allowed",
        {"job": "ingest"},
        step="5m",
    ),
    Case(
        ERROR_SLOW,
        NOT_YET,
        "pending for fifteen minutes",
        requests("0+998x48", "0+2x48"),
        "40m",
        step="5m",
    ),
    Case(
        ERROR_SLOW,
        EXEMPT,
        "four in ten thousand are within the budget",
        requests("0+9996x48", "0+4x48"),
        "3h",
        step="5m",
    ),
    Case(
        DELAY_FAST,
        FIRING,
        "a fifth is late",
        delays("0+60x20", "0+48x20"),
        "20m",
        "20% of events are applied later than 10 s after receipt; 1 % is allowed",
    ),
    Case(
        DELAY_FAST,
        NOT_YET,
        "pending for two minutes",
        delays("0+60x20", "0+60x16 960+12x9"),
        "18m",
    ),
    Case(
        DELAY_FAST,
        EXEMPT,
        "it is over: the short window is clean",
        delays("0+60x45", "0+30x10 360+60x40"),
        "45m",
    ),
    Case(
        DELAY_SLOW,
        FIRING,
        "four in a hundred, for hours",
        delays("0+100x48", "0+96x48"),
        "3h",
        "4% of events are applied later than 10 s after receipt, and have been for hours; "
        "1 % is allowed",
        step="5m",
    ),
    Case(
        DELAY_SLOW,
        NOT_YET,
        "pending for fifteen minutes",
        delays("0+100x48", "0+96x48"),
        "25m",
        step="5m",
    ),
    Case(
        DELAY_SLOW,
        EXEMPT,
        "one in two hundred is within the budget",
        delays("0+200x48", "0+199x48"),
        "3h",
        step="5m",
    ),
    # --- events wait
    Case(
        STANDSTILL,
        FIRING,
        "lag and no progress",
        waiting("0+60x60", "50x60"),
        "5m",
        "Nothing is applied: the oldest event has waited for 5m 0s",
    ),
    Case(
        STANDSTILL,
        FIRING,
        "one more partition stands still than is stopped",
        waiting("0+60x60", "50x60", stopped="1x60")
        | {f'hookline_consumer_lag_seconds{{{CONSUMER},partition="4"}}': "0+60x60"},
        "5m",
        "Nothing is applied: the oldest event has waited for 5m 0s",
    ),
    Case(
        STANDSTILL,
        FIRING,
        "a loop that hangs knows of no lag",
        waiting("0x60", "50x60", loop="0+60x60"),
        "5m",
        "Nothing is applied: the oldest event has waited for 5m 0s",
    ),
    Case(STANDSTILL, NOT_YET, "pending for a minute", waiting("0+60x60", "50x60"), "2m"),
    Case(
        STANDSTILL,
        EXEMPT,
        "a backlog that is worked off",
        waiting("0+60x60", "0+100x60"),
        "10m",
    ),
    Case(
        STANDSTILL,
        EXEMPT,
        "what stands still is stopped, which is said elsewhere",
        waiting("0+60x60", "50x60", stopped="1x60"),
        "10m",
    ),
    Case(
        STOPPED,
        FIRING,
        "a gap",
        waiting("0x60", "0x60", stopped="2x60"),
        "2m",
        "2 partitions are stopped at a gap in their log and wait for an operator",
    ),
    Case(STOPPED, NOT_YET, "pending for a minute", waiting("0x60", "0x60", stopped="2x60"), "0m"),
    Case(STOPPED, EXEMPT, "accepted", waiting("0x60", "0x60", stopped="2 0x60"), "5m"),
    Case(
        OWNERLESS,
        FIRING,
        "half of them are nobody's",
        owners(6, 0),
        "5m",
        "6 partitions are read by no consumer",
    ),
    Case(
        OWNERLESS,
        FIRING,
        "their owner was started without PostgreSQL",
        owners(12, 0) | {f"hookline_consumer_waiting_partitions{{{CONSUMER}}}": "12x10"},
        "5m",
        "12 partitions are read by no consumer",
    ),
    Case(
        OWNERLESS,
        FIRING,
        "there is no consumer",
        {'hookline_ingest_topic_partitions{job="ingest",instance="i"}': "12x10"},
        "5m",
        "12 partitions are read by no consumer",
    ),
    Case(OWNERLESS, NOT_YET, "a rebalance may be under way", owners(6, 0), "2m"),
    Case(OWNERLESS, EXEMPT, "two consumers share them", owners(6, 6), "10m"),
    Case(
        OWNERLESS,
        EXEMPT,
        "PostgreSQL is away: positions are known",
        owners(12, 0)
        | {f"hookline_consumer_waiting_partitions{{{CONSUMER}}}": "12x10"}
        | {f'hookline_consumer_lag_records{{{CONSUMER},partition="0"}}': "9x10"},
        "10m",
    ),
    # --- processes
    Case(
        HALTED,
        FIRING,
        "it does not answer",
        UP | {f"up{{{CONSUMER}}}": "1 0x30"},
        "4m",
        "Consumer c1 does not stay up (0 restarts seen in 15 minutes)",
        {"job": "consumer", "instance": "c1"},
    ),
    Case(
        HALTED,
        FIRING,
        "it starts again and again",
        UP | {f"process_start_time_seconds{{{CONSUMER}}}": "1 2 3 4x30"},
        "6m",
        "Consumer c1 does not stay up (3 restarts seen in 15 minutes)",
        {"job": "consumer", "instance": "c1"},
    ),
    Case(HALTED, NOT_YET, "a restart", UP | {f"up{{{CONSUMER}}}": "1 0x30"}, "2m"),
    Case(
        HALTED,
        EXEMPT,
        "two deployments in a row",
        UP | {f"process_start_time_seconds{{{CONSUMER}}}": "1 2 3x30"},
        "10m",
    ),
    Case(
        ABSENT,
        FIRING,
        "no gatekeeper was ever there",
        {name: values for name, values in UP.items() if "gatekeeper" not in name},
        "3m",
        "gatekeeper  is not there to be asked (up 0)",
        {"job": "gatekeeper"},
    ),
    Case(
        ABSENT,
        FIRING,
        "the only consumer has left the service's name",
        UP | {'up{job="consumer",instance="1"}': "1x3 stale"},
        "8m",
        "consumer  is not there to be asked (up 0)",
        {"job": "consumer"},
    ),
    Case(
        ABSENT,
        FIRING,
        "ingest does not answer",
        UP | {'up{job="ingest",instance="1"}': "0x30"},
        "3m",
        "ingest 1 is not there to be asked (up 0)",
        {"job": "ingest", "instance": "1"},
    ),
    Case(ABSENT, NOT_YET, "a restart", UP | {'up{job="ingest",instance="1"}': "0x30"}, "1m"),
    Case(ABSENT, EXEMPT, "all are there", UP, "10m"),
    Case(
        ABSENT,
        EXEMPT,
        "a known consumer is down, which is said elsewhere",
        UP | {'up{job="consumer",instance="1"}': "0x30"},
        "10m",
    ),
    Case(
        AWAY,
        FIRING,
        "two consumers leave it alone",
        breakers("1x30", "1x30"),
        "3m",
        "2 processes of consumer do without Redis",
        {"job": "consumer"},
    ),
    Case(AWAY, NOT_YET, "a restart", breakers("1x30", "0x30"), "1m"),
    Case(
        AWAY, EXEMPT, "now and then a call takes too long", breakers("0 1 0 1 0x30", "0x30"), "6m"
    ),
    # --- signatures
    Case(
        SILENT,
        FIRING,
        "an event a minute, then none",
        arrivals("0+1800x48 86400x8", "0+30x48 1440x8"),
        "26h",
        "Stripe has sent nothing for 2h 0m 0s",
        step="30m",
    ),
    Case(
        SILENT,
        FIRING,
        "ingest was started anew meanwhile",
        arrivals("0+1800x48 0x8", "0+30x48 0x8"),
        "26h",
        "Stripe has sent nothing for 2h 0m 0s",
        step="30m",
    ),
    Case(
        SILENT,
        NOT_YET,
        "pending",
        arrivals("0+1800x48 86400x8", "0+30x48 1440x8"),
        "1530m",
        step="30m",
    ),
    Case(
        SILENT,
        EXEMPT,
        "a business of four events a day",
        arrivals("0x5 21600x5 43200x5 64800x5 86400x12", "0x5 1x5 2x5 3x5 4x12"),
        "30h",
        step="1h",
    ),
    Case(SILENT, EXEMPT, "nothing ever came", arrivals("0x120", "0x120"), "100m"),
    Case(
        NO_MATCH,
        FIRING,
        "each signature is by another secret",
        signatures("0x120", "0+1x120"),
        "20m",
        "15 signatures were refused in 15 minutes, and none has matched a secret for an hour",
    ),
    Case(NO_MATCH, NOT_YET, "pending", signatures("0x120", "0+1x120"), "9m"),
    Case(NO_MATCH, EXEMPT, "one matched", signatures("0x10 1x110", "0+1x120"), "40m"),
    Case(NO_MATCH, EXEMPT, "a forger tries three times", signatures("0x120", "0 1 2 3x120"), "20m"),
    Case(
        REFUSED,
        FIRING,
        "a fifth",
        signatures("0+40x20", "0+10x20"),
        "45m",
        "20% of signatures are refused",
        step="5m",
    ),
    Case(REFUSED, NOT_YET, "pending", signatures("0+40x20", "0+10x20"), "15m", step="5m"),
    Case(REFUSED, EXEMPT, "a few", signatures("0+5x20", "0x4 1x4 2x4 3x4"), "1h", step="5m"),
    Case(REFUSED, EXEMPT, "one in thirty", signatures("0+435x20", "0+15x20"), "1h", step="5m"),
    Case(
        REFUSED,
        EXEMPT,
        "nothing matches, which is said elsewhere",
        signatures("0x20", "0+10x20"),
        "1h",
        step="5m",
    ),
    Case(
        OLD_SECRET,
        FIRING,
        "still after a day",
        {'hookline_ingest_matched_secrets_total{job="ingest",position="2"}': "0+6x60"},
        "26h",
        "The secret at position 2, to be removed, has matched 72 signatures in six hours",
        {"position": "2"},
        step="30m",
    ),
    Case(
        OLD_SECRET,
        NOT_YET,
        "Stripe signs with both for a day",
        {'hookline_ingest_matched_secrets_total{job="ingest",position="2"}': "0+6x60"},
        "12h",
        step="30m",
    ),
    Case(
        OLD_SECRET,
        EXEMPT,
        "the old one is out of use",
        {'hookline_ingest_matched_secrets_total{job="ingest",position="2"}': "0+6x2 12x60"},
        "30h",
        step="30m",
    ),
    Case(
        OLD_SECRET,
        EXEMPT,
        "the first one is meant to match",
        signatures("0+6x60", "0x60"),
        "30h",
        step="30m",
    ),
    # --- set aside
    Case(
        LETTERS,
        FIRING,
        "a day and more",
        {f"hookline_consumer_oldest_dead_letter_timestamp_seconds{{{CONSUMER}}}": "60x60"},
        "25h",
        "A dead letter has been open for 1d 0h 59m 0s",
        step="30m",
    ),
    Case(
        LETTERS,
        NOT_YET,
        "just over a day",
        {f"hookline_consumer_oldest_dead_letter_timestamp_seconds{{{CONSUMER}}}": "60x60"},
        "1470m",
        step="30m",
    ),
    Case(
        LETTERS,
        EXEMPT,
        "resolved",
        {f"hookline_consumer_oldest_dead_letter_timestamp_seconds{{{CONSUMER}}}": "60x4 0x60"},
        "26h",
        step="30m",
    ),
    # --- cache
    Case(
        DIFFERS,
        FIRING,
        "two in an hour",
        differences("0x10 1 2x30"),
        "20m",
        "2 inspected answers of an hour were out of date in the cache, for longer than they may be",
    ),
    Case(DIFFERS, NOT_YET, "pending for a minute", differences("0x10 1 2x30"), "11m"),
    Case(DIFFERS, EXEMPT, "over for an hour", differences("0 1 2x90"), "70m"),
    Case(
        BEHIND,
        FIRING,
        "Redis answers, and does not confirm",
        overdue("0+60x20", "0x20"),
        "5m",
        "Cache entries that must go have waited for 5m 0s",
    ),
    Case(BEHIND, NOT_YET, "pending for two minutes", overdue("0+60x20", "0x20"), "3m"),
    Case(BEHIND, EXEMPT, "swept within a minute", overdue("0 30 50 59x20", "0x20"), "8m"),
    Case(
        BEHIND,
        EXEMPT,
        "Redis is away, which is said elsewhere",
        overdue("0+60x20", "1x20"),
        "8m",
    ),
    # --- reconcile
    Case(
        MISSING,
        FIRING,
        "three in one look",
        missing("0x10 3x30"),
        "20m",
        "3 events that Stripe lists had never been recorded, and were sent within the hour",
    ),
    Case(MISSING, NOT_YET, "pending for a minute", missing("0x10 3x30"), "11m"),
    Case(MISSING, EXEMPT, "over for an hour", missing("0 3x90"), "70m"),
    Case(
        UNRECONCILED,
        FIRING,
        "almost eight days",
        reconciled("3600x40"),
        "192h",
        "Stripe's list was last looked through 7d 23h 0m 0s ago; it forgets after 30 days",
        step="6h",
    ),
    Case(UNRECONCILED, NOT_YET, "six days", reconciled("3600x40"), "144h", step="6h"),
    Case(
        UNRECONCILED,
        EXEMPT,
        "no key: nobody has ever looked",
        reconciled("0x40"),
        "192h",
        step="6h",
    ),
]
