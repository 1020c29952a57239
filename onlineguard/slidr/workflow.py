"""What is done with a log and a model together: calibrate as it was trained, measure, compare with baselines, decide.

    thresholds = calibrate_scorer(prepared, model, model.scorer, later, known_at, {"budget": 0.01})
    evaluation = measure(prepared, model.scorer, thresholds, latest, known_at, model.config)
    decisions(prepared, model, thresholds, latest)

Like `pipeline`, it works on frames and arrays. Only `read_truth` opens a file.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool

from onlineguard.errors import InvalidArgument, SourceError
from onlineguard.slidr.evaluation.evaluation import Evaluation, Share, evaluate, hourly_fpr
from onlineguard.slidr.learning.scorer import Scorer
from onlineguard.slidr.model import Model, Span
from onlineguard.slidr.pipeline import (
    Config,
    Mask,
    Prepared,
    Thresholds,
    calibrate_model,
    known_humans,
    purchasing,
    sample_weights,
    scores,
    slice_name,
)

BASELINES = ("logistic", "velocity", "trees")

Robots = Bool[np.ndarray, " n"]  # whether a robot made each click of the log
Train = Callable[[Mask, int, Config], Scorer]  # from which clicks, with the labels known at which time


class Comparison(NamedTuple):
    """The baselines beside a model, all trained, calibrated and measured on the same clicks."""

    evaluations: dict[str, Evaluation]  # by the scorer's name
    hourly: dict[str, tuple[Share, ...]]  # the model's FPR by hour of the day, with sample weights and without


def calibrate_scorer(
    prepared: Prepared, model: Model, scorer: Scorer, rows: Mask, known_at: int, options: Mapping[str, Any]
) -> Thresholds:
    """Thresholds, on the clicks `rows` (n,) bool, of a scorer that has learned the same clicks as the model.

    The clicks that it learned help to weigh the slices against each other where the log holds exactly those, and none
    of them is among `rows`. `options` are the keyword arguments of `calibrate_model`.
    """
    learned: Mask | None = prepared.between(model.trained.since, model.trained.until)
    if int(learned.sum()) != model.trained.clicks or (learned & rows).any():
        learned = None
    return calibrate_model(prepared, scorer, rows, known_at, model.config, **options, learned=learned)


def measure(
    prepared: Prepared,
    scorer: Scorer,
    thresholds: Thresholds,
    rows: Mask,
    known_at: int,
    config: Config,
    robot: Robots | None = None,
    level: float = 0.95,
) -> Evaluation:
    """What a scorer and its thresholds are worth on the clicks `rows` (n,) bool, by the purchases known at `known_at`.

    level: of the intervals.

    With the truth, `robot`, recall and the true false-positive rate are measured too.
    """
    ids, keys = prepared.ids_among(thresholds.keys)
    known = known_humans(prepared, known_at, config)[rows]
    return evaluate(
        scores(prepared, scorer, rows),
        ids[rows],
        keys,
        purchasing(prepared, known_at)[rows],
        prepared.heavy[rows],
        thresholds.calibration,
        None if robot is None else robot[rows],
        level,
        weights=sample_weights(prepared, rows, known, config),
        known=known,
    )


def measure_baselines(
    prepared: Prepared,
    model: Model,
    calibrated: Span,
    rows: Mask,
    known_at: int,
    train: Train,
    robot: Robots | None = None,
) -> Comparison:
    """Train and calibrate every baseline on the clicks that the model was, and measure it on the clicks `rows`.

    Beside the baselines stands the model's own kind without sample weights, unless it has none to leave out. The log
    must hold the clicks of `model.trained` and of `calibrated`.
    """
    learned = prepared.between(model.trained.since, model.trained.until)
    later = prepared.between(calibrated.since, calibrated.until)
    configs = {kind: dataclasses.replace(model.config, kind=kind) for kind in BASELINES if kind != model.config.kind}
    unweighted = f"{model.config.kind} without weights"
    if model.config.weighted and model.config.kind != "velocity":
        configs[unweighted] = dataclasses.replace(model.config, weighted=False)
    human = purchasing(prepared, known_at)[rows]

    def by_hour(scorer: Scorer, thresholds: Thresholds) -> tuple[Share, ...]:
        robotic = thresholds.robotic(scores(prepared, scorer), prepared)[rows]
        return hourly_fpr(robotic, human, prepared.hour[rows])

    comparison = Comparison({}, {})
    for name, config in configs.items():
        scorer = train(learned, model.trained.known_at, config)
        thresholds = calibrate_scorer(prepared, model, scorer, later, calibrated.known_at, model.options)
        comparison.evaluations[name] = measure(prepared, scorer, thresholds, rows, known_at, config, robot)
        if name == unweighted and model.thresholds is not None:
            comparison.hourly["with weights"] = by_hour(model.scorer, model.thresholds)
            comparison.hourly["without weights"] = by_hour(scorer, thresholds)
    return comparison


def decisions(prepared: Prepared, model: Model, thresholds: Thresholds, rows: Mask) -> pl.DataFrame:
    """The decision about each of the clicks `rows` (n,) bool, in the order of the log.

    Columns: click_id, p_robot (float32), threshold, slice, robotic (p_robot above the threshold), model (its version).
    """
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


def check_table(argument: str, path: Path) -> None:
    """Raises InvalidArgument for a file whose name does not say how a table is written."""
    if path.suffix.lower() not in (".parquet", ".csv", ".ndjson"):
        raise InvalidArgument(argument, f"is {path}; its name must end in .parquet, .csv or .ndjson")


def read_truth(path: Path, prepared: Prepared) -> Robots:
    """Whether a robot made each click, from a table with the columns click_id and robot, as the simulator writes it.

    Raises SourceError if the file cannot be read, has another ending than .parquet, .csv or .ndjson, or lacks a click.
    """
    readers = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".ndjson": pl.read_ndjson}
    if path.suffix.lower() not in readers:
        raise SourceError(f"truth is {path}; name a .parquet, .csv or .ndjson file with click_id and robot")
    try:
        table = readers[path.suffix.lower()](path).select(
            pl.col("click_id").cast(pl.String), pl.col("robot").cast(pl.Boolean)
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SourceError(f"truth {path} cannot be read: {error}") from error
    table = table.unique("click_id", keep="first")
    robot = prepared.frame.select("click_id").join(table, on="click_id", how="left", maintain_order="left")["robot"]
    if missing := robot.null_count():
        raise SourceError(f"truth {path} lacks {missing:,} of the clicks; it must have a row for each click_id")
    return robot.to_numpy()
