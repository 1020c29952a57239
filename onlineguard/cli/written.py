"""Options of `run` and `inspect`: the source, and how it is written where that is not told from its first block."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from onlineguard.sources import Choices

_WRITTEN = "How the file is written, where it is not as was told from its first block"
SourceName = Annotated[
    str,
    typer.Argument(
        help="A text (.csv, .tsv, .txt, .ndjson, also .gz, .bz2, .xz, .zst, .lz4), .parquet, .xlsx, .zip or .tar; a "
        "folder, a pattern in quotes, a URL (https, s3, gs, abfs); or - for a pipe."
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option(metavar="SIGN", help="Between two fields, e.g. ';', or tab, or blanks.", rich_help_panel=_WRITTEN),
]
Decimal = Annotated[
    str | None, typer.Option(metavar="SIGN", help="The decimal mark: . or , as in 1,5.", rich_help_panel=_WRITTEN)
]
Encoding = Annotated[
    str | None, typer.Option(metavar="NAME", help="utf-8, cp1252, utf-16 and others.", rich_help_panel=_WRITTEN)
]
TimeFormat = Annotated[
    str | None,
    typer.Option(metavar="FORMAT", help="Of the times, e.g. '%d.%m.%Y %H:%M'.", rich_help_panel=_WRITTEN),
]
TimeZone = Annotated[
    str | None,
    typer.Option(metavar="ZONE", help="Of times without one, e.g. Europe/Berlin; else UTC.", rich_help_panel=_WRITTEN),
]
Missing = Annotated[
    str | None,
    typer.Option(
        "--na",
        metavar="WORD[,WORD]",
        help="More words or numbers for a missing value, e.g. -999; those such as - or n/a are known.",
        rich_help_panel=_WRITTEN,
    ),
]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        help="Whether the first row has the names; else they are column_1, column_2, ...",
        show_default=False,
        rich_help_panel=_WRITTEN,
    ),
]


def choices(
    delimiter: str | None,
    decimal: str | None,
    encoding: str | None,
    time_format: str | None,
    time_zone: str | None,
    na: str | None,
    header: bool | None,
) -> "Choices":
    """What these options say. Raises InvalidArgument."""
    from onlineguard.sources import Choices

    words = tuple(word.strip() for word in (na or "").split(",") if word.strip())
    return Choices(encoding, delimiter, header, decimal, time_format, time_zone, words)
