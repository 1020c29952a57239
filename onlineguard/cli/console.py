"""The output of the command line: progress and remarks on standard error, tables on standard output."""

import math
import shlex
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from onlineguard.cli.demo import ONLINEGUARD, Comparison
from onlineguard.cli.exits import clean
from onlineguard.cli.inspection import codes_hint
from onlineguard.cli.runner import Summary
from onlineguard.engine.engine import Engine
from onlineguard.report.quality import Quality
from onlineguard.sources import Source

if TYPE_CHECKING:  # both are of the extra `slidr`, which most commands do without
    from onlineguard.cli.story import Group, Story
    from onlineguard.slidr.simulation.tally import Tally

SHOWN, REPORTED = 5, 20  # slices in the table, and in the report
_STYLE: dict[str, Any] = {"box": SIMPLE_HEAD, "title_justify": "left", "title_style": "bold"}


def say_start(detector: str, reason: str, engine: Engine, state: Path | None) -> None:
    """Say which detector judges, and how many events it knows already."""
    known = f"; {engine.n_events:,} events known from {state}" if engine.n_events else ""
    _remark(f"detector: {detector}, {reason}{known}")


def say_read(source: Source, named: bool) -> None:
    """Say how the source is read, which features it has unless they were named, and what could tell slices apart."""
    more = f", the first of {len(source.places):,} files" if len(source.places) > 1 else ""
    _remark(f"{clean(source.places[0].name)}{more}: {clean(source.described)}")
    features, categories = source.feature_columns, source.categories
    if not named or categories:
        listed = ", ".join(features[:SHOWN]) + (f" and {len(features) - SHOWN:,} more" if len(features) > SHOWN else "")
        as_texts = f"; categories: {', '.join(categories[:SHOWN])}" if categories else ""
        _remark(f"features: {clean(listed + as_texts)}" + ("" if named else " (--feature names others)"))
    for name, codes in list(source.proposed_categories.items())[:SHOWN]:
        _remark(codes_hint(name, codes))
    if source.proposed_slice is not None:
        name, distinct = source.proposed_slice
        _remark(f"all events are one slice; --slice {clean(name)} would tell {distinct:,} apart")
    if source.proposed_time is not None:
        _remark(f"{clean(source.proposed_time)} holds times: --time {shlex.quote(clean(source.proposed_time))}")


@contextmanager
def progress(
    name: str,
    total: int | None,
    done: Callable[[], int] | None = None,
    noun: str = "events",
    off: bool = False,
) -> Generator[Callable[[int], None]]:
    """A bar with events a second while on a terminal, and a final line; call what it gives with the events so far.

    `done` of `total` says how far that is, in events where it is not given; None where nobody knows the total. `name`
    says which stage this is, `noun` what it counts. `off`: only the final line.
    """
    began, so_far = time.perf_counter(), 0
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn(f"{{task.fields[events]:,}} {noun}"),
        TextColumn("{task.fields[speed]:,.0f}/s", style="cyan"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=off or not console.is_terminal) as bar:
        task = bar.add_task(clean(name), total=total, events=0, speed=0.0)

        def advance(events: int) -> None:
            nonlocal so_far
            so_far = events
            speed = events / (time.perf_counter() - began)
            bar.update(task, completed=done() if done else events, events=events, speed=speed)

        yield advance
    seconds = time.perf_counter() - began
    _remark(f"{clean(name)}: {so_far:,} {noun} in {seconds:.1f} s, {so_far / seconds:,.0f} a second")


def facts(summary: Summary) -> dict[str, Any]:
    """The figures of a run, in the order in which they are shown."""
    shown: dict[str, Any] = {
        "Events": summary.events,
        "Slices": summary.slices,
        "Anomalies": summary.anomalies,
        "Share of events": f"{summary.anomalies / max(summary.events, 1):.2%}",
        "Rejected rows": summary.rejected,
        **({"Unreadable fields": summary.bad_fields} if summary.bad_fields else {}),
        "Events a second": round(summary.events_per_second),
    }
    if summary.period is not None:
        shown["Period"] = summary.period
    quality = summary.quality
    if quality is None:
        return shown
    shown |= {
        "Labelled events": quality.n_labelled,
        "ROC-AUC": _auc(quality.roc_auc, quality),
        f"ROC-AUC, mean of {_counted(quality.ranked_slices, 'slice')}": _auc(quality.mean_roc_auc, quality),
        "Average precision": _auc(quality.average_precision, quality),
        "Alarms in labelled windows": quality.alarms_inside,
        "Alarms outside": quality.alarms_outside,
        "Windows caught": f"{quality.windows_caught:,} of {quality.windows:,}",
    }
    if quality.windows_caught:
        shown["Median delay"] = _counted(round(quality.median_delay), "event")
    if not math.isnan(quality.median_delay_us):
        shown["Median delay in time"] = str(timedelta(seconds=round(quality.median_delay_us / 1e6)))
    return shown


