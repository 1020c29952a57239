"""`onlineguard slidr models`, `promote`, `rollback`, `trial`, `diff`, `retrain`: parses, calls, prints."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onlineguard.cli.exits import EXIT_CONFLICT, EXIT_REJECTED, one_line_errors, print_error
from onlineguard.cli.slidr import app
from onlineguard.cli.train import KindName

if TYPE_CHECKING:
    from onlineguard.records.versions import Change
    from onlineguard.slidr.retrain import Run


SHOWN = 12  # slices in a table

Url = Annotated[
    str,
    typer.Option(
        "--registry",
        metavar="FOLDER|URL",
        envvar="ONLINEGUARD_REGISTRY",
        help="A folder, or a URL such as s3://bucket/models (pip install 'onlineguard\\[s3]', gcs or azure).",
    ),
]
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, for whoever reads the log in a year.")]
Who = Annotated[
    str | None, typer.Option("--who", metavar="NAME", help="Who wants it.", show_default="user@host of this process")
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON on standard output, and nothing else there.")]


@app.command()
def models(registry: Url, json_: AsJson = False) -> None:
    """Show the versions of a registry, which of them is live, and what its guardrails said."""
    with _errors():
        from onlineguard.slidr.registry.registry import Registry

        found = Registry(registry)
        head, changes = found.head(), found.changes()
        records = sorted((found.record(version) for version in found.versions()), key=lambda record: record.made)
        if json_:
            _print(
                {
                    "current": head and head.current,
                    "previous": head and head.previous,
                    "trial": head and head.trial,
                    "share": head and head.share,
                    "versions": records,
                    "changes": changes,
                }
            )
            return
        from onlineguard.cli import console

        def place(version: str) -> str:
            if head is None:
                return ""
            if version == head.trial:
                return f"on trial, {head.share:.3g} of the users" if head.share else "on trial, decides nothing"
            return "current" if version == head.current else "previous" if version == head.previous else ""

        console.print_rows(
            f"Models of {registry}",
            [
                {
                    "version": record.version,
                    "": place(record.version),
                    "trained": f"{_day(record.trained['since'])} to {_day(record.trained['until'])}",
                    "clicks": f"{record.trained['clicks']:,}",
                    "people": f"{record.trained['humans']:,}",
                    **{name.upper(): _share(record.metrics, name) for name in ("ivr", "fpr", "coverage")},
                    "guardrails": f"failed {', '.join(record.failed)}"
                    if record.failed
                    else "passed" * bool(record.guardrails),
                    "made by": record.who,
                }
                for record in records
            ],
        )
        console.print_rows("Changes, the latest first", [_change_row(change) for change in reversed(changes[-SHOWN:])])
        if not records:
            console.say(f"{registry} has no models yet; next: onlineguard slidr retrain")


@app.command()
def promote(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A version of the registry, or a model's folder.")],
    registry: Url,
    why: Why,
    who: Who = None,
    force: Annotated[
        bool, typer.Option("--force", help="Promote it although guardrails failed; the log says so.")
    ] = False,
    json_: AsJson = False,
) -> None:
    """Make a version the live one. The folder of a model that `slidr train` wrote is added first."""
    with _errors():
        from onlineguard.slidr.registry.registry import Registry

        found = Registry(registry)
        if Path(version).is_dir():
            version = found.add(version, who=who).version
        _say_change(found.promote(version, why, who=who, force=force), json_)


@app.command()
def rollback(registry: Url, why: Why, who: Who = None, json_: AsJson = False) -> None:
    """Make the version before the live one live again. A second rollback goes one version further back."""
    with _errors():
        from onlineguard.slidr.registry.registry import Registry

        _say_change(Registry(registry).rollback(why, who=who), json_)


TRIAL_EPILOG = """[bold]Examples[/bold]

A candidate judges every click beside the live model, and decides none:

  [cyan]onlineguard slidr trial VERSION --registry models --why "new features"[/cyan]

It decides the clicks of one user in twenty, and then of none:

  [cyan]onlineguard slidr trial VERSION --share 0.05 --registry models --why "it did well in the shadow"[/cyan]
  [cyan]onlineguard slidr trial --end --registry models --why "it marks buyers"[/cyan]

