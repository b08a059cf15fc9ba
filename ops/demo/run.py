"""`hookline demo`: start or find a deployment, send, wait, compare, report."""

import asyncio
import contextlib
import shlex
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from sqlalchemy import Engine, text

from consumer.storage.engine import make_engine
from ops.delivery import Delivery
from ops.demo.breaking import KILLS, Outage, break_part, check_breakable, check_part
from ops.demo.counters import Counted, Counters, count_between, read_counters
from ops.demo.deployment import Deployment, find_or_start
from ops.demo.report import (
    Delay,
    Mismatch,
    Report,
    print_report,
    require_writable,
    write_json,
)
from ops.demo.watch import Applied, View
from ops.embedded.ports import HOST
from ops.invariants.cache import connect
from ops.invariants.checker import Result, check, summarize
from ops.invariants.event_log import EventLog
from ops.invariants.subject import Sent, Subject
from ops.simulate import Ledger, Traffic, send
from ops.simulator.catalogue import ADD_ON, DEFAULT_TIER, PLANS, TIERS
from ops.simulator.deliveries import mix
from ops.simulator.history import History
from ops.simulator.life import Event
from ops.simulator.truth import CustomerTruth
from ops.up import own_command
from ops.usage import UsageError
from schemas.plans import Price, load_plans
from schemas.settings import ConsumerSettings, GatekeeperSettings, IngestSettings, load

LOOK_SECONDS = 0.5
COUNTED_SECONDS = 10.0
"""Longest wait for consumers to have counted the last repeated delivery."""

STUCK_SECONDS = 60.0
"""Events that are not applied while nothing moves for so long are lost."""

CHECKED = ("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I10")
"""What needs neither a baseline nor a list of what was down."""

_CLOCK = text("SELECT clock_timestamp()")
_OUTCOME = text("""
SELECT count(*) AS applied, extract(epoch FROM max(processed_at) - min(received_at)) AS seconds,
  percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP
    (ORDER BY extract(epoch FROM processed_at - received_at)) AS delays
FROM webhook_events
WHERE processed_at >= :began AND customer_id = ANY(CAST(:customers AS text[]))
""")
_RECORDED = text("SELECT count(*) FROM webhook_events WHERE processed_at >= :began")


@dataclass(frozen=True, slots=True)
class Options:
    """What a person asked the demo for."""

    traffic: Traffic
    data_dir: Path
    broken: str | None
    json_file: Path | None
    stay: bool


def run_demo(options: Options) -> int:
    """Run the demo and return 0 if nothing mismatches, else 1; blocks.

    Raises UsageError, SettingsError or EmbeddedError before anything is sent.
    """
    if options.broken is not None:
        check_part(options.broken)
    if options.json_file is not None:
        require_writable(options.json_file)
    console = Console(highlight=False, soft_wrap=True)

    def say(line: str) -> None:
        console.print(line, markup=False)

    with find_or_start(options.data_dir, say) as deployment:
        settings = _check(deployment, options)
        report, truths = Demo(deployment, options, settings, console).run()
        console.print()
        print_report(console, report)
        if options.json_file is not None:
            write_json(report, options.json_file)
        _print_next(console, deployment, options, truths)
        if options.stay and deployment.is_own:
            _stay(console)
    return 1 if report.mismatches else 0


def _check(deployment: Deployment, options: Options) -> ConsumerSettings:
    """Refuse a deployment whose outcome would not be the known one; raises UsageError."""
    if load(IngestSettings).livemode != "test":
        raise UsageError("this deployment serves live mode: simulated events are of test mode")
    settings = load(ConsumerSettings)
    plans = load_plans(settings.plans_file)
    for plan in (*PLANS, ADD_ON):
        price = Price(plan.price, plan.product, plan.lookup_key)
        if plans.tier_of([price], None)[0] != plan.tier or plans.tiers != TIERS:
            raise UsageError(
                f"{settings.plans_file} does not give the simulated plans their tiers: the demo "
                f'needs tiers = ["starter", "pro", "enterprise"], default = "{DEFAULT_TIER}", and '
                f'under [lookup_keys] {plan.lookup_key} = "{plan.tier}"'
            )
    if options.broken is not None:
        check_breakable(deployment, options.broken)
    return settings


