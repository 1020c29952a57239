"""What the commands of `slidr` share: the options that name clicks and models, and the clicks read for a model."""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from onlineguard.slidr.model import Model, Span
    from onlineguard.slidr.pipeline import Config, Prepared, Thresholds

Clicks = Annotated[
    Path,
    typer.Argument(
        metavar="CLICKS",
        help="A .csv, .csv.gz, .ndjson, .parquet or .zip file, in order of time, or a history: the folder that `slidr "
        "features` or a service wrote.",
    ),
]
ClicksFile = Annotated[
    Path, typer.Argument(metavar="CLICKS", help="A .csv, .csv.gz, .ndjson, .parquet or .zip file, in order of time.")
]
MappingFile = Annotated[
    Path | None,
    typer.Option(
        "--mapping",
        metavar="FILE.toml",
        help="Says which column of the log is which field of a click. Without it, columns have the fields' names.",
    ),
]
ModelFolder = Annotated[Path, typer.Option("--model", metavar="FOLDER", help="The folder that `slidr train` wrote.")]

TIMES = """[bold]Times[/bold]

A time is a share of the log's time, [cyan]50%[/cyan]; a time after its first click, [cyan]36h[/cyan] or \
[cyan]7d[/cyan]; or a time in UTC, [cyan]2026-03-09T00:00[/cyan].

Clicks before --since are still counted for the features of later clicks.
"""


@dataclass(frozen=True)
class Reading:
    """How a log is read."""

    mapping: MappingFile = None
    rejects: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write rows that are not clicks to this file, as NDJSON with row number and reason, and go on. "
            "Without it the first such row ends the command.",
        ),
    ] = None
    lookups: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="What `slidr lookups build` made: a click is looked up as of the night before. Without it nothing is "
            "known of accounts and networks.",
        ),
    ] = None


@dataclass(frozen=True)
class Part:
    """The part of a log that is used."""

    since: Annotated[str | None, typer.Option(metavar="TIME", help="Use clicks from this time on.")] = None
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Use clicks before this time.")] = None


def prepared_clicks(clicks: Path, reading: Reading, config: "Config", model: "Model | None" = None) -> "Prepared":
    """The clicks of a log or a history with their features; says what is odd about the log.

    model: what the clicks are for, None where one is to be trained. Raises SourceError where there are no clicks, and
    InvalidArgument where the model needs lookups that were not named, or a history is given what only a log takes.
    """
    from onlineguard.cli import console
    from onlineguard.errors import InvalidArgument, SourceError
    from onlineguard.report.formats import counted
    from onlineguard.slidr.features import Featuriser
    from onlineguard.slidr.log import prepare_log, read_log
    from onlineguard.slidr.lookups.lookups import opened

    if clicks.is_dir():
        flags = {f"--{name}": path for name, path in asdict(reading).items()}
        return _prepared_history(clicks, config, flags)
    found = None if reading.lookups is None else opened(reading.lookups)
    if model is not None and model.looks_up and found is None:
        raise InvalidArgument(
            f"model {model.version} was trained with lookups, and without them takes everybody for a stranger; "
            "name their folder with --lookups"
        )
    featuriser = Featuriser(lookups=found) if model is None else model.featuriser(found)
    rejects = reading.rejects
    log = read_log(clicks, reading.mapping, rejects, featuriser)
    if not log.frame.height:
        all_rejected = rejects is not None and rejects.exists()
        raise SourceError(
            f"every row of {clicks} was rejected; see {rejects}" if all_rejected else f"{clicks} has no clicks"
        )
    if rejects is not None and rejects.exists():
        with rejects.open("rb") as file:
            console.say(f"{counted(sum(1 for _ in file), 'row')} could not be read: see {rejects}")
    if log.late:
        console.say(
            f"beware: {log.late:,} clicks of {clicks} are over an hour behind earlier rows; all were sorted by time"
        )
    if log.kept is not None:
        console.say(f"features: {log.features}, which an earlier command kept")
        return prepare_log(log, config, featuriser)
    with console.progress("features", log.frame.height, noun="clicks") as progress:
        return prepare_log(log, config, featuriser, progress)


def used_span(prepared: "Prepared", part: Part, usual_since: int | None, usual_until: int | None) -> tuple[int, int]:
    """Start and end of the part of the log that is used. A usual bound of None stands for that of the log.

    Raises InvalidArgument if the part has no clicks.
    """
    from onlineguard.cli import slidr_words as words
    from onlineguard.errors import InvalidArgument
    from onlineguard.slidr.pipeline import moment

    first, last = prepared.bounds
    start = first if usual_since is None else usual_since
    end = last + 1 if usual_until is None else usual_until
    if part.since is not None:
        start = moment(part.since, first, last, "--since")
    if part.until is not None:
        end = moment(part.until, first, last, "--until")
    if not prepared.between(start, end).any():
        raise InvalidArgument(
            f"--since {words.day(start)} --until {words.day(end)} leaves no clicks; the log runs from "
            f"{words.day(first)} to {words.day(last)}"
        )
    return start, end


def thresholds_of(model: "Model", folder: Path) -> "tuple[Thresholds, Span]":
    """The thresholds of a model, and the clicks that they rest on; raises CheckpointError before it is calibrated."""
    from onlineguard.errors import CheckpointError

    if model.thresholds is None or model.calibrated is None:
        raise CheckpointError(
            f"{folder} has no thresholds yet; run onlineguard slidr calibrate CLICKS --model {folder}"
        )
    return model.thresholds, model.calibrated


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` write the file under a temporary name, which then takes the place of the old file."""
    from onlineguard import atomic
    from onlineguard.errors import InvalidArgument

    try:
        with atomic.replacing(path) as temporary:
            write(temporary)
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be written: {error.strerror or error}; name another file") from error


def _prepared_history(folder: Path, config: "Config", unasked: Mapping[str, object]) -> "Prepared":
    """The clicks of a history for the models, with features in a mapped file.

    unasked: flags that only a log of clicks takes. Raises InvalidArgument where one of them was given.
    """
    from onlineguard.errors import InvalidArgument
    from onlineguard.slidr.history.reading import History

    for flag, value in unasked.items():
        if value is not None:
            raise InvalidArgument(f"{flag} is for a log of clicks, and {folder} is a folder; leave it out")
    history = History(folder)
    for rest in folder.glob(".features-*.npy"):  # of a process that was killed
        rest.unlink(missing_ok=True)
    spool = folder / f".features-{os.getpid()}.npy"
    try:
        return history.prepared(config=config, spool=spool)
    finally:
        spool.unlink(missing_ok=True)  # what is mapped stays until it is let go