def print_summary(summary: Summary, source: Source, written: dict[str, Path | None], aside: bool = False) -> None:
    """The table at the end of a run, the oddest slices, and where everything is.

    aside: to standard error, since verdicts went to standard output.
    """
    console = Console(stderr=aside)
    if not console.is_terminal:
        console.width = 200  # no name is cut that goes into a file
    console.print()
    table = Table.grid(padding=(0, 3))
    for name, value in facts(summary).items():
        table.add_row(Text(name, "bold"), f"{value:,}" if isinstance(value, int) else value)
    console.print(table)
    odd = [slice_ for slice_ in summary.oddest if slice_.n_anomalies]
    if odd:
        console.print()
        table = Table(title="The oddest slices", **_STYLE)
        table.add_column("slice", overflow="ellipsis", no_wrap=True)
        for heading in ("events", "anomalies", "alarms", "evidence", "peak score", "p-value"):
            table.add_column(heading, justify="right", no_wrap=True)
        for slice_ in odd[:SHOWN]:
            peak = max(slice_.alarms, key=lambda alarm: alarm[2])
            table.add_row(
                Text(clean(slice_.name)),
                f"{slice_.n_events:,}",
                f"{slice_.n_anomalies:,}",
                f"{slice_.n_alarms:,}",
                f"{slice_.evidence:,.1f}",
                f"{peak[2]:.3g}",
                f"{peak[3]:.1g}",
            )
        console.print(table)
    if source.bad_fields:
        each = ", ".join(f"{name} {n:,}" for name, n in source.bad_fields.most_common(SHOWN))
        _remark(f"{_counted(summary.bad_fields, 'field')} could not be read and count as missing: {clean(each)}")
    if summary.rejected:
        _remark(f"{_counted(summary.rejected, 'row')} could not be read: see {source.rejects}")
    for reason in source.reasons:
        _remark(f"  {clean(reason)}")
    if source.bad_fields:
        _remark("  --na names a word for a missing value; --decimal and --time-format say how fields are written")
    if summary.interrupted:
        _remark(f"interrupted: judged up to line {summary.last_line:,}")
    for name, path in written.items():
        if path is not None:
            _remark(f"{name}: {path}")
    if odd and not aside and not any(written.values()):
        _remark("nothing was kept: --report report.html draws the oddest slices, --out verdicts.csv has every verdict")


def print_demo(comparison: Comparison, report: Path) -> None:
    """Found, missed and false alarms in all; the conclusion; where the report, which shows the slices, is."""
    console = Console()
    table = Table(title="The engine: hidden anomalies in a synthetic stream of eight slices full of trouble", **_STYLE)
    table.add_column("method")
    for heading in ("threshold", "found", "missed", "false alarms"):
        table.add_column(heading, justify="right")
    for (method, threshold), tally in comparison.total.items():
        cells = (threshold, f"{tally.found:,}", f"{tally.missed:,}", f"{tally.false_alarms:,}")
        table.add_row(method, *cells, style="bold green" if method == ONLINEGUARD else "")
    console.print(table)
    console.print(Text(f"Not counted: {comparison.not_counted}.", "dim"))
    console.print()
    console.print(Text(comparison.conclusion))
    console.print()
    _remark(f"report: {report}")