Services that follow the registry take it up at their next look, and GET /v1/trial of each compares the two. A promotion
or a rollback ends a trial too.
"""


@app.command(epilog=TRIAL_EPILOG)
def trial(
    registry: Url,
    why: Why,
    version: Annotated[
        str | None, typer.Argument(metavar="VERSION", help="A version of the registry, or a model's folder.")
    ] = None,
    share: Annotated[
        float, typer.Option("--share", min=0.0, max=1.0, help="Share of the users whose clicks it decides.")
    ] = 0.0,
    end: Annotated[bool, typer.Option("--end", help="End the trial.")] = False,
    who: Who = None,
    force: Annotated[
        bool, typer.Option("--force", help="Let it decide although guardrails failed; the log says so.")
    ] = False,
    json_: AsJson = False,
) -> None:
    """Let a version judge beside the live one, and decide the clicks of a share of the users; or end the trial."""
    with _errors():
        from onlineguard.errors import InvalidArgument
        from onlineguard.slidr.registry.registry import Registry

        found = Registry(registry)
        if end == (version is not None):
            raise InvalidArgument("VERSION", "or --end must be given, and not both")
        if version is None:
            change = found.end_trial(why, who=who)
        else:
            if Path(version).is_dir():
                version = found.add(version, who=who).version
            change = found.trial(version, why, share=share, who=who, force=force)
        _say_change(change, json_)


@app.command()
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A version.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another version.")],
    registry: Url,
    json_: AsJson = False,
) -> None:
    """Show metrics, thresholds, slices and features of two versions side by side."""
    with _errors():
        from onlineguard.slidr.registry.diff import difference
        from onlineguard.slidr.registry.registry import Registry

        found = difference(Registry(registry), a, b)
        if json_:
            _print(found)
            return
        from onlineguard.cli import console

        for title, rows in (("What they are", found["facts"]), ("Metrics", found["metrics"])):
            console.print_rows(title, [{"": row["name"], a: _text(row["a"]), b: _text(row["b"])} for row in rows])
        changed = [row for row in found["thresholds"] if row["a"] != row["b"]]
        console.print_rows(
            f"Thresholds: {len(changed)} of {len(found['thresholds'])} differ",
            [{"slice": row["name"], a: _text(row["a"]), b: _text(row["b"])} for row in changed[:SHOWN]],
        )
        drifted = found["features"][:SHOWN]
        console.print_rows(
            "Features that differ most in training: the largest difference of their cumulative distributions",
            [{"feature": row["name"], "distance": f"{row['distance']:.3f}"} for row in drifted],
        )


RETRAIN_EPILOG = """[bold]Exit codes[/bold]

0: promoted, or the same model is live already. 3: rejected, with the reasons. 4: another run is going on, or the \
registry was changed meanwhile; try again later. 2: it could not be done.

[bold]Guardrails[/bold]

Their limits may be set in a TOML file, a table a guardrail: [cyan]\\[outages][/cyan] [cyan]least = 0.2[/cyan], or \
[cyan]off = true[/cyan].

[bold]Examples[/bold]

Every night, soon after midnight UTC:

  [cyan]onlineguard slidr retrain --history state/history --registry models --json[/cyan]

A rejected model goes live all the same:

  [cyan]onlineguard slidr promote VERSION --registry models --why "the outage was announced" --force[/cyan]
