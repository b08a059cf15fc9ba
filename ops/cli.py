"""`hookline`: one command for everything an operator runs."""

import sys
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from sqlalchemy.exc import DBAPIError

from consumer.errors import Halt, Retry, verdict_of
from ops.dead_letters.cli import app as dead_letters
from ops.loading import load_for, load_to_serve
from ops.logs import configure
from ops.positions.cli import app as positions
from schemas.readiness import Beside
from schemas.settings import (
    BackfillSettings,
    ConsumerSettings,
    DatabaseSettings,
    DoctorSettings,
    EraseSettings,
    GatekeeperSettings,
    IngestSettings,
    MigrateSettings,
    ReaderSettings,
    RecallSettings,
    ReconcileSettings,
    SettingsError,
)

EXIT_USAGE = 2

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Stripe webhooks through Kafka into PostgreSQL, exactly once in effect.",
)
app.add_typer(dead_letters, name="dead-letters")
app.add_typer(positions, name="positions")
console = Console(stderr=True)


@app.command()
def up(
    data_dir: Annotated[
        Path, typer.Option(help="Folder for data, logs and secrets of all servers.")
    ] = Path(".hookline"),
    consumers: Annotated[
        int,
        typer.Option(min=0, max=64, help="Consumer processes; 0 starts none."),
    ] = 2,
) -> None:
    """Run Kafka, PostgreSQL, Valkey and hookline on this machine until Ctrl-C."""
    from ops.up import run_up  # noqa: PLC0415 - the other commands need no embedded servers

    raise typer.Exit(run_up(data_dir, consumers))


@app.command()
def ingest() -> None:
    """Receive webhooks over HTTP and publish them to Kafka."""
    from ingest.app import run  # noqa: PLC0415 - a process loads what it runs
    from ops.servers import listen, serve, serve_admin  # noqa: PLC0415 - same
    from ops.tracing import open_spans  # noqa: PLC0415 - same

    settings = load_to_serve(IngestSettings, "ingest")
    with open_spans(settings, "ingest") as spans:
        listener = listen(settings.ingest_host, settings.ingest_port, "HOOKLINE_INGEST_PORT")
        code = run(settings, listener=listener, serve=serve, serve_admin=serve_admin, spans=spans)
    raise typer.Exit(code)


@app.command()
def consume() -> None:
    """Apply events from Kafka to PostgreSQL, as one member of the consumer group."""
    from consumer.app import run  # noqa: PLC0415 - a process loads what it runs
    from ops.servers import serve_admin  # noqa: PLC0415 - same
    from ops.tracing import open_spans  # noqa: PLC0415 - same

    settings = load_to_serve(ConsumerSettings, "consumer")
    with open_spans(settings, "consumer") as spans:
        code = run(settings, serve_admin=serve_admin, beside=_watch(settings), spans=spans)
    raise typer.Exit(code)


@app.command()
def gatekeeper() -> None:
    """Answer what a customer may use now."""
    from consumer.gatekeeper.app import run  # noqa: PLC0415 - a process loads what it runs
    from ops.servers import listen, serve, serve_admin  # noqa: PLC0415 - same

    settings = load_to_serve(GatekeeperSettings, "gatekeeper")
    host, port = settings.gatekeeper_host, settings.gatekeeper_port
    listener = listen(host, port, "HOOKLINE_GATEKEEPER_PORT")
    raise typer.Exit(run(settings, listener=listener, serve=serve, serve_admin=serve_admin))


@app.command()
def migrate() -> None:
    """Bring the database to this version and make the topic if it is missing."""
    from ops.migrate import migrate as run  # noqa: PLC0415 - the other commands need no alembic

    run(load_for(MigrateSettings, "migrate"))


@app.command()
def send(
    paths: Annotated[list[Path], typer.Argument(help="Event files, or folders of them.")],
    *,
    fresh_ids: Annotated[
        bool, typer.Option("--fresh-ids", help="Give each event an id of its own.")
    ] = False,
    mode: Annotated[
        str | None, typer.Option(help="Send all events as of this mode: test or live.")
    ] = None,
) -> None:
    """Sign event files and send them to ingest, 64 at a time."""
    from ops.send import send_paths  # noqa: PLC0415 - the servers need no HTTP client

    raise typer.Exit(send_paths(paths, fresh_ids=fresh_ids, mode=mode))


