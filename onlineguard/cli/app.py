"""The command line: parses, calls, prints. Heavy imports stand in the commands, so that `--help` comes at once."""

import signal
import sys
from datetime import date
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

import onlineguard
from onlineguard.cli import inspect, run
from onlineguard.cli import registry as commands  # the commands of `slidr`, and on top those of a registry
from onlineguard.cli.exits import one_line_errors

if TYPE_CHECKING:
    from onlineguard.slidr.simulation.traffic import World

COMMANDS = "onlineguard.commands"  # the entry points by which other packages, the service among them, add commands

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(commands.app, name="slidr")


def main() -> None:
    """The entry point `onlineguard`."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a slice's name must not end a run
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # what stops a service works as Ctrl-C does
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    app()


@app.callback(invoke_without_command=True)
def onlineguard_(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    """A small robust model for every slice of a stream, updated on every event: what is odd, and how odd."""
    if version:
        print(f"onlineguard {onlineguard.__version__}")
        raise typer.Exit


app.command(epilog=run.EPILOG)(run.run)
app.command(epilog=inspect.EPILOG)(inspect.inspect)

DEMO_EPILOG = """[bold]Examples[/bold]

  [cyan]onlineguard demo[/cyan]

  [cyan]onlineguard demo --events 1000000 --seed 7 --report /tmp/demo.html[/cyan]
"""


@app.command(epilog=DEMO_EPILOG)
def demo(
    events: Annotated[int, typer.Option(min=80_000, help="Events of the synthetic stream.")] = 200_000,
    clicks: Annotated[int, typer.Option(min=60_000, help="Ad clicks to simulate, in three weeks.")] = 500_000,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another stream.")] = 0,
    report: Annotated[Path, typer.Option(metavar="FILE", help="Where the report goes.")] = Path(
        "onlineguard-demo.html"
    ),
) -> None:
    """Watch it work: anomalies hidden in a synthetic stream, beside a running z-score; then robots among ad clicks.

    The clicks are simulated: two weeks to learn from and to set the thresholds of every slice, and one to be judged.

    Needs no data and no network, and takes a minute or so. The clicks' report stands beside the other, as NAME-clicks.
    """
    with one_line_errors():
        from onlineguard.cli import console, runner, story
        from onlineguard.cli import demo as demonstration

        clicks_report = report.with_name(f"{report.stem}-clicks.html")
        runner.check_destinations(None, {"report": report})
        stream = demonstration.synthetic_stream(events, seed)
        with console.progress("synthetic stream", len(stream.values)) as progress:
            result = demonstration.judge(stream, report, progress)
        console.print_demo(result, report)
        clicks_story = story.tell(clicks, seed, clicks_report, partial(console.progress, noun="clicks"))
        console.print_story(clicks_story, clicks_report)


SIMULATE_EPILOG = """[bold]What is written[/bold]

[cyan]clicks.parquet[/cyan]: a row a click, in order of arrival.

[cyan]orders.parquet[/cyan]: the accounts' orders, from 90 days before the first click on.

[cyan]truth.parquet[/cyan]: whether each click was a robot's, and of which kind. For measuring, never for training.

[bold]Examples[/bold]

Three weeks, a million clicks, a fifth of them by robots:

  [cyan]onlineguard simulate traffic[/cyan]

A month with a holiday, six hours without purchase labels, and a front end whose clock is wrong:

  [cyan]onlineguard simulate month --days 30 --clicks 5000000 --holiday --label-outage 6 --clock-fault[/cyan]
"""


@app.command(epilog=SIMULATE_EPILOG)
def simulate(
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the files go; made if it is missing.")],
    clicks: Annotated[int, typer.Option(help="About how many clicks.")] = 1_000_000,
    days: Annotated[
        int,
        typer.Option(
            help="From midnight to midnight UTC. Three weeks: `slidr` learns one, sets its thresholds on the next and "
            "is judged by the last; of 14 days, each gets only some days of the week."
        ),
    ] = 21,
    start: Annotated[str, typer.Option(metavar="YYYY-MM-DD", help="The first day.")] = "2026-03-02",
    robots: Annotated[float, typer.Option(help="Their share of the clicks, up to 0.9.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Another seed, other traffic; the same seed, the same.")] = 0,
    holiday: Annotated[
        bool, typer.Option("--holiday", help="One day on which people click two and a half times as much; on top.")
    ] = False,
    label_outage: Annotated[
        float,
        typer.Option(metavar="HOURS", help="For how long no purchase is recorded, from the middle of the days on."),
    ] = 0.0,
    clock_fault: Annotated[
        bool, typer.Option("--clock-fault", help="For two hours, one front end of eight has its clock wrong.")
    ] = False,
    biased_purchases: Annotated[
        bool, typer.Option("--biased-purchases", help="Let those signed in buy more; by default all clicks buy alike.")
    ] = False,
    world: Annotated[
        str, typer.Option(help="usual, or wide: more kinds of robots, people who hardly buy, most visitors unknown.")
    ] = "usual",
) -> None:
    """Make up ad clicks of people and robots, with the truth in a file apart.

    People keep the hours and the week of their marketplace; they come from homes, carriers and offices; some buy.

    Robots burst, go slow, rent servers, imitate people, steal accounts, own racks of phones, attack a campaign.

    They change their ways every week: the phones come in the second one. The attack lasts two days.
    """
    with one_line_errors():
        from onlineguard.cli import console
        from onlineguard.slidr.simulation.simulator import write_traffic
        from onlineguard.slidr.simulation.traffic import Traffic

        traffic = Traffic(
            clicks,
            days,
            _day("--start", start),
            robots,
            holiday,
            label_outage,
            clock_fault,
            biased_purchases,
            cast("World", world),  # which `Traffic` checks
        )
        with console.progress("simulated clicks", clicks, noun="clicks") as progress:
            tally = write_traffic(out, traffic, seed, progress)
        console.print_traffic(tally, out)


def _day(flag: str, text: str) -> date:
    from onlineguard.errors import InvalidArgument

    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidArgument(flag, f"is {text!r}; it must be a day such as 2026-03-02") from None


for entry in entry_points(group=COMMANDS):
    entry.load()(app)
