"""The commands of `hookline dead-letters`: options only, the work is beside."""

from typing import Annotated

import typer

from ops.loading import load_for
from ops.logs import configure
from schemas.settings import DatabaseSettings, ReplaySettings

app = typer.Typer(
    no_args_is_help=True, help="Look at records that were set aside, and try them again."
)

ReasonOption = Annotated[
    str | None, typer.Option(help="Only this reason: handler, data, undecodable, unsigned.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print a JSON document.")]


@app.command("list")
def list_(
    *,
    reason: ReasonOption = None,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Show those that are resolved as well.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many to show.")] = 50,
    json: JsonOption = False,
) -> None:
    """Show what is set aside and waits for somebody, oldest first."""
    from ops.dead_letters.listing import run  # noqa: PLC0415 - a process loads what it runs

    settings = load_for(DatabaseSettings, "dead-letters")
    raise typer.Exit(run(settings, reason=reason, resolved=resolved, limit=limit, as_json=json))


@app.command()
def show(
    number: Annotated[int, typer.Argument(help="The number that `list` shows.", metavar="ID")],
    *,
    body: Annotated[
        bool, typer.Option("--body", help="Write the stored bytes, and nothing else.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show all that is known of one record that was set aside, its bytes made readable."""
    from ops.dead_letters.showing import run  # noqa: PLC0415 - a process loads what it runs

    settings = load_for(DatabaseSettings, "dead-letters")
    raise typer.Exit(run(settings, number=number, body=body, as_json=json))


@app.command()
def replay(
    numbers: Annotated[
        list[int] | None, typer.Argument(help="Numbers that `list` shows.", metavar="ID")
    ] = None,
    *,
    reason: ReasonOption = None,
    all_: Annotated[bool, typer.Option("--all", help="All that are open.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only say what.")] = False,
) -> None:
    """Apply records that were set aside, as a consumer would now, and close those that succeed.

    Exit code 0: all are resolved, or nothing was asked to be done. 3: some failed again.
    """
    from ops.dead_letters.replaying import run  # noqa: PLC0415 - a process loads what it runs

    settings = load_for(ReplaySettings, "replay")
    configure("error", "replay")  # a batch's lines are for a consumer's log
    raise typer.Exit(run(settings, numbers=numbers or (), reason=reason, everything=all_, yes=yes))
