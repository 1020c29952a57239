"""`onlineguard slidr`: train, calibrate, evaluate and score from the command line. Parses, calls, prints."""

import dataclasses
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onlineguard.cli.exits import one_line_errors

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from onlineguard.slidr.evaluation.evaluation import Evaluation
    from onlineguard.slidr.learning.scorer import Scorer
    from onlineguard.slidr.model import Model, Span
    from onlineguard.slidr.pipeline import Config, Prepared, Rows, Thresholds
    from onlineguard.slidr.thresholds.calibration import Calibration

SHOWN = 12  # slices in a table
BASELINES = ("logistic", "velocity", "trees")

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


class KindName(StrEnum):
    mlp = "mlp"
    cross = "cross"
    embedding = "embedding"
    logistic = "logistic"
    velocity = "velocity"


class MethodName(StrEnum):
    envelope = "envelope"
    quadratic = "quadratic"
    global_ = "global"
    knee = "knee"


Clicks = Annotated[
    Path, typer.Argument(metavar="CLICKS", help="A .csv, .csv.gz, .ndjson or .parquet file, in order of arrival.")
]
MappingFile = Annotated[
    Path | None,
    typer.Option(
        "--mapping",
        metavar="FILE.toml",
        help="Which column of the log is which field of a click. Without it columns have the fields' names.",
    ),
]
Rejects = Annotated[
    Path | None,
    typer.Option(
        "--rejects",
        metavar="FILE",
        help="Write rows that are no clicks there, as NDJSON with row number and reason, and go on. Without it the "
        "first one ends the command.",
    ),
]
ModelFolder = Annotated[Path, typer.Option("--model", metavar="FOLDER", help="What `slidr train` wrote.")]
Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help="First click that is used.")]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="End, itself not included.")]

TIMES = """[bold]Times[/bold]

A share of the log's time, [cyan]50%[/cyan]; a time after its first click, [cyan]36h[/cyan] or [cyan]7d[/cyan]; or a \
time in UTC, [cyan]2026-03-09T00:00[/cyan].

Clicks before --since are still counted for the features of those after it.
"""

TRAIN_EPILOG = f"""{TIMES}
Without either, the last week but two of a log of three weeks or more, and the first half of a shorter one.

With one of them, the other is the first click, or where that week or half ends.

[bold]Examples[/bold]

Three weeks of made clicks: a model of the first, thresholds from the second, judged by the third:

  [cyan]onlineguard simulate traffic[/cyan]

  [cyan]onlineguard slidr train traffic/clicks.parquet --out model[/cyan]

  [cyan]onlineguard slidr calibrate traffic/clicks.parquet --model model --confidence 0.95[/cyan]

  [cyan]onlineguard slidr evaluate traffic/clicks.parquet --model model --truth traffic/truth.parquet \
--report slidr.html[/cyan]

A log with columns of its own, all of it, with slices by device alone:

  [cyan]onlineguard slidr train log.csv.gz --mapping log.toml --slice device --until 100% --out model[/cyan]
"""


@app.callback()
def slidr() -> None:
    """Robots among ad clicks: train a model, choose thresholds, measure them, score clicks.

    A click that led to a purchase, or of an account of high worth, was a person's; of others nothing is known.

    A model learns from those. Thresholds, one a slice, hold the share of purchases called robotic within a budget.
    """


