"""`onlineguard inspect`: how a file would be read, before it is."""

from typing import Annotated

import typer

from onlineguard.cli import written
from onlineguard.cli.exits import one_line_errors
from onlineguard.cli.options import with_options

EPILOG = """[bold]Examples[/bold]

  [cyan]onlineguard inspect umsatz.csv[/cyan]

  [cyan]onlineguard inspect export.txt --delimiter ';' --decimal ,[/cyan]
"""


@with_options
def inspect(
    source: written.SourceName,
    rows: Annotated[int, typer.Option(min=1, max=100, help="How many rows are shown.")] = 5,
    *,
    how: written.Written,
) -> None:
    """Show how a file would be read: how it is written, its columns and first rows, and a command that judges it."""
    with one_line_errors():
        from onlineguard.cli import inspection
        from onlineguard.sources.looking import look

        inspection.show(source, look(source, how.choices()), rows, how.flags())
