"""`onlineguard inspect`: how a file would be read, before it is."""

from typing import Annotated

import typer

from onlineguard.cli import written
from onlineguard.cli.exits import one_line_errors

EPILOG = """[bold]Examples[/bold]

  [cyan]onlineguard inspect umsatz.csv[/cyan]

  [cyan]onlineguard inspect export.txt --delimiter ';' --decimal ,[/cyan]
"""


def inspect(
    source: written.SourceName,
    rows: Annotated[int, typer.Option(min=1, max=100, help="How many rows are shown.")] = 5,
    delimiter: written.Delimiter = None,
    decimal: written.Decimal = None,
    encoding: written.Encoding = None,
    time_format: written.TimeFormat = None,
    time_zone: written.TimeZone = None,
    na: written.Missing = None,
    header: written.Header = None,
) -> None:
    """Show how a file would be read: how it is written, its columns and first rows, and a command that judges it."""
    with one_line_errors():
        from onlineguard.cli import inspection
        from onlineguard.sources.looking import look

        chosen = written.choices(delimiter, decimal, encoding, time_format, time_zone, na, header)
        flags = {"--delimiter": delimiter, "--decimal": decimal, "--encoding": encoding, "--time-format": time_format}
        flags |= {"--time-zone": time_zone, "--na": na}
        given = [part for flag, value in flags.items() if value is not None for part in (flag, value)]
        given += [] if header is None else ["--header" if header else "--no-header"]
        inspection.show(source, look(source, chosen), rows, given)
