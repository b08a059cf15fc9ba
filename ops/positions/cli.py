"""The commands of `hookline positions`: options only, the work is beside."""

from typing import Annotated

import typer

from ops.loading import load_for
from schemas.settings import PositionsSettings

app = typer.Typer(
    no_args_is_help=True, help="Show how far each partition is applied; go on past a gap."
)


@app.command()
def show(
    *, json: Annotated[bool, typer.Option("--json", help="Print a JSON document.")] = False
) -> None:
    """Show each partition's position against its log, and what is wrong with it in words.

    Exit code 0: nothing is. 3: a partition is stopped by a gap.
    """
    from ops.positions.showing import run  # noqa: PLC0415 - a process loads what it runs

    raise typer.Exit(run(load_for(PositionsSettings, "positions"), as_json=json))


@app.command()
def accept_gap(
    *,
    partition: Annotated[
        int | None, typer.Option(min=0, help="The partition that is stopped by a gap.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All that are stopped by a gap.")] = False,
    to: Annotated[
        str,
        typer.Option(
            help="Where to go on: beginning (all that the log holds), end, or an offset.",
            metavar="OFFSET|beginning|end",
        ),
    ] = "beginning",
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only say what.")] = False,
) -> None:
    """Let a partition that a gap has stopped go on; consumers take it up without a restart."""
    from ops.positions.accepting import run  # noqa: PLC0415 - a process loads what it runs

    settings = load_for(PositionsSettings, "positions")
    raise typer.Exit(run(settings, partition=partition, everything=all_, to=to, yes=yes))