class Demo:
    """One run against one deployment."""

    def __init__(
        self,
        deployment: Deployment,
        options: Options,
        settings: ConsumerSettings,
        console: Console,
    ) -> None:
        self._deployment = deployment
        self._options = options
        self._settings = settings
        self._console = console
        self._engine: Engine = make_engine(settings, "demo")
        self._ledger = Ledger()
        self._outage: Outage | None = None

    def run(self) -> tuple[Report, list[CustomerTruth]]:
        """Send everything, wait for it, and compare; returns the report and what is true."""
        traffic = self._options.traffic
        with self._console.status(f"making up {traffic.customers:,} customers"):
            histories = list(traffic.world.histories(traffic.customers))
            deliveries = list(mix(histories, traffic.duplicates, traffic.world.seed))
        sent = {
            event.id: Sent(history.truth.customer_id, datetime.fromtimestamp(event.created, UTC))
            for history in histories
            for event in history.events
        }
        with self._engine.connect() as connection:
            began = connection.execute(_CLOCK).scalar_one()
        before = self._counters()
        applied = Applied(sent)
        with View(self._console, len(deliveries)) as view:
            asyncio.run(self._send(deliveries, applied, view))
        with self._console.status("comparing"):
            counted = self._count_since(before)
            return self._compare(histories, applied, began, counted)

    # --- sending and waiting

    async def _send(self, deliveries: Sequence[Event], applied: Applied, view: View) -> None:
        """Send everything, break what is to be broken, and wait until all of it is applied."""
        secret = self._settings.webhook_secrets[0].get_secret_value()
        halfway = asyncio.Event()

        def take(delivery: Delivery) -> None:
            self._ledger.take(delivery)
            if self._ledger.deliveries * 2 >= len(deliveries):
                halfway.set()

        sending = asyncio.create_task(send(self._options.traffic, deliveries, secret, take))
        breaking = asyncio.create_task(self._break(halfway, view))
        moved_at, last = time.monotonic(), (0, 0)
        while not (sending.done() and breaking.done() and applied.is_complete(self._ledger)):
            await asyncio.to_thread(applied.look, self._engine, self._ledger)
            view.show(self._ledger, applied)
            view.say(self._deployment.news())
            state = (self._ledger.deliveries, len(applied.pending))
            if state != last or not breaking.done():
                moved_at, last = time.monotonic(), state
            if sending.done() and time.monotonic() - moved_at > STUCK_SECONDS:
                break
            await asyncio.sleep(LOOK_SECONDS)
        await sending
        self._outage = await breaking

    async def _break(self, halfway: asyncio.Event, view: View) -> Outage | None:
        part = self._options.broken
        if part is None:
            return None
        await halfway.wait()
        view.say([f"{part} is killed, and again when it has come back, {KILLS} times"])
        outage = await asyncio.to_thread(break_part, self._deployment, part)
        state = "all is ready again" if outage.is_mended else "not everything is ready again"
        view.say([f"{state}, {outage.seconds:.1f} s after {part} was killed first"])
        return outage

    def _count_since(self, before: Mapping[int, Counters]) -> Counted | None:
        """Return what consumers counted, once they have seen the last repeated delivery too."""
        deliveries = sum(self._ledger.accepted.values())
        deadline = time.monotonic() + COUNTED_SECONDS
        while True:
            counted = count_between(before, self._counters())
            if counted is None or counted.recorded + counted.dropped >= deliveries:
                return counted
            if time.monotonic() > deadline:
                return counted
            time.sleep(LOOK_SECONDS)

    def _counters(self) -> dict[int, Counters]:
        return read_counters(self._deployment.consumer_ports())

    # --- comparing

    def _compare(
        self,
        histories: Sequence[History],
        applied: Applied,
        began: datetime,
        counted: Counted | None,
    ) -> tuple[Report, list[CustomerTruth]]:
        truths = [history.truth for history in histories]
        ledger, traffic = self._ledger, self._options.traffic
        with self._engine.connect() as connection:
            asked = {"began": began, "customers": [truth.customer_id for truth in truths]}
            outcome = connection.execute(_OUTCOME, asked).one()
            recorded = connection.execute(_RECORDED, asked).scalar_one()
            # Somebody else's events would be counted too.
            if counted is not None and recorded != outcome.applied:
                counted = None
        results = self._check(truths, applied.sent)
        mismatches = [
            *self._refused(applied.sent),
            *(Mismatch(f.where, f.what) for result in results for f in result.findings),
            *check_counts(applied.sent, ledger, counted, recorded),
        ]
        now = time.time()
        tiers = Counter(truth.answer(now, self._grace_seconds).tier for truth in truths)
        report = Report(
            repeat=traffic.repeat(),
            customers=len(truths),
            subscriptions=sum(len(truth.subscriptions) for truth in truths),
            events=len(applied.sent),
            deliveries=ledger.deliveries,
            duplicates=ledger.deliveries - len(applied.sent),
            resent=ledger.resent,
            answers=dict(ledger.answers),
            applied=outcome.applied,
            dropped_duplicates=None if counted is None else counted.dropped,
            seconds=float(outcome.seconds or 0),
            receipt_to_commit_seconds=Delay(*map(float, outcome.delays))
            if outcome.delays
            else None,
            customers_by_tier={tier: tiers[tier] for tier in TIERS},
            outage=self._outage,
            invariants={result.invariant.id: result.state for result in results},
            invariants_line=summarize(results),
            mismatches=sorted(set(mismatches)),
        )
        return report, truths

    @property
    def _grace_seconds(self) -> int:
        return int(self._settings.grace_hours * 3600)

    def _refused(self, sent: Mapping[str, Sent]) -> Iterator[Mismatch]:
        for event_id in self._ledger.given_up:
            yield Mismatch(sent[event_id].customer, f"{event_id} was never answered 200")

    def _check(self, truths: Sequence[CustomerTruth], sent: Mapping[str, Sent]) -> list[Result]:
        """Check what the demo can, of its own customers: somebody else's may be there as well."""
        settings = self._settings
        tokens = load(GatekeeperSettings).gatekeeper_tokens
        token = tokens[0].get_secret_value() if tokens else None
        log = EventLog(settings.kafka_access(), settings.kafka_topic)
        with connect(settings.redis_url.get_secret_value()) as redis:
            subject = Subject(
                engine=self._engine,
                plans=load_plans(settings.plans_file),
                grace=timedelta(hours=settings.grace_hours),
                group=settings.kafka_group,
                log=log,
                redis=redis,
                customers=[truth.customer_id for truth in truths],
                accepted={event_id: sent[event_id] for event_id in self._ledger.accepted},
                truths=truths,
                gatekeeper=(self._deployment.gatekeeper_url, token),
            )
            try:
                return check(subject, CHECKED)
            finally:
                log.close()


