"""`onlineguard slidr replay`: the clicks of a history judged anew, and what that changes."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onlineguard.cli.exits import EXIT_CONFLICT, one_line_errors

if TYPE_CHECKING:
    from onlineguard.slidr.history.reading import History
    from onlineguard.slidr.model import Model
    from onlineguard.slidr.replay.bill import Bill, By
    from onlineguard.slidr.replay.publishing import Receiver

SHOWN = 12  # rows of a table

EPILOG = """[bold]Times[/bold]

A time is a share of the history's time, [cyan]50%[/cyan]; a time after its first click, [cyan]36h[/cyan] or \
[cyan]7d[/cyan]; or a time in UTC, [cyan]2026-03-09T00:00[/cyan].

[bold]Examples[/bold]

What the model before would have decided about a day, by slice, ad and advertiser; nothing is published:

  [cyan]onlineguard slidr replay onlineguard-state/history --model 0c1d2e3f4a5b --from 2026-03-09 --to 2026-03-10 \
--prices ads.csv --dry-run[/cyan]

The decisions that differ, a line each. Started again after a kill, it goes on where it was:

  [cyan]onlineguard slidr replay onlineguard-state/history --model model --from 2026-03-09 --to 2026-03-10 --changed \
--out delayed.ndjson[/cyan]

The same to the service, which answers with them from then on. It needs a key with the scope admin:

  [cyan]onlineguard slidr replay onlineguard-state/history --model model --from 2026-03-09 --to 2026-03-10 --changed \