@app.command(epilog=TRAIN_EPILOG)
def train(
    clicks: Clicks,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the model goes; one that is there is replaced.")],
    mapping: MappingFile = None,
    rejects: Rejects = None,
    kind: Annotated[
        KindName,
        typer.Option(
            help="mlp: a network of three hidden layers. cross: with products of features. embedding: with user agent, "
            "ip prefix and ad. logistic, velocity: baselines."
        ),
    ] = KindName.mlp,
    slice_: Annotated[
        str, typer.Option("--slice", metavar="COLUMN[,COLUMN]", help="Fields of a click that tell slices apart.")
    ] = "device,marketplace,logged_in",
    since: Since = None,
    until: Until = None,
    rfm_at_least: Annotated[float, typer.Option(help="Accounts with this RFM score, 3 to 15, are people.")] = 12.0,
    weights: Annotated[
        bool, typer.Option(help="Let every hour of the week count alike, with and without login, for either label.")
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and clicks give the same model.")] = 0,
) -> None:
    """Train a model on the first part of a log, with the labels known when that part ends."""
    with one_line_errors():
        from onlineguard.cli import console, runner
        from onlineguard.errors import CheckpointError
        from onlineguard.slidr.model import Model, save_model
        from onlineguard.slidr.pipeline import Config, known_humans, split

        if out.exists() and not out.is_dir():
            raise CheckpointError(f"--out is {out}, which is a file; name a folder")
        runner.check_destinations(None, {"rejects": rejects}, {"the source": clicks, "--mapping": mapping})
        columns = tuple(name.strip() for name in slice_.split(",") if name.strip())
        config = Config(kind=kind.value, slices=columns, rfm_at_least=rfm_at_least, weighted=weights, seed=seed)
        prepared = _prepared(clicks, mapping, rejects, config)
        parts = split(*prepared.bounds)
        start, end = _span(prepared, since, until, parts.train_since if until is None else None, parts.train_until)
        rows = prepared.between(start, end)
        scorer = _trained(prepared, rows, end, config)
        spent = _used(start, end, rows, known_humans(prepared, end, config))
        model = save_model(out, Model(config, scorer, spent))
        console.say(
            f"learned from {spent.clicks:,} clicks, {spent.humans:,} of them known to be people's, {_times(spent)}",
            f"model {model.version}: {out}; next: onlineguard slidr calibrate {clicks} --model {out}",
        )


CALIBRATE_EPILOG = f"""{TIMES}
Without --since the part begins where training ended.

Without --until it ends a week before the end of a log of three weeks or more, and at 71.43% of a shorter one; or with \
the log, where that begins after training.

[bold]Examples[/bold]

  [cyan]onlineguard slidr calibrate traffic/clicks.parquet --model model --budget 0.01 --confidence 0.95[/cyan]

  [cyan]onlineguard slidr calibrate traffic/clicks.parquet --model model --method quadratic --min-coverage 0.3[/cyan]
"""


@app.command(epilog=CALIBRATE_EPILOG)
def calibrate(
    clicks: Clicks,
    model: ModelFolder,
    mapping: MappingFile = None,
    rejects: Rejects = None,
    since: Since = None,
    until: Until = None,
    budget: Annotated[float, typer.Option(help="Share of purchasing clicks that may be called robotic.")] = 0.01,
    min_coverage: Annotated[
        float, typer.Option(help="Share of the clicks of heavy sessions that every slice must call robotic.")
    ] = 0.0,
    method: Annotated[
        MethodName,
        typer.Option(
            help="envelope: best for the budget. quadratic: the paper's. global: one threshold. knee: no budget."
        ),
    ] = MethodName.envelope,
    confidence: Annotated[
        float | None, typer.Option(help="The budget holds for new clicks with this probability, e.g. 0.95.")
    ] = None,
    min_purchases: Annotated[
        int, typer.Option(min=1, help="Slices with fewer purchasing clicks share a threshold.")
    ] = 300,
) -> None:
    """Choose a threshold for every slice on clicks that the model has not learned, and write them into its folder."""
    with one_line_errors():
        from onlineguard.cli import console, runner
        from onlineguard.slidr.model import load_model, save_model
        from onlineguard.slidr.pipeline import purchasing, split

        runner.check_destinations(None, {"rejects": rejects}, {"the source": clicks, "--mapping": mapping})
        known = load_model(model)
        prepared = _prepared(clicks, mapping, rejects, known.config, known)
        fresh = prepared.bounds[0] >= known.trained.until
        usual_until = None if fresh else split(*prepared.bounds).calibrate_until
        start, end = _span(prepared, since, until, known.trained.until, usual_until)
        _warn(start, known.trained, "learned")
        _warn_of_weekdays((start, end))
        options: dict[str, Any] = {
            "budget": budget,
            "min_coverage": min_coverage,
            "method": method.value,
            "confidence": confidence,
            "min_purchases": min_purchases,
        }
        rows = prepared.between(start, end)
        thresholds = _calibrated(prepared, known, known.scorer, rows, end, options)
        spent = _used(start, end, rows, purchasing(prepared, end))
        saved = save_model(model, dataclasses.replace(known, thresholds=thresholds, calibrated=spent, options=options))
        console.print_rows("Thresholds, and what they do on the clicks they were chosen on", _chosen(thresholds))
        console.say(
            f"calibrated on {spent.clicks:,} clicks, {spent.humans:,} of them purchasing, {_times(spent)}",
            f"model {saved.version}: {model}; next: onlineguard slidr evaluate {clicks} --model {model}",
        )


EVALUATE_EPILOG = f"""{TIMES}
Without --since the part begins where the calibration ended; without --until it ends with the log.

[bold]Examples[/bold]

  [cyan]onlineguard slidr evaluate traffic/clicks.parquet --model model --report slidr.html --json slidr.json[/cyan]

Beside logistic regression, the velocity rule, gradient-boosted trees, and the model without sample weights, all \
trained and calibrated on the clicks that the model was, which the log must hold:

  [cyan]onlineguard slidr evaluate traffic/clicks.parquet --model model --baselines[/cyan]
"""


@app.command(epilog=EVALUATE_EPILOG)
def evaluate(
    clicks: Clicks,
    model: ModelFolder,
    mapping: MappingFile = None,
    rejects: Rejects = None,
    since: Since = None,
    until: Until = None,
    truth: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="click_id and robot, as the simulator writes them: for true recall and FPR."),
    ] = None,
    baselines: Annotated[bool, typer.Option("--baselines", help="Compare; takes minutes.")] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Self-contained HTML.")] = None,
    json_: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="All figures.")] = None,
) -> None:
    """Measure a calibrated model on clicks it has not seen: IVR, FPR and coverage with intervals, slice by slice."""
    with one_line_errors():
        from onlineguard.cli import console, runner
        from onlineguard.slidr.evaluation.evaluation import compare
        from onlineguard.slidr.model import load_model

        written = {"report": report, "json": json_, "rejects": rejects}
        runner.check_destinations(None, written, {"the source": clicks, "--mapping": mapping, "--truth": truth})
        known = load_model(model)
        thresholds, calibrated = _ready(known, model)
        prepared = _prepared(clicks, mapping, rejects, known.config, known)
        start, end = _span(prepared, since, until, calibrated.until, None)
        _warn(start, calibrated, "calibrated on")
        _warn_of_weekdays((calibrated.since, calibrated.until), (start, end))
        rows, robot = prepared.between(start, end), None if truth is None else _truth(truth, prepared)
        found = {known.config.kind: _evaluated(prepared, known.scorer, thresholds, rows, end, robot, known.config)}
        hourly: dict[str, Any] = {}
        if baselines:
            hourly = _compared(prepared, known, rows, end, robot, found)
        (measured, *_), rest = found.values(), found
        console.print_rows("Clicks that the model has not seen", measured.table(SHOWN))
        if baselines:
            console.print_rows("Beside other scorers, trained and calibrated alike", compare(rest))
        facts = {
            "Model": f"{known.version}, {known.config.kind}",
            "Trained on": f"{known.trained.clicks:,} clicks, {known.trained.humans:,} known people's, "
            + _times(known.trained),
            "Calibrated on": f"{calibrated.clicks:,} clicks, {calibrated.humans:,} purchasing, {_times(calibrated)}",
            "Evaluated on": f"{int(rows.sum()):,} clicks of {clicks.name}",
            "Slices": " / ".join(known.config.slices),
            "Seed": str(known.config.seed),
        }
        if report is not None:
            from onlineguard.slidr.evaluation.report import Extras, write_report

            extras = Extras(hourly or None, compare(rest) if baselines else None, getattr(known.scorer, "losses", None))
            write_report(report, measured, f"Robots among the clicks of {clicks.name}", facts, extras)
            console.say(f"report: {report}")
        if json_ is not None:
            plain = {"facts": facts, "scorers": {name: evaluation.to_dict() for name, evaluation in found.items()}}
            _replace(json_, lambda path: path.write_text(json.dumps(plain, indent=1) + "\n", "utf-8"))
            console.say(f"json: {json_}")