def print_story(story: "Story", report: Path) -> None:
    """The thresholds, who was caught and who accused, examples with the engine's p-value, and what was saved."""
    console = Console()
    console.print()
    learned = f"{story.learned:,} clicks of a first week learned, thresholds set on {story.calibrated:,} of a second, "
    console.print(
        Text(f"Ad clicks: {learned}{story.purchases:,} of which were known to have led to a purchase.", "dim")
    )
    console.print()
    table = Table(
        title=f"The judged week: the {SHOWN} largest slices (device/marketplace/signed in) of {len(story.slices)}",
        **_STYLE,
    )
    table.add_column("slice")
    for heading in ("threshold", "clicks", "robots\ncaught", "people\naccused"):
        table.add_column(heading, justify="right")
    for group in (*story.slices[:SHOWN], story.total):
        name = "all slices" if group is story.total else _short(group.name)
        threshold = "" if group.threshold is None else _threshold(group.threshold)
        table.add_row(name, threshold, f"{group.clicks:,}", *_caught(group), style="bold" if not threshold else "")
    console.print(table)
    table = Table(title="By who clicked", **_STYLE)
    table.add_column("who")
    for heading in ("clicks", "robotic", "unusual to\nthe engine"):
        table.add_column(heading, justify="right")
    for group in story.kinds:
        shares = (f"{part / group.clicks:.1%}" for part in (group.robotic, group.unusual))
        table.add_row(group.name, f"{group.clicks:,}", *shares)
    console.print(table)
    table = Table(title="One click of each, with the engine's p-value beside the decision", **_STYLE)
    table.add_column("who")
    table.add_column("slice")
    for heading in ("p(robot)", "threshold", "decision", "p-value"):
        table.add_column(heading, justify="right")
    for click in story.examples:
        decision = Text("robotic", "bold red") if click.robotic else Text("billed")
        numbers = (f"{click.p_robot:.4f}", _threshold(click.threshold), decision, f"{click.p_value:.2g}")
        table.add_row(click.kind, _short(click.slice), *numbers)
    console.print(table)
    console.print()
    console.print(Text(story.conclusion))
    console.print()
    _remark(f"report: {report}")


def _short(slice_: str) -> str:
    return slice_.replace(" / ", "/")


def _threshold(value: float) -> str:
    return f"{value:.4f}" if value <= 1.0 else "none"


def _caught(group: "Group") -> tuple[str, str]:
    robots = f"{group.caught / group.robots:.0%} of {group.robots:,}" if group.robots else ""
    return robots, f"{group.accused / max(group.people, 1):.2%} of {group.people:,}"


def print_rows(title: str, rows: Sequence[Mapping[str, str]]) -> None:
    """A table with a column a key; the first is text, the others are figures."""
    if not rows:
        return
    table = Table(title=title, **_STYLE)
    for number, heading in enumerate(rows[0]):
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for row in rows:
        # a rate as "1.00% (0.50 to 1.80)" has its interval on a line of its own
        table.add_row(*(Text("\n(".join(map(clean, cell.split(" (")))) for cell in row.values()))
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a file has room for what a terminal must wrap
    console.print()
    console.print(table)


def say(*lines: str) -> None:
    """Remarks on standard error."""
    for line in lines:
        _remark(line)


def print_traffic(tally: "Tally", folder: Path) -> None:
    """What was simulated: clicks by kind, and robots and purchases by slice."""
    from onlineguard.slidr.simulation.simulator import FILES
    from onlineguard.slidr.simulation.world import DEVICES, MARKETPLACES

    console = Console()
    table = Table(title="Clicks by who made them", **_STYLE)
    table.add_column("kind")
    for heading in ("clicks", "share"):
        table.add_column(heading, justify="right")
    for kind, clicks in tally.kinds.items():
        table.add_row(kind, f"{clicks:,}", f"{clicks / tally.clicks:.2%}")
    table.add_row("all", f"{tally.clicks:,}", "", style="bold")
    console.print(table)
    table = Table(title="Slices", **_STYLE)
    for heading in ("device", "marketplace", "logged in"):
        table.add_column(heading)
    for heading in ("clicks", "robots", "purchases"):
        table.add_column(heading, justify="right")
    for place in np.ndindex(tally.purchases.shape):
        device, marketplace, logged_in = place
        clicks = int(tally.slices[place].sum())
        table.add_row(
            DEVICES[device],
            MARKETPLACES[marketplace],
            "yes" if logged_in else "no",
            f"{clicks:,}",
            f"{tally.robotic[place] / clicks:.1%}" if clicks else "",
            f"{tally.purchases[place]:,}",
        )
    console.print(table)
    facts = (
        _counted(int(tally.purchases.sum()), "recorded purchase"),
        _counted(tally.orders, "order"),
        f"{_counted(tally.duplicates, 'click')} arrived twice",
    )
    console.print(Text(", ".join(facts) + "."))
    console.print()
    for name in FILES:
        _remark(f"{name.partition('.')[0]}: {folder / name}")


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _auc(value: float, quality: Quality) -> str:
    return "n/a" if math.isnan(value) else f"{'' if quality.exact else '~'}{value:.3f}"


def _remark(text: str) -> None:
    print(clean(text), file=sys.stderr)
