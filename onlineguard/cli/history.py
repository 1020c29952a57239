"""`onlineguard slidr history`: what a service has kept of its clicks, and one person taken out of it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from onlineguard.cli.exits import one_line_errors

if TYPE_CHECKING:
    from onlineguard.slidr.history.reading import Day

GAPS = 3  # of a day that a table shows


class _ShowUnlessNamed(TyperGroup):
    """`history FOLDER` is `history show FOLDER`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_ShowUnlessNamed, no_args_is_help=True, rich_markup_mode="rich")
Folder = Annotated[Path, typer.Argument(metavar="HISTORY", help="The folder, `history` in the state of the service.")]

EPILOG = """[bold]Examples[/bold]

  [cyan]onlineguard slidr history onlineguard-state/history[/cyan]

  [cyan]onlineguard slidr history erase onlineguard-state/history --user 4711[/cyan]
"""


@app.callback(epilog=EPILOG)
def history() -> None:
    """What a service has kept of its clicks: `history HISTORY` shows it by day, `erase` removes a person.

    It is Parquet, in folders by day of arrival, so polars, DuckDB, pandas and Spark read it too.
    """


@app.command(epilog=EPILOG)
def show(
    folder: Folder,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """The days of a history: clicks, purchases, hours without clicks, and how late purchases become known."""
    with one_line_errors():
        from onlineguard.cli import console
        from onlineguard.slidr.history.reading import History

        found = History(folder)
        days, missing = found.days(), found.missing()
        if json_:
            plain = {"days": [day._asdict() for day in days], "missing": [gap._asdict() for gap in missing]}
            print(json.dumps(plain, indent=1))
            return
        console.print_rows(f"Clicks of {folder}, by their own day in UTC", [_row(day) for day in days])
        for gap in missing:
            console.say(f"beware: entries {gap.first:,} to {gap.last:,} of journal {gap.source!r} have no file")


@app.command(epilog=EPILOG)
def erase(
    folder: Folder,
    user: Annotated[str, typer.Option(metavar="ID", help="user_id of the person, as it was sent.")],
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The key of the pseudonyms, where the history has them.",
            show_default="history.key beside the folder",
        ),
    ] = None,
) -> None:
    """Remove the clicks of a person, and the labels of these clicks.

    A running service holds the clicks of the last minutes in its journal, so run it again some minutes after the last \
click of that person.
    """
    with one_line_errors():
        from onlineguard.cli import console
        from onlineguard.slidr.history import keeping
        from onlineguard.slidr.history.pseudonyms import Pseudonyms, read_key
        from onlineguard.slidr.history.reading import History

        History(folder)
        beside = folder.parent / "history.key"
        file = key or (beside if beside.exists() else None)
        erased = keeping.erase(folder, user, None if file is None else Pseudonyms(read_key(file)))
        console.say(f"erased {erased.clicks:,} clicks and {erased.labels:,} labels of theirs from {folder}")


def _row(day: "Day") -> dict[str, Any]:
    from onlineguard.slidr.history.reading import HOUR

    hours = [f"{since // HOUR % 24:02}-{until // HOUR % 24 or 24:02} h" for since, until in day.gaps]
    return {
        "day": day.day,
        "clicks": f"{day.rows:,}",
        "robotic": f"{day.robotic / day.rows:.2%}",
        "purchases": f"{day.purchases:,}",
        "with RFM": f"{day.vouched:,}",
        "no clicks": ", ".join(hours[:GAPS]) + (f" and {len(hours) - GAPS} more" if len(hours) > GAPS else ""),
        "purchase known after": "" if day.delay is None else f"{day.delay[0]:.1f} h (90 %: {day.delay[1]:.1f} h)",
    }