CustomersOption = Annotated[int, typer.Option(min=1, help="How many customers to simulate.")]
SeedOption = Annotated[
    str | None, typer.Option(help="Same seed and end, same bytes; a new one by default.")
]
EndOption = Annotated[
    str | None,
    typer.Option(help="When the histories end, ISO 8601; the hour that has begun by default."),
]
ShapeOption = Annotated[
    str, typer.Option(help="API version of the events: old, basil (2025-03-31 and later), both.")
]
DuplicatesOption = Annotated[
    float, typer.Option(help="Share of events that are sent a second time, 0 to 1.")
]
RateOption = Annotated[
    float | None, typer.Option(help="Events a second at most; as fast as answered by default.")
]
ConcurrencyOption = Annotated[int, typer.Option(min=1, help="Requests at a time.")]


@app.command()
def simulate(
    *,
    customers: CustomersOption = 500,
    seed: SeedOption = None,
    end: EndOption = None,
    shape: ShapeOption = "both",
    duplicates: DuplicatesOption = 0.2,
    rate: RateOption = None,
    concurrency: ConcurrencyOption = 64,
    ledger: Annotated[
        Path | None, typer.Option(help="File that gets a JSON line for each event answered 200.")
    ] = None,
) -> None:
    """Send the events of simulated customers to ingest, shuffled and with duplicates."""
    from ops.simulate import Traffic  # noqa: PLC0415 - the servers need no HTTP client
    from ops.simulate import simulate as run  # noqa: PLC0415 - same

    traffic = Traffic.choose(
        customers=customers,
        seed=seed,
        end=end,
        shape=shape,
        duplicates=duplicates,
        rate=rate,
        concurrency=concurrency,
    )
    raise typer.Exit(run(traffic, ledger))


@app.command()
def demo(
    *,
    customers: CustomersOption = 500,
    seed: SeedOption = None,
    end: EndOption = None,
    shape: ShapeOption = "both",
    duplicates: DuplicatesOption = 0.2,
    rate: RateOption = None,
    concurrency: ConcurrencyOption = 64,
    broken: Annotated[
        str | None,
        typer.Option(
            "--break", help="Kill this halfway and mend it: redis, consumer, postgres, kafka."
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="File that gets the report as JSON.")
    ] = None,
    data_dir: Annotated[
        Path, typer.Option(help="Folder of the `up` to use, or to start one in.")
    ] = Path(".hookline"),
    stay: Annotated[
        bool | None,
        typer.Option(
            "--stay/--no-stay",
            help="Keep what was started running afterwards, until Ctrl-C; so on a terminal.",
        ),
    ] = None,
) -> None:
    """Run simulated traffic through everything and compare with what must come out."""
    from ops.demo.run import Options, run_demo  # noqa: PLC0415 - the servers need no HTTP client
    from ops.simulate import Traffic  # noqa: PLC0415 - same

    traffic = Traffic.choose(
        customers=customers,
        seed=seed,
        end=end,
        shape=shape,
        duplicates=duplicates,
        rate=rate,
        concurrency=concurrency,
    )
    stay = sys.stdout.isatty() if stay is None else stay
    raise typer.Exit(run_demo(Options(traffic, data_dir, broken, json_file, stay)))


@app.command()
def recompute(
    *,
    customer: Annotated[
        str | None, typer.Option(help="Only this customer; all without.", metavar="ID")
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write what differs, under the locks of a batch.")
    ] = False,
) -> None:
    """Fold the recorded events again and show every difference from the stored rows.

    Exit code 0: nothing differs, or --apply mended all of it. 3: something differs.
    """
    from ops.recompute import run  # noqa: PLC0415 - the servers need no repair

    raise typer.Exit(run(load_for(RecallSettings, "recompute"), customer=customer, apply=apply))


