"""`onlineguard slidr`: train, calibrate, evaluate and score. Parses what was asked, calls `workflow`, prints."""

import dataclasses
import json
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onlineguard.cli import features, history, lookups, replay
from onlineguard.cli.exits import one_line_errors

if TYPE_CHECKING:
    from onlineguard.slidr.learning.scorer import Scorer
    from onlineguard.slidr.model import Model, Span
    from onlineguard.slidr.pipeline import Config, Mask, Prepared, Thresholds

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(history.app, name="history")
app.add_typer(lookups.app, name="lookups")
app.command("replay", epilog=replay.EPILOG)(replay.replay)
app.command("features", epilog=features.EPILOG)(features.features)


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
Rejects = Annotated[
    Path | None,
    typer.Option(
        "--rejects",
        metavar="FILE",
        help="Write rows that are not clicks to this file, as NDJSON with row number and reason, and go on. Without it "
        "the first such row ends the command.",
    ),
]
LookupsFolder = Annotated[
    Path | None,
    typer.Option(
        "--lookups",
        metavar="FOLDER",
        help="What `slidr lookups build` made: a click is looked up as of the night before. Without it nothing is "
        "known of accounts and networks.",
    ),
]
ModelFolder = Annotated[Path, typer.Option("--model", metavar="FOLDER", help="The folder that `slidr train` wrote.")]
Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help="Use clicks from this time on.")]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Use clicks before this time.")]

TIMES = """[bold]Times[/bold]

A time is a share of the log's time, [cyan]50%[/cyan]; a time after its first click, [cyan]36h[/cyan] or \
[cyan]7d[/cyan]; or a time in UTC, [cyan]2026-03-09T00:00[/cyan].

Clicks before --since are still counted for the features of later clicks.
"""

TRAIN_EPILOG = f"""{TIMES}
By default, a model is trained on the first of the last three weeks of a log, or on the first half of a shorter log.

With --until alone, training begins with the log. With --since alone, it ends where it would by default.

[bold]Examples[/bold]

Three weeks of synthetic clicks: the first trains, the second sets the thresholds, the third is for measuring:

  [cyan]onlineguard simulate traffic[/cyan]

  [cyan]onlineguard slidr train traffic/clicks.parquet --out model[/cyan]

  [cyan]onlineguard slidr calibrate traffic/clicks.parquet --model model[/cyan]

  [cyan]onlineguard slidr evaluate traffic/clicks.parquet --model model --truth traffic/truth.parquet \
--report slidr.html[/cyan]

All of a log with other column names, with slices by device:

  [cyan]onlineguard slidr train log.csv.gz --mapping log.toml --slice device --until 100% --out model[/cyan]
"""


@app.callback()
def slidr() -> None:
    """Robots among ad clicks: train a model, choose thresholds, measure them, score clicks.

    A click that led to a purchase, or of a valuable account, was a person's. Nothing is known of all others.

    A model learns from the known people. Every slice has a threshold, and all thresholds together keep the share of \
purchases that are called robotic within a budget.
    """


