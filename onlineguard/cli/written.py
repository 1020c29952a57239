"""Options of `run` and `inspect`: the source, and how it is written where that is not told from its first block."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from onlineguard.sources import Choices

_WRITTEN = "How the file is written, if its first block misleads"
SourceName = Annotated[
    str,
    typer.Argument(
        help="A text (.csv, .tsv, .txt, .ndjson, also .gz, .bz2, .xz, .zst, .lz4), .parquet, .xlsx, .zip or .tar; a "
        "folder, a pattern in quotes, a URL (https, s3, gs, abfs); or - for a pipe."
    ),
]


@dataclass(frozen=True)
class Written:
    """How a text is written, as far as the command line says it."""

    delimiter: Annotated[
        str | None,
        typer.Option(metavar="SIGN", help="Between two fields, e.g. ';', or tab, or blanks.", rich_help_panel=_WRITTEN),
    ] = None
    decimal: Annotated[
        str | None, typer.Option(metavar="SIGN", help="The decimal mark: . or , as in 1,5.", rich_help_panel=_WRITTEN)
    ] = None
    encoding: Annotated[
        str | None, typer.Option(metavar="NAME", help="utf-8, cp1252, utf-16 and others.", rich_help_panel=_WRITTEN)
    ] = None
    time_format: Annotated[
        str | None,
        typer.Option(metavar="FORMAT", help="Of the times, e.g. '%d.%m.%Y %H:%M'.", rich_help_panel=_WRITTEN),
    ] = None
    time_zone: Annotated[
        str | None,
        typer.Option(
            metavar="ZONE", help="Of times without one, e.g. Europe/Berlin; else UTC.", rich_help_panel=_WRITTEN
        ),
    ] = None
    na: Annotated[
        str | None,
        typer.Option(
            metavar="WORD[,WORD]",
            help="More words or numbers for a missing value, e.g. -999; those such as - or n/a are known.",
            rich_help_panel=_WRITTEN,
        ),
    ] = None
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header",
            help="Whether the first row has the names; else they are column_1, column_2, ...",
            show_default=False,
            rich_help_panel=_WRITTEN,
        ),
    ] = None

    def choices(self) -> "Choices":
        """These options as a source takes them. Raises InvalidArgument."""
        from onlineguard.sources import Choices

        words = tuple(word.strip() for word in (self.na or "").split(",") if word.strip())
        return Choices(
            self.encoding, self.delimiter, self.header, self.decimal, self.time_format, self.time_zone, words
        )

    def flags(self) -> list[str]:
        """The options that were given, as a command line has them."""
        given: list[str] = []
        for name, value in asdict(self).items():
            flag = name.replace("_", "-")
            if isinstance(value, bool):
                given.append(f"--{flag}" if value else f"--no-{flag}")
            elif value is not None:
                given += [f"--{flag}", value]
        return given