def check_counts(
    sent: Mapping[str, Sent], ledger: Ledger, counted: Counted | None, recorded: int
) -> Iterator[Mismatch]:
    """Yield the customers of repeated deliveries if consumers applied more than there is.

    A second application leaves no trace in the rows, as merging twice changes nothing; that it
    happened shows in the counters alone.
    """
    if counted is None or counted.recorded == recorded:
        return
    repeated = {sent[event_id].customer for event_id, n in ledger.accepted.items() if n > 1}
    what = f"has repeated deliveries: {counted.recorded} events were applied, {recorded} exist"
    for customer in sorted(repeated):
        yield Mismatch(customer, what)


def _print_next(
    console: Console, deployment: Deployment, options: Options, truths: Sequence[CustomerTruth]
) -> None:
    """Print three things to try, each a line to copy."""
    now = time.time()
    chosen = max(truths, key=lambda truth: _interest(truth, now)).customer_id
    env = shlex.quote(str(options.data_dir / "env"))
    hookline = shlex.quote(_from_here(own_command()[0]))
    port = deployment.variables.get("HOOKLINE_CONSUMER_ADMIN_PORT", "9082")
    stays = not deployment.is_own or options.stay
    console.print("\ntry next" + ("" if stays else ", after `make up` (the data is kept)") + ":")
    for line in (
        f"curl -s {deployment.gatekeeper_url}/v1/customers/{chosen}/entitlement",
        f"(set -a; . {env}; {hookline} explain {chosen})",
        f"curl -s http://{HOST}:{port}/metrics | grep hookline_consumer_events_total",
    ):
        console.print(f"  {line}", markup=False)


def _from_here(path: str) -> str:
    """Return a path as short as it can be typed here."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def _interest(truth: CustomerTruth, now: float) -> tuple[bool, int]:
    """Rank customers by how much there is to see: one in a grace period, with much behind it."""
    answer = truth.answer(now)
    return answer.entitled and answer.grace_until is not None, len(truth.subscriptions)


def _stay(console: Console) -> None:
    """Keep everything running until Ctrl-C."""
    console.print("\neverything goes on running; Ctrl-C stops it")
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