@app.command(epilog=TRAIN_EPILOG)
def train(
    clicks: Clicks,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the model is written. A model there is replaced.")],
    mapping: MappingFile = None,
    rejects: Rejects = None,
    lookups_: LookupsFolder = None,
    kind: Annotated[
        KindName,
        typer.Option(
            help="mlp: a network of three hidden layers. cross: with products of features. embedding: with user agent, "
            "ip prefix and ad. logistic, velocity: baselines."
        ),
    ] = KindName.mlp,
    slice_: Annotated[
        str, typer.Option("--slice", metavar="COLUMN[,COLUMN]", help="Fields of a click whose values make a slice.")
    ] = "device,marketplace,logged_in",
    since: Since = None,
    until: Until = None,
    rfm_at_least: Annotated[
        float, typer.Option(help="Accounts with at least this RFM score, 3 to 15, are people.")
    ] = 12.0,
    weights: Annotated[
        bool,
        typer.Option(help="Give each hour of the week the same weight, with and without login, for either label."),
    ] = True,
    leave_out: Annotated[
        str | None,
        typer.Option(
            metavar="FEATURE[,FEATURE]",
            help="Features that are not learned; '' for none.",
            show_default="lookups of accounts, users, user agents and ads",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and clicks give the same model.")] = 0,
) -> None:
    """Train a model on the first part of a log, with the labels known when that part ends."""
    with one_line_errors():
        from onlineguard.cli import console, runner
        from onlineguard.cli import slidr_words as words
        from onlineguard.errors import CheckpointError
        from onlineguard.slidr.model import Model, Span, save_model
        from onlineguard.slidr.pipeline import Config, known_humans, split

        if out.exists() and not out.is_dir():
            raise CheckpointError(f"--out is {out}, which is a file; name a folder")
        runner.check_destinations(None, {"rejects": rejects}, {"the source": clicks, "--mapping": mapping})
        columns = tuple(name.strip() for name in slice_.split(",") if name.strip())
        config = Config(kind=kind.value, slices=columns, rfm_at_least=rfm_at_least, weighted=weights, seed=seed)
        if leave_out is not None:
            left_out = tuple(name.strip() for name in leave_out.split(",") if name.strip())
            config = dataclasses.replace(config, left_out=left_out)
        prepared = _prepared(clicks, mapping, rejects, lookups_, config)
        parts = split(*prepared.bounds)
        start, end = _span(prepared, since, until, parts.train_since if until is None else None, parts.train_until)
        rows = prepared.between(start, end)
        scorer = _trained(prepared, rows, end, config)
        trained = Span.of(start, end, rows, known_humans(prepared, end, config))
        model = save_model(out, Model(config, scorer, trained))
        words.say_what_is_held(scorer)
        console.say(
            f"learned from {trained.clicks:,} clicks, {trained.humans:,} of them known to be people's, "
            f"{words.times(trained)}",
            f"model {model.version}: {out}; "
            f"next: onlineguard slidr calibrate {words.log(clicks, mapping)} --model {out}",
        )


CALIBRATE_EPILOG = f"""{TIMES}
Without --since, calibration begins where training ended.

Without --until, it ends a week before the end of a log of three weeks or more, and at 71.43% of a shorter one. If the \
log begins after the training, it ends with the log.

[bold]Examples[/bold]

  [cyan]onlineguard slidr calibrate traffic/clicks.parquet --model model --budget 0.02[/cyan]

  [cyan]onlineguard slidr calibrate traffic/clicks.parquet --model model --method quadratic --min-coverage 0.3[/cyan]
"""


@app.command(epilog=CALIBRATE_EPILOG)
def calibrate(
    clicks: Clicks,
    folder: ModelFolder,
    mapping: MappingFile = None,
    rejects: Rejects = None,
    lookups_: LookupsFolder = None,
    since: Since = None,
    until: Until = None,
    budget: Annotated[float, typer.Option(help="Share of purchasing clicks that may be called robotic.")] = 0.01,
    min_coverage: Annotated[
        float, typer.Option(help="Share of the clicks of heavy sessions that must be called robotic in every slice.")
    ] = 0.0,
    method: Annotated[
        MethodName,
        typer.Option(
            help="envelope: the most clicks for the budget. quadratic: as in the paper. global: one threshold for all. "
            "knee: one threshold, without a budget."
        ),
    ] = MethodName.envelope,
    cap: Annotated[
        float | None,
        typer.Option(
            help="Share of the purchasing clicks of any one slice that may be called robotic. 1 is no cap.",
            show_default="three budgets",
        ),
    ] = None,
    confidence: Annotated[
        str,
        typer.Option(
            metavar="SHARE|none",
            help="The budget holds for new clicks with this probability. none: on average only, and is exceeded about "
            "every other time.",
        ),
    ] = "0.95",
    regulars: Annotated[
        bool,
        typer.Option(help="Hold the budget also on visitors who come back for days without buying, a click each."),
    ] = True,
) -> None:
    """Choose a threshold for every slice, on clicks that the model has not learned, and write them to its folder."""
    with one_line_errors():
        from onlineguard.cli import console, runner
        from onlineguard.cli import slidr_words as words
        from onlineguard.slidr.model import Span, load_model, save_model
        from onlineguard.slidr.pipeline import purchasing, split
        from onlineguard.slidr.workflow import calibrate_scorer

        runner.check_destinations(None, {"rejects": rejects}, {"the source": clicks, "--mapping": mapping})
        model = load_model(folder)
        prepared = _prepared(clicks, mapping, rejects, lookups_, model.config, model)
        begins_after_training = prepared.bounds[0] >= model.trained.until
        usual_until = None if begins_after_training else split(*prepared.bounds).calibrate_until
        start, end = _span(prepared, since, until, model.trained.until, usual_until)
        words.warn_of_reuse(start, model.trained, "learned")
        words.warn_of_weekdays((start, end))
        options: dict[str, Any] = {
            "budget": budget,
            "cap": cap,
            "min_coverage": min_coverage,
            "method": method.value,
            "confidence": _confidence(confidence),
            "hold_regulars": regulars,
        }
        rows = prepared.between(start, end)
        thresholds = calibrate_scorer(prepared, model, model.scorer, rows, end, options)
        calibrated = Span.of(start, end, rows, purchasing(prepared, end))
        changes: dict[str, Any] = {"thresholds": thresholds, "calibrated": calibrated, "options": options}
        saved = save_model(folder, dataclasses.replace(model, **changes))
        for warning in thresholds.calibration.warnings:
            console.say(f"beware: {warning}")
        console.print_rows("Thresholds, and their rates on the clicks they were chosen on", words.chosen(thresholds))
        console.say(
            f"calibrated on {calibrated.clicks:,} clicks, {calibrated.humans:,} of them purchasing, "
            f"{words.times(calibrated)}",
            f"model {saved.version}: {folder}; "
            f"next: onlineguard slidr evaluate {words.log(clicks, mapping)} --model {folder}",
        )


EVALUATE_EPILOG = f"""{TIMES}
Without --since, measuring begins where the calibration ended. Without --until, it ends with the log.

[bold]Examples[/bold]

  [cyan]onlineguard slidr evaluate traffic/clicks.parquet --model model --report slidr.html --json slidr.json[/cyan]

Compared with logistic regression, the velocity rule, gradient-boosted trees, and the model without sample weights. \
All are trained and calibrated on the model's own clicks, which the log must hold:

  [cyan]onlineguard slidr evaluate traffic/clicks.parquet --model model --baselines[/cyan]
"""


@app.command(epilog=EVALUATE_EPILOG)
def evaluate(
    clicks: Clicks,
    folder: ModelFolder,
    mapping: MappingFile = None,
    rejects: Rejects = None,
    lookups_: LookupsFolder = None,
    since: Since = None,
    until: Until = None,
    truth: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The simulator's table of click_id and robot, for true recall and true FPR."),
    ] = None,
    baselines: Annotated[bool, typer.Option("--baselines", help="Compare with baselines; takes minutes.")] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a self-contained HTML report.")] = None,
    json_: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures as JSON.")] = None,
) -> None:
    """Measure a calibrated model on clicks it has not seen: IVR, FPR and coverage with intervals, slice by slice."""
    with one_line_errors():
        from onlineguard.cli import console, runner
        from onlineguard.cli import slidr_words as words
        from onlineguard.errors import InvalidArgument
        from onlineguard.slidr.evaluation.evaluation import compare
        from onlineguard.slidr.model import load_model
        from onlineguard.slidr.workflow import measure, measure_baselines, read_truth

        written = {"report": report, "json": json_, "rejects": rejects}
        runner.check_destinations(None, written, {"the source": clicks, "--mapping": mapping, "--truth": truth})
        if truth is not None and clicks.is_dir():
            raise InvalidArgument(
                f"--truth names clicks by their ids, and of the history {clicks} only hashes of ids "
                "are held; leave it out, or give the log"
            )
        model = load_model(folder)
        thresholds, calibrated = _thresholds(model, folder)
        prepared = _prepared(clicks, mapping, rejects, lookups_, model.config, model)
        start, end = _span(prepared, since, until, calibrated.until, None)
        words.warn_of_reuse(start, calibrated, "calibrated on")
        words.warn_of_weekdays((calibrated.since, calibrated.until), (start, end))
        rows = prepared.between(start, end)
        robot = None if truth is None else read_truth(truth, prepared)
        measured = measure(prepared, model.scorer, thresholds, rows, end, model.config, robot)
        evaluations, hourly = {model.config.kind: measured}, None
        if baselines:
            _check_that_the_log_holds(prepared, model.trained, calibrated)
            train = partial(_trained, prepared)
            others = measure_baselines(prepared, model, calibrated, rows, end, train, robot)
            evaluations |= others.evaluations
            hourly = others.hourly or None
        console.print_rows(words.which(prepared, rows, (start, end), model, calibrated), measured.table(words.SHOWN))
        comparison = compare(evaluations) if baselines else None
        if comparison is not None:
            console.print_rows("Beside other scorers, trained and calibrated alike", comparison)
        facts = {
            "Model": f"{model.version}, {model.config.kind}",
            "Trained on": f"{model.trained.clicks:,} clicks, {model.trained.humans:,} known people's, "
            + words.times(model.trained),
            "Calibrated on": f"{calibrated.clicks:,} clicks, {calibrated.humans:,} purchasing, "
            + words.times(calibrated),
            "Evaluated on": f"{int(rows.sum()):,} clicks of {clicks.name}",
            "Slices": " / ".join(model.config.slices),
            "Seed": str(model.config.seed),
        }
        if report is not None:
            from onlineguard.slidr.evaluation.report import Extras, write_report

            extras = Extras(hourly, comparison, getattr(model.scorer, "losses", None))
            write_report(report, measured, f"Robots among the clicks of {clicks.name}", facts, extras)
            console.say(f"report: {report}")
        if json_ is not None:
            plain = {
                "facts": facts,
                "scorers": {name: evaluation.to_dict() for name, evaluation in evaluations.items()},
            }
            _replace(json_, lambda path: path.write_text(json.dumps(plain, indent=1) + "\n", "utf-8"))
            console.say(f"json: {json_}")


SCORE_EPILOG = """[bold]Columns[/bold]

click_id, p_robot, threshold, slice, robotic (whether p_robot is above the threshold), and model (its version).

There is one row for each click, in the order of the log. A click that arrived twice has two rows.

[bold]Examples[/bold]

  [cyan]onlineguard slidr score traffic/clicks.parquet --model model --out decisions.parquet[/cyan]
"""


@app.command(epilog=SCORE_EPILOG)
def score(
    clicks: ClicksFile,
    folder: ModelFolder,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where decisions are written: .parquet, .csv or .ndjson.")],
    mapping: MappingFile = None,
    rejects: Rejects = None,
    lookups_: LookupsFolder = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Decide about every click of a log. Features are counted from its first click on."""
    with one_line_errors():
        from onlineguard.cli import console, runner
        from onlineguard.errors import InvalidArgument
        from onlineguard.slidr.model import load_model
        from onlineguard.slidr.workflow import check_table, decisions

        check_table("out", out)
        if clicks.is_dir():
            raise InvalidArgument(f"{clicks} is a folder; onlineguard slidr replay {clicks} judges a history anew")
        read = {"the source": clicks, "--mapping": mapping}
        runner.check_destinations(None, {"out": out, "rejects": rejects}, read)
        model = load_model(folder)
        thresholds, _ = _thresholds(model, folder)
        prepared = _prepared(clicks, mapping, rejects, lookups_, model.config, model)
        start, end = _span(prepared, since, until, None, None)
        rows = (prepared.ts >= start) & (prepared.ts < end)
        table = decisions(prepared, model, thresholds, rows)
        _replace(out, lambda path: getattr(table, f"write_{out.suffix.lower()[1:]}")(path))
        console.say(f"{int(table['robotic'].sum()):,} of {table.height:,} clicks are robotic", f"out: {out}")


RFM_EPILOG = """[bold]Columns[/bold]

Orders have user_id, ts (milliseconds since 1970 UTC) and amount. A negative amount is a refund.

The scores have user_id, recency, frequency, monetary (each 1 to 5) and rfm, their sum: 3 to 15. Orders of the 90 days \
before --at count.

[bold]Examples[/bold]

Every night, the scores of all accounts:

  [cyan]onlineguard slidr rfm orders.parquet --out rfm.parquet[/cyan]

A log of clicks with the score that each account had when the log began:

  [cyan]onlineguard slidr rfm orders.parquet --clicks log.parquet --out log-rfm.parquet[/cyan]
"""


@app.command(epilog=RFM_EPILOG)
def rfm(
    orders: Annotated[Path, typer.Argument(metavar="ORDERS", help="A .csv, .csv.gz, .ndjson, .parquet or .zip file.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where it is written: .parquet, .csv or .ndjson.")],
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Scores as of this time, in UTC.",
            show_default="after the last order, or where --clicks begin",
        ),
    ] = None,
    clicks: Annotated[
        Path | None,
        typer.Option(metavar="CLICKS", help="Write this log with the scores of its accounts, in place of the scores."),
    ] = None,
    mapping: MappingFile = None,
) -> None:
    """Score accounts by recency, frequency and monetary value of their orders, and join the scores to clicks."""
    with one_line_errors():
        from onlineguard.cli import console, runner
        from onlineguard.cli import slidr_words as words
        from onlineguard.slidr.rfm import joined, read_orders, scored_at
        from onlineguard.slidr.workflow import check_table

        check_table("out", out)
        runner.check_destinations(None, {"out": out}, {"orders": orders, "--clicks": clicks, "--mapping": mapping})
        bought = read_orders(orders)
        if clicks is None:
            table, when = scored_at(bought, at)
            said = f"{table.height:,} accounts with orders have a score"
        else:
            table, when = joined(bought, clicks, mapping, at)
            said = f"{table['rfm'].count():,} of {table.height:,} clicks are of accounts with a score"
        _replace(out, lambda path: getattr(table, f"write_{out.suffix.lower()[1:]}")(path))
        console.say(f"{said}, as of {words.day(when)}", f"out: {out}")


def _prepared(
    clicks: Path,
    mapping: Path | None,
    rejects: Path | None,
    lookups_: Path | None,
    config: "Config",
    model: "Model | None" = None,
) -> "Prepared":
    from onlineguard.cli import console
    from onlineguard.errors import InvalidArgument, SourceError
    from onlineguard.report.formats import counted
    from onlineguard.slidr.features import Featuriser
    from onlineguard.slidr.log import prepare_log, read_log
    from onlineguard.slidr.lookups.lookups import opened

    if clicks.is_dir():
        flags = {"--mapping": mapping, "--rejects": rejects, "--lookups": lookups_}
        return features.prepared_history(clicks, config, flags)
    found = None if lookups_ is None else opened(lookups_)
    if model is not None and model.looks_up and found is None:
        raise InvalidArgument(
            f"model {model.version} was trained with lookups, and without them takes everybody for a stranger; "
            "name their folder with --lookups"
        )
    featuriser = Featuriser(lookups=found) if model is None else model.featuriser(found)
    log = read_log(clicks, mapping, rejects, featuriser)
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


def _span(
    prepared: "Prepared", since: str | None, until: str | None, usual_since: int | None, usual_until: int | None
) -> tuple[int, int]:
    """Start and end of the part of the log that is used. A usual bound of None stands for that of the log.

    Raises InvalidArgument if the part has no clicks.
    """
    from onlineguard.cli import slidr_words as words
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
            f"--since {words.day(start)} --until {words.day(end)} leaves no clicks; the log runs from "
            f"{words.day(first)} to {words.day(last)}"
        )
    return start, end


def _trained(prepared: "Prepared", rows: "Mask", known_at: int, config: "Config") -> "Scorer":
    from onlineguard.cli import console
    from onlineguard.slidr.pipeline import train_model

    total = int(rows.sum())
    with console.progress(f"training {config.kind}", total, noun="clicks") as progress:
        scorer = train_model(prepared, rows, known_at, config, lambda done, _total, _loss: progress(done))
        progress(total)
    return scorer


def _check_that_the_log_holds(prepared: "Prepared", trained: "Span", calibrated: "Span") -> None:
    """Raises InvalidArgument unless the log has exactly the clicks that the model was trained and calibrated on."""
    from onlineguard.errors import InvalidArgument

    learned, later = (int(prepared.between(span.since, span.until).sum()) for span in (trained, calibrated))
    if (learned, later) != (trained.clicks, calibrated.clicks):
        raise InvalidArgument(
            f"--baselines needs the {trained.clicks:,} clicks that the model has learned and the "
            f"{calibrated.clicks:,} it was calibrated on; this log has {learned:,} and {later:,} "
            "in those times. Give the log that the model was trained with, or leave --baselines out"
        )


def _confidence(text: str) -> float | None:
    from onlineguard.errors import InvalidArgument

    if text == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise InvalidArgument("confidence", f"is {text!r}; it must be a number such as 0.95, or none") from None


def _thresholds(model: "Model", folder: Path) -> "tuple[Thresholds, Span]":
    """The thresholds of a model, and the clicks that they rest on; raises CheckpointError before it is calibrated."""
    from onlineguard.errors import CheckpointError

    if model.thresholds is None or model.calibrated is None:
        raise CheckpointError(
            f"{folder} has no thresholds yet; run onlineguard slidr calibrate CLICKS --model {folder}"
        )
    return model.thresholds, model.calibrated


def _replace(path: Path, write: Any) -> None:
    """Have `write` write the file under a temporary name, which then takes the place of the old file."""
    from onlineguard import atomic
    from onlineguard.errors import InvalidArgument

    try:
        with atomic.replacing(path) as temporary:
            write(temporary)
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be written: {error.strerror or error}; name another file") from error