--service http://127.0.0.1:8080[/cyan]
"""


def replay(
    folder: Annotated[Path, typer.Argument(metavar="HISTORY", help="`history` in the state of the service.")],
    model: Annotated[
        str,
        typer.Option(metavar="FOLDER|VERSION", help="A model's folder, or a version that the service had."),
    ],
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="Clicks from this time on.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Clicks before this time.")] = None,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Count the clicks again, in place of the features that were recorded.")
    ] = False,
    lookups: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="With --recompute: look clicks up again, in place of what was found then and recorded.",
        ),
    ] = None,
    changed: Annotated[bool, typer.Option("--changed", help="Publish only decisions that differ.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write decisions to this file, a JSON object a line.")
    ] = None,
    redis: Annotated[
        str | None, typer.Option(metavar="URL", help="Publish decisions to a stream of this Redis.")
    ] = None,
    service: Annotated[
        str | None, typer.Option(metavar="URL", help="Send decisions to this service, whose history it is.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", envvar="ONLINEGUARD_API_KEY", help="Key of the service, with the scope admin."),
    ] = None,
    stream: Annotated[str, typer.Option(help="Name of the stream.")] = "{onlineguard}:delayed",
    prices: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Table of ad_id, advertiser, and price of a click: .csv, .ndjson, .parquet."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Publish nothing; show what would change.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print what changes as JSON.")] = False,
) -> None:
    """Judge the clicks of a history anew, by another model or with other features, and publish the decisions.

    Each decision names the one that it replaces. Repeating a replay publishes nothing twice.
    """
    with one_line_errors():
        from onlineguard.cli import console
        from onlineguard.errors import InvalidArgument
        from onlineguard.slidr.history.reading import History
        from onlineguard.slidr.lookups.lookups import opened
        from onlineguard.slidr.replay.bill import Bill, read_prices
        from onlineguard.slidr.replay.publishing import publish
        from onlineguard.slidr.replay.replay import complete, replayed

        if sum((dry_run, out is not None, redis is not None, service is not None)) != 1:
            raise InvalidArgument("give one of --out, --redis, --service and --dry-run; it says where the decisions go")
        if lookups is not None and not recompute:
            raise InvalidArgument("--lookups goes with --recompute; without it what was found then is taken")
        history = History(folder)
        chosen = _model(model, folder)
        start, end = _times(history, since, until)
        if recompute and not complete(history, start):
            console.say("beware: the history is not complete, so some clicks are counted of less than they were live")
        bill = Bill(None if prices is None else read_prices(prices))
        frames = bill.counting(replayed(history, chosen, start, end, recompute, lookups and opened(lookups)))
        clicks = history.rows(start, end)
        with console.progress("replay", clicks, noun="clicks") as progress:
            made = "recorded" if not recompute else "recomputed" if lookups is None else "recomputed:looked up"
            run = f"{chosen.version}:{start}:{end}:{made}"
            with ExitStack() as stack:
                receiver = None if dry_run else _receiver(out, redis, stream, service, key, chosen, run, stack)
                for done in _passed(frames) if receiver is None else publish(frames, receiver, changed):
                    progress(done)
        _show(bill, json_)
        if service is not None:
            _told(receiver)


def _passed(frames: "Iterator[Any]") -> Iterator[int]:
    done = 0
    for frame in frames:
        done += frame.height
        yield done


def _receiver(
    out: Path | None,
    redis: str | None,
    stream: str,
    service: str | None,
    key: str | None,
    model: "Model",
    run: str,
    stack: ExitStack,
) -> "Receiver":
    from onlineguard.slidr.replay.publishing import File, Stream

    if out is not None:
        return File(out, model.version)
    if redis is not None:
        return Stream(redis, stream, run)
    from onlineguard.client.receiver import Service
    from onlineguard.client.sync import Client

    return Service(stack.enter_context(Client(service, api_key=key)))


def _told(service: "Any") -> None:
    """What the service did with the decisions. Exits with 4 where others are in force than those to be replaced."""
    from onlineguard.cli import console

    told = service.told
    console.say(
        f"the service has {told['applied']:,} new decisions, {service.unknown:,} of them about clicks that it has "
        f"forgotten; {told['repeated']:,} it had already"
    )
    if told["conflict"]:
        console.say(f"{told['conflict']:,} were not taken, since others are in force by now: replay again")
        raise typer.Exit(EXIT_CONFLICT)


def _model(named: str, history: Path) -> "Model":
    """The model in a folder, or of a version that the service of the history had."""
    from onlineguard.slidr.model import load_model

    kept = history.parent / "models" / named
    return load_model(kept if not Path(named).is_dir() and kept.is_dir() else Path(named))


def _times(history: "History", since: str | None, until: str | None) -> tuple[int, int]:
    from onlineguard.errors import InvalidArgument
    from onlineguard.slidr.pipeline import moment

    if history.span is None:
        raise InvalidArgument(f"{history.path} has no clicks yet")
    first, end = history.span
    start = first if since is None else moment(since, first, end - 1, "--from")
    stop = end if until is None else moment(until, first, end - 1, "--to")
    if not history.rows(start, stop):
        raise InvalidArgument(f"--from {since} --to {until} leaves no clicks; see onlineguard slidr history")
    return start, stop


def _show(bill: "Bill", as_json: bool) -> None:
    from onlineguard.cli import console

    columns: list[By] = ["slice", "ad_id", "advertiser"]
    by = {name: bill.by(name) for name in columns[: 3 if bill.priced else 2]}
    (total,) = bill.by().to_dicts()
    if as_json:
        print(json.dumps({"total": total, **{name: table.to_dicts() for name, table in by.items()}}, indent=1))
        return
    for name, table in by.items():
        rows = [_row(name, row, bill.priced) for row in table.head(SHOWN).to_dicts()]
        console.print_rows(f"What changes by {name.removesuffix('_id')}, the most first", rows)
    bills = f"the bill of {total['was_billed']:,.2f} becomes {total['billed']:,.2f}"
    money = f"; {bills}: refund {total['refund']:,.2f}, charge {total['charge']:,.2f}" if bill.priced else ""
    console.say(
        f"{total['clicks']:,} clicks: {total['was_robotic']:,} were robotic, {total['robotic']:,} are; "
        f"{total['now_robotic']:,} become robotic, {total['now_valid']:,} become valid, of which "
        f"{total['purchases_freed']:,} had led to a purchase{money}"
    )


def _row(name: str, row: dict[str, Any], priced: bool) -> dict[str, str]:
    shown = {name.removesuffix("_id"): str(row[name]), "clicks": f"{row['clicks']:,}"}
    shown |= {
        "robotic before": f"{row['was_robotic']:,}",
        "after": f"{row['robotic']:,}",
        "become robotic": f"{row['now_robotic']:,}",
        "become valid": f"{row['now_valid']:,}",
    }
    return shown | ({"refund": f"{row['refund']:,.2f}", "charge": f"{row['charge']:,.2f}"} if priced else {})
