"""`onlineguard slidr lookups`: what was known of accounts and networks, built each night, and shown."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onlineguard.cli.exits import EXIT_CONFLICT, one_line_errors, print_error

if TYPE_CHECKING:
    from onlineguard.slidr.lookups.file import Version
    from onlineguard.slidr.lookups.nightly import Source

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

BUILD_EPILOG = """[bold]Exit codes[/bold]

0: built, or it was there already. 4: somebody else has built another version of the day just now. 2: it could not be \
done.

[bold]Examples[/bold]

Every night at one o'clock UTC, before `slidr retrain`:

  [cyan]onlineguard slidr lookups build --history state/history --out lookups --hosting hosting.csv[/cyan]

What would have been known on each day of a log, to train on it:

  [cyan]onlineguard slidr lookups build --clicks log.parquet --out lookups --day 2026-03-09[/cyan]

  [cyan]onlineguard slidr train log.parquet --lookups lookups --out model[/cyan]
"""


@app.callback()
def lookups() -> None:
    """What was known the night before of accounts, networks and others, as features of clicks.

    `build` makes a file of it for a day. A service that is started with --lookups looks clicks up in it, and so do \
`train`, `calibrate`, `evaluate` and `score` with a log.
    """


@app.command(epilog=BUILD_EPILOG)
def build(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the lookups of all days are.")],
    history: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="What the service wrote: history in its state folder.")
    ] = None,
    clicks: Annotated[Path | None, typer.Option(metavar="CLICKS", help="A log of clicks, in place of it.")] = None,
    mapping: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="As of `slidr train`, for a log with other columns.")
    ] = None,
    orders: Annotated[
        Path | None,
        typer.Option(
            metavar="ORDERS",
            help="Orders of the accounts, as of `slidr rfm`; without it scores are those that were sent, or of the "
            "purchases that are known of.",
        ),
    ] = None,
    hosting: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Networks of hosting companies, a line each: name,prefix or prefix alone."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="Days that baselines are means of.")] = 28,
    day: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="The last day that is known of, in UTC.", show_default="yesterday"),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Build it although that day has lookups already.")] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="Write JSON on standard output, and nothing else there.")
    ] = False,
) -> None:
    """Build the lookups of a day, unless they are there."""
    with one_line_errors():
        from datetime import date

        from onlineguard.cli import console
        from onlineguard.errors import Conflict, InvalidArgument
        from onlineguard.slidr.lookups import nightly
        from onlineguard.slidr.rfm import read_orders

        if (history is None) == (clicks is None):
            raise InvalidArgument("give one of --history and --clicks; lookups are built of it")
        try:
            last = None if day is None else date.fromisoformat(day)
        except ValueError:
            raise InvalidArgument("--day", f"is {day!r}; it must be a date, e.g. 2026-03-09") from None
        bought = None if orders is None else read_orders(orders)
        source = _source(history, clicks, mapping)
        try:
            built = nightly.build(out, source, last, days, bought, hosting, again, progress=console.say)
        except Conflict as error:
            print_error(error)
            raise typer.Exit(EXIT_CONFLICT) from None
        shown = _shown(built.version)
        if json_:
            print(json.dumps({**shown, "repeated": built.repeated}, indent=1))
            return
        entities = ", ".join(f"{n:,} {name}" for name, n in shown["entities"].items())
        console.say(
            f"{entities}; in force from {_time(built.version.about.since)}"
            + (", built by an earlier run" if built.repeated else ""),
            f"lookups: {built.version.path}",
        )


@app.command()
def show(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the lookups of all days are.")],
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """The lookups of a folder: of which day, in force from when, built of what, and how many entities they know."""
    with one_line_errors():
        from onlineguard.cli import console
        from onlineguard.slidr.lookups.lookups import Lookups

        found = Lookups(folder)
        rows = [_shown(version) for version in found.versions]
        if json_:
            print(json.dumps({"versions": rows, "damaged": list(found.damaged.values())}, indent=1))
            return
        if not rows and not found.damaged:
            console.say(f"{folder} has no lookups yet; next: onlineguard slidr lookups build")
            return
        console.print_rows(f"Lookups of {folder}, by when they come into force", [_row(row) for row in rows])
        for why in found.damaged.values():
            console.say(f"beware: {why}")


def _source(history: Path | None, clicks: Path | None, mapping: Path | None) -> "Source":
    from onlineguard.slidr.clicks import clicks as logs
    from onlineguard.slidr.history.reading import History
    from onlineguard.slidr.lookups.nightly import OfHistory, OfLog

    if history is not None:
        return OfHistory(History(history))
    assert clicks is not None  # one of the two is given
    return OfLog(logs.read_clicks(clicks, None if mapping is None else logs.Mapping.load(mapping)), str(clicks))


def _shown(version: "Version") -> dict[str, Any]:
    about = version.about
    return {
        "version": version.name,
        "as_of": about.as_of,
        "since": about.since,
        "days": about.days,
        "built_from": about.built_from,
        "hosting": about.hosting,
        "sha256": about.sha256,
        "bytes": version.path.stat().st_size,
        "entities": {name: len(table.keys) for name, table in version.tables.items()},
    }


def _row(shown: Mapping[str, Any]) -> dict[str, str]:
    return {
        "version": shown["version"],
        "in force from": _time(shown["since"]),
        **{name: f"{n:,}" for name, n in shown["entities"].items()},
        "MB": f"{shown['bytes'] / 1e6:,.1f}",
    }


def _time(ms: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(ms / 1_000, UTC):%Y-%m-%d %H:%M}"