@app.command()
def explain(
    customer: Annotated[str, typer.Argument(help="A customer's id, cus_…", metavar="CUSTOMER")],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON document.")] = False,
    as_of: Annotated[
        str | None,
        typer.Option(
            help="Ask about another moment, ISO 8601, UTC if it names no zone: counts the events "
            "that Stripe had created by then, however late they arrived.",
            metavar="TIME",
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Show what would differ without this event; repeatable.", metavar="ID"),
    ] = None,
) -> None:
    """Say in words what a customer may use, why, what comes next, and how it came to be.

    Exit code 0, for a customer never seen as well; 2 for an id that is none, or an event that is
    not recorded for this customer.
    """
    from ops.explain.command import run  # noqa: PLC0415 - the servers need no words

    settings = load_for(RecallSettings, "explain")
    raise typer.Exit(
        run(settings, customer=customer, as_of=as_of, without=without or (), as_json=json)
    )


@app.command()
def backfill(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Files with lists or objects of Stripe's API, JSON.", metavar="FILE"),
    ] = None,
    *,
    api: Annotated[
        bool, typer.Option("--api", help="Read from Stripe's API, by HOOKLINE_STRIPE_API_KEY.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(help="With --api: only what was created since then.", metavar="TIME"),
    ] = None,
    taken: Annotated[
        str | None,
        typer.Option(help="With FILE: when the export was begun, ISO 8601.", metavar="TIME"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change, and write nothing.")
    ] = False,
) -> None:
    """Bring subscribers from before hookline in, as Stripe shows them now.

    Killed in between, the same command goes on; repeated, it changes nothing. Exit code 0: all
    was merged. 3: something was left out. 1: Stripe or a server is away.
    """
    from ops.backfill.run import Options, read_time, run  # noqa: PLC0415 - no server needs it

    settings = load_for(BackfillSettings, "backfill")
    configure("error", "backfill")  # it says itself what it does
    options = Options(
        api,
        tuple(files or ()),
        read_time(since, "--since"),
        read_time(taken, "--taken"),
        dry_run,
    )
    raise typer.Exit(run(settings, options))


@app.command()
def verify(
    *,
    sample: Annotated[
        int | None,
        typer.Option(min=1, help="So many, drawn at random, and Stripe's newest; 100 by default."),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="All of Stripe's, and all that are stored.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Merge what Stripe shows of those that differ.")
    ] = False,
    wait: Annotated[
        float,
        typer.Option(min=0, help="Seconds after which a difference is looked at once more."),
    ] = 30,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON document.")] = False,
) -> None:
    """Hold stored subscriptions against Stripe's present state, and say why each one differs.

    Exit code 0: none does, or --repair mended all. 3: something differs. 1: Stripe is away.
    """
    from ops.verify.run import Options, run  # noqa: PLC0415 - no server needs it

    settings = load_for(BackfillSettings, "verify")
    configure("error", "verify")  # it says itself what it does
    raise typer.Exit(run(settings, Options(sample, full, repair, json, wait)))


@app.command()
def reconcile(
    *,
    since: Annotated[
        str | None,
        typer.Option(
            help="From when on; by default from where the last run ended, else 30 days.",
            metavar="TIME",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Send them; without, only say what.")] = False,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for consumers to apply what is in Kafka.")
    ] = 60,
) -> None:
    """Find events that Stripe lists and nobody recorded, and send them like any other.

    Exit code 0: none is missing, or all were sent, or it was a dry run. 1: Stripe or a server is
    away, or consumers are behind.
    """
    from ops.backfill.run import read_time  # noqa: PLC0415 - no server needs it
    from ops.reconcile.run import Options, run  # noqa: PLC0415 - same

    settings = load_for(ReconcileSettings, "reconcile")
    configure("error", "reconcile")  # it says itself what it does
    raise typer.Exit(run(settings, Options(read_time(since, "--since"), yes, wait)))


@app.command()
def doctor(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Check the invariants as well: what fits together.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON document.")] = False,
    admin: Annotated[
        list[str] | None,
        typer.Option(help="Admin port of a process, http://host:port; repeatable.", metavar="URL"),
    ] = None,
    webhook_url: Annotated[
        str | None,
        typer.Option(
            help="Where Stripe must send, https://your.host/webhooks/stripe.", metavar="URL"
        ),
    ] = None,
    records: Annotated[
        int,
        typer.Option(min=0, help="With --check: how many of the last applied records to read."),
    ] = 10_000,
    wait: Annotated[
        float,
        typer.Option(min=0, help="With --check: seconds to wait for rest; 0 finds no fault in it."),
    ] = 35,
    output: Annotated[
        list[Path] | None,
        typer.Option(help="With --check: file that may hold no secret, such as a log; repeatable."),
    ] = None,
) -> None:
    """Look at every part of the deployment, and say what is wrong and what mends it.

    Changes nothing. Exit code 0: nothing is wrong. 3: something is. 1: a server does not answer.
    """
    from ops.doctor import command, invariants  # noqa: PLC0415 - the servers need no checks

    options = command.Options(
        check,
        invariants.Options(records, wait, tuple(admin or ()), tuple(output or ())),
        webhook_url,
        json,
    )
    raise typer.Exit(command.run(lambda: load_for(DoctorSettings, "doctor"), options))


@app.command()
def bench(
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="One small round of each: for a look, not for figures.")
    ] = False,
    scenario: Annotated[
        list[str] | None, typer.Option(help="Only this letter; repeatable.", metavar="ID")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write ratios and all samples to this file.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Rounds of each scenario; 5, with --quick 1.")
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(help="Draw pictures (PNG) into this folder; needs matplotlib.")
    ] = None,
    data_dir: Annotated[
        Path, typer.Option(help="Folder for the servers' data while it runs; on a real disk.")
    ] = Path(".hookline"),
) -> None:
    """Measure hookline against its own parts and against what one would write instead.

    Exit code 0: every run was clean, and each ratio reaches its bar. 3: not so.
    """
    from ops.bench.run import Options, run  # noqa: PLC0415 - the servers are not measured

    options = Options(quick, tuple(scenario or ()), json_file, data_dir, rounds, plots)
    raise typer.Exit(run(options))