"""


@app.command(epilog=RETRAIN_EPILOG)
def retrain(
    history: Annotated[
        Path, typer.Option("--history", metavar="FOLDER", help="What the service wrote: history in its state folder.")
    ],
    registry: Url,
    days: Annotated[int, typer.Option(min=1, help="Days that the model is trained on.")] = 7,
    calibrate_days: Annotated[int, typer.Option(min=1, help="Days after those, on which thresholds are chosen.")] = 7,
    measure_days: Annotated[
        int, typer.Option(min=1, help="Last days, on which it is compared with the live model.")
    ] = 1,
    day: Annotated[
        str | None, typer.Option(metavar="DATE", help="The last day to use, in UTC.", show_default="yesterday")
    ] = None,
    kind: Annotated[
        KindName | None, typer.Option(help="As of `slidr train`.", show_default="that of the live model, or mlp")
    ] = None,
    slice_: Annotated[
        str | None,
        typer.Option(
            "--slice", metavar="COLUMN[,COLUMN]", help="As of `slidr train`.", show_default="those of the live model"
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            help="Share of purchasing clicks that may be called robotic.",
            show_default="that of the live model, or 0.01",
        ),
    ] = None,
    guardrails: Annotated[
        Path | None, typer.Option("--guardrails", metavar="FILE.toml", help="Other limits of the guardrails.")
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work",
            metavar="FOLDER",
            help="Where it works, on a local disk.",
            show_default="retrain beside the history",
        ),
    ] = None,
    who: Who = None,
    again: Annotated[bool, typer.Option("--again", help="Do it although that day has an outcome already.")] = False,
    json_: AsJson = False,
) -> None:
    """Train on the last days of a history, calibrate, check, and promote the model or reject it, once a day."""
    with _errors():
        import dataclasses
        from datetime import date

        from onlineguard.cli import console
        from onlineguard.errors import InvalidArgument
        from onlineguard.slidr.guardrails.checks import Settings
        from onlineguard.slidr.history.reading import History
        from onlineguard.slidr.pipeline import Config
        from onlineguard.slidr.registry.registry import Registry
        from onlineguard.slidr.retrain import CHECKS, Plan
        from onlineguard.slidr.retrain import retrain as run

        found = Registry(registry)
        live = found.current()
        model = None if live is None else found.load(live)
        config = Config() if model is None else model.config
        if kind is not None:
            config = dataclasses.replace(config, kind=kind.value)
        if slice_ is not None:
            config = dataclasses.replace(
                config, slices=tuple(name.strip() for name in slice_.split(",") if name.strip())
            )
        options: dict[str, Any] = {} if model is None else dict(model.options)
        if budget is not None:
            options |= {"budget": budget}
        try:
            last = None if day is None else date.fromisoformat(day)
        except ValueError:
            raise InvalidArgument("--day", f"is {day!r}; it must be a date, e.g. 2026-03-09") from None
        settings = Settings() if guardrails is None else Settings.load(guardrails, CHECKS)
        plan = Plan(days, calibrate_days, measure_days, config, options, settings)
        ended = run(History(history), found, plan, last, work, who, again, console.say)
        if json_:
            _print(ended)
        else:
            for each in ended.guardrails:
                print(f"{each.name:<12}{each.outcome:<9}{each.sentence}")
        _say_run(ended)
        if ended.outcome == "rejected":
            raise typer.Exit(EXIT_REJECTED)


@contextmanager
def _errors() -> Generator[None]:
    """As all commands end, and code 4 for a conflict, which a scheduler may try again."""
    from onlineguard.errors import Conflict

    with one_line_errors():
        try:
            yield
        except Conflict as error:
            print_error(error)
            raise typer.Exit(EXIT_CONFLICT) from None


def _say_change(change: "Change", json_: bool) -> None:
    if json_:
        _print(change)
        return
    from onlineguard.cli import console

    if change.action in ("trial", "end trial"):
        candidate = f"{change.trial} is on trial beside {change.current}" if change.trial else "no version is on trial"
        decides = f", and decides the clicks of {change.share:.3g} of the users" if change.share else ""
        console.say(f"{candidate}{decides}, change {change.generation} by {change.who}: {change.why}")
    else:
        _say_current(change)
    if change.forced:
        console.say(f"beware: it failed {', '.join(change.forced)}")


def _say_current(change: "Change") -> None:
    from onlineguard.cli import console

    instead = f" in place of {change.replaced}" if change.replaced else ""
    back = f"; a rollback leads to {change.previous}" if change.previous else ""
    console.say(f"{change.current} is live{instead}, change {change.generation} by {change.who}: {change.why}{back}")


def _say_run(run: "Run") -> None:
    from onlineguard.cli import console

    console.say(*(f"beware: {reason}" for reason in run.reasons))
    made = "no model was made" if run.version is None else f"model {run.version}"
    ended = {"promoted": "is live", "rejected": "was rejected", "unchanged": "is live as before"}[run.outcome]
    again = ", by an earlier run" if run.repeated else f" in {run.seconds:,.0f} s"
    console.say(f"{run.day}: {made} {ended}{again}" if run.version else f"{run.day}: {made}{again}")


def _change_row(change: "Change") -> dict[str, str]:
    from datetime import UTC, datetime

    return {
        "change": str(change.generation),
        "when": f"{datetime.fromtimestamp(change.when / 1_000, UTC):%Y-%m-%d %H:%M}",
        "what": change.action
        + (f" of {change.trial}, share {change.share:.3g}" if change.trial else "")
        + (f", forced past {', '.join(change.forced)}" if change.forced else ""),
        "from": change.replaced or "",
        "to": change.current,
        "who": change.who,
        "why": change.why,
    }


def _share(metrics: dict[str, Any], name: str) -> str:
    value = metrics.get("overall", {}).get(name, {}).get("value")
    return "" if value is None else f"{value:.2%}"


def _day(ms: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(ms / 1_000, UTC):%Y-%m-%d}"


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)


def _print(value: Any) -> None:
    import msgspec

    print(json.dumps(msgspec.to_builtins(value), indent=1))
