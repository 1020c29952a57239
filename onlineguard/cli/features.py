"""`onlineguard slidr features`: more days of clicks than memory holds, counted into a history to train on."""

from pathlib import Path
from typing import Annotated

import typer

from onlineguard.cli.exits import EXIT_CONFLICT, one_line_errors, print_error

EPILOG = """[bold]Memory[/bold]

A worker holds one partition of 10 million clicks and of all entities. For a day of 100 million, take --parts 64.

[bold]After a kill[/bold]

The same command goes on where it was. Files that are added after the last one are counted from there; files that were \
counted must stay as they are.

[bold]Examples[/bold]

A file for each day, of any names that are in order, counted on two cores; then a model:

  [cyan]onlineguard slidr features days --out history --workers 2[/cyan]

  [cyan]onlineguard slidr train history --out model[/cyan]

  [cyan]onlineguard slidr calibrate history --model model[/cyan]

Or a model a day, promoted in a registry if it passes its guardrails:

  [cyan]onlineguard slidr retrain --history history --registry models[/cyan]
"""


def features(
    clicks: Annotated[
        Path,
        typer.Argument(
            metavar="CLICKS", help="A .parquet file, or a folder of such in the order of their names, in order of time."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="HISTORY", help="The history that is written or continued: clicks with features, in Parquet."
        ),
    ],
    mapping: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Says which column of the log is which field of a click."),
    ] = None,
    lookups_: Annotated[
        Path | None, typer.Option("--lookups", metavar="FOLDER", help="What `slidr lookups build` made.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that count at once.")] = 1,
    parts: Annotated[
        int | None,
        typer.Option(
            min=1, max=1_024, help="Partitions of each kind of entity: more take less memory.", show_default="16"
        ),
    ] = None,
) -> None:
    """Count the features of more clicks than memory holds, by entity and in pieces, and keep them as a history.

    They are those that train would count in one pass, bit for bit.
    """
    with one_line_errors():
        from onlineguard.cli import console
        from onlineguard.errors import Conflict, InvalidArgument
        from onlineguard.slidr.lookups.lookups import opened
        from onlineguard.slidr.offline.log import ParquetLog
        from onlineguard.slidr.offline.recording import record

        log = ParquetLog.of(clicks, mapping)
        if out.resolve() in (clicks.resolve(), clicks.resolve().parent):
            raise InvalidArgument("out", f"is {out}, where the clicks are; name another folder")
        if lookups_ is not None:
            opened(lookups_)
        try:
            with console.progress("features", sum(log.rows), noun="clicks") as progress:
                made = record(log, out, lookups=lookups_, workers=workers, parts=parts, progress=progress)
        except Conflict as error:
            print_error(error)
            raise typer.Exit(EXIT_CONFLICT) from None
        known = f", {made.clicks - made.new:,} of which were there" if made.new < made.clicks else ""
        console.say(
            f"{made.clicks:,} clicks with their features{known}",
            f"history: {out}; next: onlineguard slidr train {out} --out model",
        )