SCORE_EPILOG = """[bold]What is written[/bold]

click_id, p_robot, threshold, slice, robotic (p_robot above the threshold) and model, its version.

A row a click, in the order of the log; a click that arrived twice has two.

[bold]Examples[/bold]

  [cyan]onlineguard slidr score traffic/clicks.parquet --model model --out decisions.parquet[/cyan]
"""


@app.command(epilog=SCORE_EPILOG)
def score(
    clicks: Clicks,
    model: ModelFolder,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Decisions: .parquet, .csv or .ndjson.")],
    mapping: MappingFile = None,
    rejects: Rejects = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Decide about every click of a log: features counted from its first click on, then score, then threshold."""
    with one_line_errors():
        from onlineguard.cli import console, runner
        from onlineguard.errors import InvalidArgument
        from onlineguard.slidr.model import load_model

        if out.suffix.lower() not in (".parquet", ".csv", ".ndjson"):
            raise InvalidArgument(f"--out is {out}; its name must end in .parquet, .csv or .ndjson")
        read = {"the source": clicks, "--mapping": mapping}
        runner.check_destinations(None, {"out": out, "rejects": rejects}, read)
        known = load_model(model)
        thresholds, _ = _ready(known, model)
        prepared = _prepared(clicks, mapping, rejects, known.config, known)
        start, end = _span(prepared, since, until, None, None)
        rows = (prepared.ts >= start) & (prepared.ts < end)
        decisions = _decisions(prepared, known, thresholds, rows)
        _replace(out, lambda path: getattr(decisions, f"write_{out.suffix.lower()[1:]}")(path))
        console.say(f"{int(decisions['robotic'].sum()):,} of {decisions.height:,} clicks are robotic", f"out: {out}")


def _prepared(
    clicks: Path, mapping: Path | None, rejects: Path | None, config: "Config", model: "Model | None" = None
) -> "Prepared":
    from onlineguard.cli import console
    from onlineguard.errors import SourceError
    from onlineguard.report.formats import counted
    from onlineguard.slidr.clicks.clicks import Mapping, read_clicks
    from onlineguard.slidr.pipeline import prepare

    frame = read_clicks(clicks, None if mapping is None else Mapping.load(mapping), rejects)
    if not frame.height:
        all_rejected = rejects is not None and rejects.exists()
        raise SourceError(
            f"every row of {clicks} was rejected; see {rejects}" if all_rejected else f"{clicks} has no clicks"
        )
    if rejects is not None and rejects.exists():
        with rejects.open("rb") as file:
            console.say(f"{counted(sum(1 for _ in file), 'row')} could not be read: see {rejects}")
    with console.progress("features", frame.height, noun="clicks") as progress:
        return prepare(frame, config, None if model is None else model.featuriser(), progress)


def _span(
    prepared: "Prepared", since: str | None, until: str | None, usual_since: int | None, usual_until: int | None
) -> tuple[int, int]:
    """The part of the log that is used, which has clicks; its bounds are also those of the log where None."""
    from onlineguard.errors import InvalidArgument
    from onlineguard.slidr.pipeline import moment

    first, last = prepared.bounds
    start = first if usual_since is None else usual_since
    end = last + 1 if usual_until is None else usual_until
    if since is not None:
        start = moment(since, first, last, "--since")
    if until is not None:
        end = moment(until, first, last, "--until")
    if not prepared.between(start, end).any():
        raise InvalidArgument(
            f"--since {_day(start)} --until {_day(end)} leaves no clicks; the log runs from {_day(first)} to "
            f"{_day(last)}"
        )
    return start, end


def _trained(prepared: "Prepared", rows: "Rows", known_at: int, config: "Config") -> "Scorer":
    from onlineguard.cli import console
    from onlineguard.slidr.pipeline import train_model

    total = int(rows.sum())
    with console.progress(f"training {config.kind}", total, noun="clicks") as progress:
        scorer = train_model(prepared, rows, known_at, config, lambda done, _total, _loss: progress(done))
        progress(total)
    return scorer


def _calibrated(
    prepared: "Prepared", model: "Model", scorer: "Scorer", rows: "Rows", known_at: int, options: Any
) -> "Thresholds":
    """Thresholds of a scorer that learned what the model has, whose clicks are used too where the log holds them."""
    from onlineguard.slidr.pipeline import calibrate_model

    learned: Rows | None = prepared.between(model.trained.since, model.trained.until)
    if int(learned.sum()) != model.trained.clicks or (learned & rows).any():
        learned = None
    return calibrate_model(prepared, scorer, rows, known_at, model.config, **options, learned=learned)


def _used(start: int, end: int, rows: "Rows", human: "Rows") -> "Span":
    from onlineguard.slidr.model import Span

    return Span(start, end, end, int(rows.sum()), int((rows & human).sum()))


def _ready(model: "Model", folder: Path) -> "tuple[Thresholds, Span]":
    from onlineguard.errors import CheckpointError

    if model.thresholds is None or model.calibrated is None:
        raise CheckpointError(
            f"{folder} has no thresholds yet; run onlineguard slidr calibrate CLICKS --model {folder}"
        )
    return model.thresholds, model.calibrated


def _evaluated(
    prepared: "Prepared",
    scorer: "Scorer",
    thresholds: "Thresholds",
    rows: "Rows",
    known_at: int,
    robot: "np.ndarray | None",
    config: "Config",
) -> "Evaluation":
    from onlineguard.slidr.evaluation import evaluation
    from onlineguard.slidr.pipeline import known_humans, purchasing, sample_weights, scores

    ids, keys = prepared.ids_among(thresholds.keys)
    known = known_humans(prepared, known_at, config)[rows]
    return evaluation.evaluate(
        scores(prepared, scorer, rows),
        ids[rows],
        keys,
        purchasing(prepared, known_at)[rows],
        prepared.heavy[rows],
        thresholds.calibration,
        None if robot is None else robot[rows],
        weights=sample_weights(prepared, rows, known, config),
        known=known,
    )


def _compared(
    prepared: "Prepared",
    model: "Model",
    rows: "Rows",
    known_at: int,
    robot: "np.ndarray | None",
    found: "dict[str, Evaluation]",
) -> dict[str, Any]:
    """Add the evaluations of the baselines to `found`; returns the FPR by hour with sample weights and without."""
    from onlineguard.errors import InvalidArgument
    from onlineguard.slidr.evaluation.evaluation import hourly_fpr
    from onlineguard.slidr.pipeline import purchasing, scores

    _, calibrated = _ready(model, Path("model"))
    learned = prepared.between(model.trained.since, model.trained.until)
    later = prepared.between(calibrated.since, calibrated.until)
    if (int(learned.sum()), int(later.sum())) != (model.trained.clicks, calibrated.clicks):
        raise InvalidArgument(
            f"--baselines needs the {model.trained.clicks:,} clicks that the model has learned and the "
            f"{calibrated.clicks:,} it was calibrated on; this log has {int(learned.sum()):,} and {int(later.sum()):,} "
            "in those times. Give the log that the model was trained with, or leave --baselines out"
        )
    others = {kind: dataclasses.replace(model.config, kind=kind) for kind in BASELINES if kind != model.config.kind}
    bare = f"{model.config.kind} without weights"
    if model.config.weighted and model.config.kind != "velocity":
        others[bare] = dataclasses.replace(model.config, weighted=False)
    hourly: dict[str, Any] = {}
    human = purchasing(prepared, known_at)[rows]

    def judge(name: str, scorer: "Scorer", thresholds: "Thresholds") -> None:
        robotic = thresholds.robotic(scores(prepared, scorer), prepared)[rows]
        hourly[name] = hourly_fpr(robotic, human, prepared.hour[rows])

    for name, config in others.items():
        scorer = _trained(prepared, learned, model.trained.known_at, config)
        thresholds = _calibrated(prepared, model, scorer, later, calibrated.known_at, model.options)
        found[name] = _evaluated(prepared, scorer, thresholds, rows, known_at, robot, config)
        if name == bare and model.thresholds is not None:
            judge("with weights", model.scorer, model.thresholds)
            judge("without weights", scorer, thresholds)
    return hourly


def _truth(path: Path, prepared: "Prepared") -> "np.ndarray":
    """Whether a robot made each click."""
    import polars as pl

    from onlineguard.errors import SourceError

    readers = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".ndjson": pl.read_ndjson}
    if path.suffix.lower() not in readers:
        raise SourceError(f"--truth is {path}; name a .parquet, .csv or .ndjson file with click_id and robot")
    try:
        table = readers[path.suffix.lower()](path).select(
            pl.col("click_id").cast(pl.String), pl.col("robot").cast(pl.Boolean)
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SourceError(f"--truth {path} cannot be read: {error}") from error
    table = table.unique("click_id", keep="first")
    robot = prepared.frame.select("click_id").join(table, on="click_id", how="left", maintain_order="left")["robot"]
    if missing := robot.null_count():
        raise SourceError(f"--truth {path} lacks {missing:,} of the clicks; it must have a row for each click_id")
    return robot.to_numpy()


def _decisions(prepared: "Prepared", model: "Model", thresholds: "Thresholds", rows: "Rows") -> "pl.DataFrame":
    import polars as pl

    from onlineguard.slidr.pipeline import scores, slice_name

    p_robot = scores(prepared, model.scorer)
    names = pl.Series([slice_name(key) for key in prepared.slice_keys])
    table = pl.DataFrame(
        {
            "click_id": prepared.frame["click_id"],
            "p_robot": p_robot,
            "threshold": thresholds.of(prepared),
            "slice": names.gather(prepared.slice_ids),
            "robotic": thresholds.robotic(p_robot, prepared),
            "model": pl.repeat(model.version, len(p_robot), eager=True),
        }
    )
    return table.filter(pl.Series(rows))


def _chosen(thresholds: "Thresholds") -> list[dict[str, str]]:
    """Rows of a table: all slices together, then those with the most clicks."""
    import numpy as np

    from onlineguard.slidr.evaluation.evaluation import threshold_text

    calibration: Calibration = thresholds.calibration

    def row(name: str, at: Any) -> dict[str, str]:
        rates = {"IVR": calibration.ivr, "FPR": calibration.fpr, "coverage": calibration.coverage}
        parts = {
            name: rate.total if at is None else type(rate)(rate.hits[at], rate.trials[at])
            for name, rate in rates.items()
        }
        shown = {"slice": name, "clicks": f"{int(parts['IVR'].trials):,}", "purchases": f"{int(parts['FPR'].trials):,}"}
        shown["threshold"] = "" if at is None else threshold_text(float(calibration.thresholds[at]))
        return shown | {name: f"{float(rate.value):.2%}" if int(rate.trials) else "n/a" for name, rate in parts.items()}

    largest = np.argsort(-calibration.ivr.trials, kind="stable")[:SHOWN]
    return [row("all", None), *(row(calibration.names[at], at) for at in largest.tolist())]


def _replace(path: Path, write: Any) -> None:
    """Have `write` write the file under a temporary name, which is then replaced."""
    from onlineguard import atomic
    from onlineguard.errors import InvalidArgument

    try:
        with atomic.replacing(path) as temporary:
            write(temporary)
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be written: {error.strerror or error}; name another file") from error


def _warn(start: int, span: "Span", what: str) -> None:
    from onlineguard.cli import console

    if start < span.until:
        console.say(
            f"beware: some of these clicks the model has {what}, up to {_day(span.until)}; figures will flatter"
        )


def _warn_of_weekdays(calibrated: tuple[int, int], used: tuple[int, int] | None = None) -> None:
    """Say so where days of the week, by default any, were not calibrated on."""
    from onlineguard.cli import console
    from onlineguard.slidr.pipeline import WEEKDAYS, weekdays

    known, these = weekdays(*calibrated), WEEKDAYS if used is None else weekdays(*used)
    if set(these) - set(known):
        of = "" if used is None else f", these clicks are of {_listed(these)}"
        console.say(
            f"beware: thresholds rest on {_listed(known)}{of}; people click otherwise on other days: give three weeks"
        )


def _listed(days: tuple[str, ...]) -> str:
    return ", ".join(days[:-1]) + " and " * (len(days) > 1) + days[-1]


def _times(span: "Span") -> str:
    return f"{_day(span.since)} to {_day(span.until)}"


def _day(ms: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(ms / 1_000, UTC):%Y-%m-%d %H:%M} UTC"
