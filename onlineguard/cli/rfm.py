"""`onlineguard slidr rfm`: scores of accounts by their orders."""

from pathlib import Path
from typing import Annotated

import typer

from onlineguard.cli import clicks as shared
from onlineguard.cli.exits import one_line_errors

EPILOG = """[bold]Columns[/bold]

Orders have user_id, ts (milliseconds since 1970 UTC) and amount. A negative amount is a refund.

The scores have user_id, recency, frequency, monetary (each 1 to 5) and rfm, their sum: 3 to 15. Orders of the 90 days \
before --at count.

[bold]Examples[/bold]

Every night, the scores of all accounts:

  [cyan]onlineguard slidr rfm orders.parquet --out rfm.parquet[/cyan]

A log of clicks with the score that each account had when the log began:

  [cyan]onlineguard slidr rfm orders.parquet --clicks log.parquet --out log-rfm.parquet[/cyan]
"""


def rfm(
    orders: Annotated[Path, typer.Argument(metavar="ORDERS", help="A .csv, .csv.gz, .ndjson, .parquet or .zip file.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where it is written: .parquet, .csv or .ndjson.")],
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Scores as of this time, in UTC.",
            show_default="after the last order, or where --clicks begin",
        ),
    ] = None,
    clicks: Annotated[
        Path | None,
        typer.Option(metavar="CLICKS", help="Write this log with the scores of its accounts, in place of the scores."),
    ] = None,
    mapping: shared.MappingFile = None,
) -> None:
    """Score accounts by recency, frequency and monetary value of their orders, and join the scores to clicks."""
    with one_line_errors():
        from onlineguard.cli import console, runner
        from onlineguard.cli import slidr_words as words
        from onlineguard.slidr.rfm import joined, read_orders, scored_at
        from onlineguard.slidr.workflow import check_table

        check_table("out", out)
        runner.check_destinations(None, {"out": out}, {"orders": orders, "--clicks": clicks, "--mapping": mapping})
        bought = read_orders(orders)
        if clicks is None:
            table, when = scored_at(bought, at)
            said = f"{table.height:,} accounts with orders have a score"
        else:
            table, when = joined(bought, clicks, mapping, at)
            said = f"{table['rfm'].count():,} of {table.height:,} clicks are of accounts with a score"
        shared.write_file(out, lambda path: getattr(table, f"write_{out.suffix.lower()[1:]}")(path))
        console.say(f"{said}, as of {words.day(when)}", f"out: {out}")
