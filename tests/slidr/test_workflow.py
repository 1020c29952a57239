"""A log and a model together: the same rows in every table, and thresholds that know what was learned."""

import itertools
from datetime import date

import numpy as np
import polars as pl
import pytest

from onlineguard.errors import SourceError
from onlineguard.slidr.model import Model, Span
from onlineguard.slidr.pipeline import Config, calibrate_model, known_humans, prepare, scores, train_model
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic
from onlineguard.slidr.workflow import calibrate_scorer, decisions, measure, read_truth

DAY = 86_400_000
CONFIG = Config(kind="velocity")


@pytest.fixture(scope="module")
def traffic():
    return simulate(Traffic(clicks=12_000, days=3, start=date(2026, 3, 2)), seed=5)


@pytest.fixture(scope="module")
def prepared(traffic):
    return prepare(traffic.clicks, CONFIG)


@pytest.fixture(scope="module")
def parts(prepared):
    """The clicks of each day, and when each day ends."""
    first = prepared.bounds[0] // DAY * DAY
    ends = [first + day * DAY for day in range(4)]
    return [prepared.between(since, until) for since, until in itertools.pairwise(ends)], ends[1:]


@pytest.fixture(scope="module")
def model(prepared, parts):
    """A velocity rule of the first day."""
    (learned, _, _), (end, _, _) = parts
    scorer = train_model(prepared, learned, end, CONFIG)
    return Model(CONFIG, scorer, Span.of(end - DAY, end, learned, known_humans(prepared, end, CONFIG)))


def test_decisions_are_those_of_the_scorer_and_the_thresholds_click_by_click(prepared, parts, model):
    (_, later, latest), (_, end, _) = parts
    thresholds = calibrate_scorer(prepared, model, model.scorer, later, end, {"budget": 0.05, "confidence": None})
    table = decisions(prepared, model, thresholds, latest)
    p_robot = scores(prepared, model.scorer)[latest]
    assert table["click_id"].to_list() == prepared.frame["click_id"].filter(pl.Series(latest)).to_list()
    assert np.array_equal(table["p_robot"].to_numpy(), p_robot)
    assert np.array_equal(table["robotic"].to_numpy(), p_robot > table["threshold"].to_numpy())
    assert 0 < table["robotic"].sum() < table.height
    measured = measure(prepared, model.scorer, thresholds, latest, end, CONFIG)
    assert (measured.overall.ivr.hits, measured.overall.ivr.trials) == (table["robotic"].sum(), table.height)


def test_what_was_learned_weighs_the_slices_only_if_the_log_holds_exactly_that(prepared, parts, model):
    (learned, later, _), (_, end, _) = parts
    options = {"budget": 0.2, "confidence": 0.9}
    with_learned = calibrate_model(prepared, model.scorer, later, end, CONFIG, **options, learned=learned)
    without = calibrate_model(prepared, model.scorer, later, end, CONFIG, **options)
    assert not np.array_equal(with_learned.calibration.thresholds, without.calibration.thresholds)
    found = calibrate_scorer(prepared, model, model.scorer, later, end, options)
    assert np.array_equal(found.calibration.thresholds, with_learned.calibration.thresholds)
    other = Model(CONFIG, model.scorer, Span(model.trained.since, model.trained.until, end, 1, 1))
    found = calibrate_scorer(prepared, other, model.scorer, later, end, options)
    assert np.array_equal(found.calibration.thresholds, without.calibration.thresholds)


@pytest.mark.parametrize("ending", ["parquet", "csv", "ndjson"])
def test_the_truth_is_read_click_by_click_whatever_the_order_of_its_rows(traffic, prepared, tmp_path, ending):
    path = tmp_path / f"truth.{ending}"
    getattr(traffic.truth.reverse(), f"write_{ending}")(path)
    robot = dict(traffic.truth.select("click_id", "robot").iter_rows())
    assert read_truth(path, prepared).tolist() == [robot[click] for click in prepared.frame["click_id"]]


def test_a_truth_that_lacks_clicks_or_has_another_ending_is_refused(traffic, prepared, tmp_path):
    traffic.truth[10:].write_parquet(tmp_path / "truth.parquet")
    with pytest.raises(SourceError, match=r"lacks 1\d of the clicks"):
        read_truth(tmp_path / "truth.parquet", prepared)
    with pytest.raises(SourceError, match=r"name a \.parquet, \.csv or \.ndjson file"):
        read_truth(tmp_path / "truth.txt", prepared)
