"""`onlineguard run`: every event of a stream judged against its own slice."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from onlineguard.cli import written
from onlineguard.cli.configuration import configured
from onlineguard.cli.exits import EXIT_INTERRUPTED, one_line_errors
from onlineguard.cli.options import with_options


class DetectorName(StrEnum):
    auto = "auto"
    point = "point"
    marginal = "marginal"
    series = "series"


EPILOG = """[bold]Examples[/bold]

Server metrics, one series a slice, with alarms in an HTML report:

  [cyan]onlineguard run metrics.csv.gz --slice metric --feature value --time timestamp --report report.html[/cyan]

Whatever numbers a spreadsheet has; how it is written is told from the file, and said:

  [cyan]onlineguard run umsatz.xlsx --report report.html[/cyan]

Every event as a point of several numbers, verdicts to a file, and continued the next day:

  [cyan]onlineguard run mon.ndjson --slice country,device --feature age,clicks --state s.og --out mon.parquet[/cyan]

  [cyan]onlineguard run tue.ndjson --slice country,device --feature age,clicks --state s.og --out tue.parquet[/cyan]

A log as it grows, a verdict for every line at once:

  [cyan]tail -n +1 -f requests.csv | onlineguard run - --slice host --feature 'latency*' --follow[/cyan]

All files of a day on an object store, and measured against known anomalies:

  [cyan]onlineguard run 's3://logs/2026-03-02/*.csv.zst' --slice host --feature latency --label incident[/cyan]

Exit codes: 0 done; 2 wrong use, or a source or state file that cannot be used; 130 Ctrl-C or SIGTERM, after what was
judged until then has been written. A run that breaks off in any other way writes nothing: it can be repeated.
"""

_VERDICTS = "Verdicts"


@with_options
def run(
    source: written.SourceName,
    feature: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN[,COLUMN]",
            help="What to judge: numbers, or texts, which are categories. Patterns such as 'load*' stand for several "
            "columns. Without it, every column with numbers.",
        ),
    ] = None,
    slice_: Annotated[
        str | None,
        typer.Option(
            "--slice",
            metavar="COLUMN[,COLUMN]",
            help="What makes a slice, such as a host. Without it all events are one slice.",
        ),
    ] = None,
    category: Annotated[
        str | None,
        typer.Option(metavar="COLUMN[,COLUMN]", help="Features whose numbers are categories, such as a status."),
    ] = None,
    time: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="When an event was; for series, the report and delays.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="1 for known anomalies: measured against, never learned from.")
    ] = None,
    detector: Annotated[
        DetectorName,
        typer.Option(
            help="point: each event by itself. marginal: each number by itself, which is several times as fast. "
            "series: given the slice's own past; a run of odd values is one alarm. "
            "auto: series with --time and up to 4 numbers that depend on those before, else point."
        ),
    ] = DetectorName.auto,
    rate: Annotated[
        float | None,
        typer.Option(help="Share of usual events that may be flagged, up to 0.2; else 0.01, of a series 0.0005."),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="EVENTS",
            help="How long a new regime must last before it counts as usual; else 5,000. Not for a series.",
        ),
    ] = None,
    lags: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=20,
            metavar="EVENTS",
            help="Judge each event together with this many before it in its slice; else 0. A series looks at its past "
            "anyhow.",
        ),
    ] = None,
    pause: Annotated[
        int | None,
        typer.Option(
            "--pause",
            "--hold",
            min=0,
            metavar="EVENTS",
            help="Events of a series after an alarm that raise no other; else 60. Only for a series.",
        ),
    ] = None,
    state: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Continue from this file if it exists; written at the end.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Verdicts, a row an event: .parquet, .csv or .ndjson.", rich_help_panel=_VERDICTS
        ),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN[,COLUMN]",
            help="Columns that the verdicts have as well, such as an id or the features; patterns, too.",
            rich_help_panel=_VERDICTS,
        ),
    ] = None,
    drivers: Annotated[
        bool,
        typer.Option(
            "--drivers",
            help="With the feature that made an event odd, and its share; slow where much is odd.",
            rich_help_panel=_VERDICTS,
        ),
    ] = False,
    alarms: Annotated[
        bool,
        typer.Option(
            "--alarms",
            help="With the number of the alarm that an odd event belongs to: odd events close together are one.",
            rich_help_panel=_VERDICTS,
        ),
    ] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Self-contained HTML of the oddest slices.")
    ] = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            "-f",
            help="Judge each line as soon as it comes, and write its verdict to standard output as JSON; a file is "
            "read on when it grows or is rotated. Ends with the pipe, or by Ctrl-C.",
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first row or field that cannot be read.")
    ] = False,
    *,
    how: written.Written,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            is_eager=True,
            callback=configured,
            help="TOML file whose table \\[run] has options by their names; those given here come first.",
        ),
    ] = None,
) -> None:
    """Judge every event of a stream against its own slice, and learn from it.

    How a text file is written is found from its first block, and printed. A field that cannot be read is missing.

    Rows that cannot be read are written to SOURCE.rejects.ndjson with their line number and the reason.
    """
    with one_line_errors():
        from onlineguard.cli import console, runner
        from onlineguard.cli.sinks import VerdictLines, VerdictWriter
        from onlineguard.report import SeriesRecorder, write_report
        from onlineguard.report.quality import GAP
        from onlineguard.sources import Source

        events = Source(
            source,
            _columns("--slice", slice_) or [],
            _columns("--feature", feature),
            time,
            label,
            strict=strict,
            category_columns=_columns("--category", category) or [],
            choices=how.choices(),
            kept_columns=_columns("--keep", keep) or [],
            follow=follow,
        )
        runner.check_destinations(events, {"state": state, "out": out, "report": report})
        first = events.peek()
        features = events.feature_columns
        kind, reason = runner.choose_detector(detector.value, len(features), time is not None, first, lags)
        engine = runner.open_engine(
            features, kind, rate, patience, state, events.slice_columns, events.categories, pause, lags
        )
        console.say_read(events, named=feature is not None)
        console.say_start(kind, reason, engine, state)
        if follow:
            engine.warmup(1)
        writer = VerdictWriter(out, events.slice_columns, drivers, alarms) if out is not None else None
        lines = VerdictLines(events.slice_columns, drivers, alarms) if follow else None
        try:
            with console.progress(events.name, events.total_bytes, lambda: events.bytes_read, off=follow) as progress:
                summary = runner.run(
                    events,
                    engine,
                    writers=[one for one in (lines, writer) if one is not None],
                    recorder=SeriesRecorder(gap=GAP),
                    explain=report is not None,
                    progress=progress,
                )
            if report is not None:
                shown = summary.oddest[: console.REPORTED]
                write_report(report, shown, console.facts(summary), f"Anomalies in {events.name}")
            with runner.undisturbed():  # the verdicts and the state that gave them belong together
                if writer is not None:
                    writer.commit()
                if state is not None:
                    engine.save(state)
        finally:
            if writer is not None:
                writer.discard()
        console.print_summary(summary, events, {"verdicts": out, "report": report, "state": state}, aside=follow)
        if summary.interrupted:
            raise typer.Exit(EXIT_INTERRUPTED)


def _columns(flag: str, names: str | None) -> list[str] | None:
    from onlineguard.errors import InvalidArgument

    if names is None:
        return None
    columns = [name.strip() for name in names.split(",") if name.strip()]
    if not columns:
        raise InvalidArgument(flag, f"is {names!r}; it must name at least one column, e.g. {flag} host")
    return columns