@app.command()
def warm(
    *,
    everybody: Annotated[bool, typer.Option("--all", help="Read every customer.")] = False,
    customer: Annotated[
        list[str] | None, typer.Option(help="Read this customer; repeatable.", metavar="ID")
    ] = None,
) -> None:
    """Read customers as the gatekeeper does, so that their next answer comes out of the cache."""
    from ops.warm import run  # noqa: PLC0415 - the servers need no bar

    settings = load_for(ReaderSettings, "warm")
    raise typer.Exit(run(settings, customers=customer or (), everybody=everybody))


@app.command()
def retention(
    *,
    months: Annotated[
        int, typer.Option(min=1, help="How many whole months before this one to keep.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only say what.")] = False,
) -> None:
    """Drop the events of older months; what they told stays as facts."""
    from ops.retention import run  # noqa: PLC0415 - a process loads what it runs

    raise typer.Exit(run(load_for(DatabaseSettings, "retention"), months=months, yes=yes))


@app.command()
def erase(
    customer: Annotated[str, typer.Argument(help="A customer's id, cus_…", metavar="CUSTOMER")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only say what.")] = False,
) -> None:
    """Remove a customer's events, dead letters and reference, and leave the record of it."""
    from ops.erase import run  # noqa: PLC0415 - a process loads what it runs

    raise typer.Exit(run(load_for(EraseSettings, "erase"), customer=customer, yes=yes))


@app.command()
def version() -> None:
    """Print hookline's version."""
    typer.echo(installed_version("hookline"))


def _watch(settings: ConsumerSettings) -> Beside:
    """Return what a consumer does beside its work: with a key it asks Stripe."""
    if settings.stripe_api_key is None:
        return lambda _registry: nullcontext()
    from ops.watch.watch import watching  # noqa: PLC0415 - a process loads what it runs

    return partial(watching, settings)


def main() -> None:
    """Run a command; what went wrong is one sentence a line on stderr, never a traceback.

    Exit code 2 for settings or usage that a person must put right, 1 for everything else.
    """
    try:
        app()
    except SettingsError as error:
        _fail(error.problems)
    except DBAPIError as error:
        _fail([f"PostgreSQL: {verdict_of(error)}"], 1)
    except Retry as error:
        _fail([str(error)], 1)
    except Exception as error:
        if not isinstance(error, _known_errors()):
            raise
        _fail(str(error).splitlines(), 1 if _is_away(error) else EXIT_USAGE)


def _known_errors() -> tuple[type[Exception], ...]:
    from ops.embedded.errors import EmbeddedError  # noqa: PLC0415 - same
    from ops.invariants.event_log import AwayError  # noqa: PLC0415 - same
    from ops.migrate import TopicError  # noqa: PLC0415 - same
    from ops.reconcile.run import BehindError  # noqa: PLC0415 - same
    from ops.servers import PortError  # noqa: PLC0415 - only once something failed
    from ops.stripe_api.client import StripeError  # noqa: PLC0415 - same
    from ops.usage import UsageError  # noqa: PLC0415 - same
    from schemas.plans import PlansError  # noqa: PLC0415 - same

    return (
        AwayError,
        BehindError,
        Halt,
        PortError,
        EmbeddedError,
        TopicError,
        PlansError,
        StripeError,
        UsageError,
    )


def _is_away(error: Exception) -> bool:
    from ops.invariants.event_log import AwayError  # noqa: PLC0415 - only once something failed
    from ops.reconcile.run import BehindError  # noqa: PLC0415 - same
    from ops.stripe_api.client import StripeError  # noqa: PLC0415 - same

    is_stripe_away = isinstance(error, StripeError) and error.is_away
    return isinstance(error, AwayError | BehindError) or is_stripe_away


def _fail(sentences: list[str], code: int = EXIT_USAGE) -> None:
    for sentence in sentences:
        console.print(f"hookline: {sentence}", style="red", highlight=False, soft_wrap=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
