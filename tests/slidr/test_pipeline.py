"""From clicks to thresholds: what may be seen when, and the same answer however it is asked."""

import dataclasses
from datetime import date
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.clicks.marketplaces import TIMEZONES
from onlineguard.slidr.features import LOOKED_UP, NAMES, Featuriser
from onlineguard.slidr.learning.baselines import LogisticBaseline, TreesBaseline, VelocityRule
from onlineguard.slidr.learning.train import Network
from onlineguard.slidr.pipeline import (
    Config,
    calibrate_model,
    known_humans,
    labelled,
    moment,
    prepare,
    purchasing,
    sample_weights,
    scores,
    split,
    train_model,
    weekdays,
)
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic

DAY = 86_400_000


@pytest.fixture(scope="module")
def traffic():
    """Four days of clicks, and the truth."""
    clicks, truth, _orders = simulate(Traffic(clicks=20_000, days=4, start=date(2026, 3, 2)), seed=3)
    return clicks, truth


@pytest.fixture(scope="module")
def prepared(traffic):
    return prepare(traffic[0])


@pytest.fixture(scope="module")
def learned(prepared):
    """A network of the first two days, thresholds of the third, and when each of these ended."""
    first = int(prepared.ts.min())
    ends = first + 2 * DAY, first + 3 * DAY
    network = train_model(prepared, prepared.between(first, ends[0]), ends[0])
    thresholds = calibrate_model(prepared, network, prepared.between(*ends), ends[1], budget=0.05, confidence=None)
    return network, thresholds, ends


def test_features_are_those_of_the_featuriser_in_one_pass(traffic, prepared, monkeypatch):
    monkeypatch.setattr("onlineguard.slidr.pipeline.BATCH", 777)
    seen = []
    again = prepare(traffic[0], progress=seen.append)
    assert np.array_equal(again.X, Featuriser().transform(traffic[0]))
    assert np.array_equal(again.X, prepared.X)
    assert seen[:2] == [777, 1554]
    assert seen[-1] == len(again.X)


def test_no_later_click_changes_what_is_known_of_an_earlier_one(traffic, prepared):
    half = prepare(traffic[0][:9_000])
    assert np.array_equal(half.X, prepared.X[:9_000])
    assert np.array_equal(half.first, prepared.first[:9_000])


def test_every_click_has_the_slice_that_its_columns_say(traffic, prepared):
    clicks = traffic[0]
    for i in range(0, clicks.height, 997):
        key = prepared.slice_keys[prepared.slice_ids[i]]
        logged_in = str(clicks["logged_in"][i]).lower()
        assert key == (clicks["device"][i], clicks["marketplace"][i], logged_in)
    assert list(prepared.slice_keys) == sorted(set(prepared.slice_keys))


def test_hours_and_weekdays_are_local(traffic, prepared):
    clicks = traffic[0]
    for i in range(0, clicks.height, 499):
        local = (
            pl.Series([clicks["ts"][i]])
            .cast(pl.Datetime("ms", "UTC"))[0]
            .astimezone(ZoneInfo(TIMEZONES.get(clicks["marketplace"][i], "UTC")))
        )
        assert (prepared.hour[i], prepared.weekday[i]) == (local.hour, local.weekday())


def test_a_click_that_came_twice_counts_once(traffic, prepared):
    ids = traffic[0]["click_id"]
    assert 0 < (~prepared.first).sum() == len(ids) - ids.n_unique()
    assert prepared.between(0, 2**60).sum() == ids.n_unique()


def test_parts_of_a_log_meet_without_overlap(prepared):
    first, last = int(prepared.ts.min()), int(prepared.ts.max())
    cut = moment("50%", first, last)
    early, late = prepared.between(first, cut), prepared.between(cut, moment("100%", first, last))
    assert not (early & late).any()
    assert np.array_equal(early | late, prepared.first)
    assert early.any()
    assert late.any()


def test_a_wrong_clock_does_not_move_the_parts_of_a_log(traffic, prepared):
    first, last = int(prepared.ts.min()), int(prepared.ts.max())
    assert prepared.bounds == (first, last)
    ts = prepared.ts.copy()
    ts[100:110], ts[200:210] = 5, last + 3000 * DAY
    wrong = prepare(traffic[0].with_columns(ts=pl.Series(ts)))
    assert wrong.bounds == (first, last)


def test_a_purchase_is_not_known_before_it_was_made(traffic, prepared):
    at = int(prepared.ts.min()) + 2 * DAY
    known = purchasing(prepared, at)
    bought = traffic[0]["purchase_ts"].fill_null(2**60).to_numpy()
    assert known.any()
    assert (bought[known] <= at).all()
    assert ((bought <= at) == known).all()
    assert ((bought > at) & (bought < 2**60)).any()
    assert (known_humans(prepared, at, Config()) >= known).all()
    assert known_humans(prepared, at, Config()).sum() > known.sum()


@pytest.mark.slow
def test_a_model_learns_nothing_from_clicks_or_purchases_after_its_part(traffic, prepared, learned):
    cut = learned[2][0]
    future = pl.col("ts") >= cut
    changed = traffic[0].with_columns(
        device=pl.when(future).then(pl.lit("new")).otherwise("device"),
        ip=pl.when(future).then(pl.lit("1.2.3.4")).otherwise("ip"),
        purchase_ts=pl.when(pl.col("purchase_ts") > cut).then(None).otherwise("purchase_ts"),
    )
    # a late click may arrive behind a later one, whose changed ip it would see: so only those that do not
    other = prepare(changed)
    same = (other.X == prepared.X).all(1)
    rows = prepared.between(0, cut) & same
    assert rows.sum() > 0.95 * prepared.between(0, cut).sum()
    a = train_model(prepared, rows, cut)
    b = train_model(other, rows, cut)
    assert np.array_equal(scores(prepared, a), scores(prepared, b))


def test_thresholds_hold_the_budget_on_the_clicks_they_were_chosen_on(prepared, learned):
    network, thresholds, (cut, until) = learned
    rows = prepared.between(cut, until)
    robotic = thresholds.robotic(scores(prepared, network), prepared)
    human = purchasing(prepared, until)
    assert 0 < (robotic & rows).sum()
    assert (robotic & rows & human).sum() <= 0.05 * (rows & human).sum()
    assert np.array_equal(robotic, scores(prepared, network) > thresholds.of(prepared))


def test_robots_are_found_far_more_often_than_people(traffic, prepared, learned):
    network, thresholds, (_, until) = learned
    robot = traffic[0].select("click_id").join(traffic[1], on="click_id", how="left", maintain_order="left")["robot"]
    robot = robot.to_numpy()
    later = prepared.between(until, 2**60)
    robotic = thresholds.robotic(scores(prepared, network), prepared)
    assert robotic[later & robot].mean() > 3 * robotic[later & ~robot].mean()


def test_a_slice_that_was_not_calibrated_has_the_default_threshold(traffic, prepared, learned):
    network, thresholds, _ = learned
    fresh = prepare(traffic[0][:50].with_columns(device=pl.lit("a watch")))
    assert (thresholds.of(fresh) == thresholds.calibration.default).all()
    p = scores(fresh, network)
    assert np.array_equal(thresholds.robotic(p, fresh), p > thresholds.calibration.default)


def test_other_slices_than_the_thresholds_are_refused(traffic, learned):
    other = prepare(traffic[0][:50], Config(slices=("device",)))
    with pytest.raises(
        InvalidArgument, match="slices of the clicks are device, but thresholds were chosen for device, m"
    ):
        learned[1].of(other)


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("mlp", Network),
        ("cross", Network),
        ("embedding", Network),
        ("logistic", LogisticBaseline),
        ("velocity", VelocityRule),
        pytest.param("trees", TreesBaseline, marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_model_is_trained_and_scores_alike_in_parts(prepared, kind, made):
    rows = prepared.first & (np.arange(len(prepared.X)) < 3_000)
    scorer = train_model(prepared, rows, int(prepared.ts.max()), Config(kind=kind))
    assert type(scorer) is made
    whole, part = scores(prepared, scorer), scores(prepared, scorer, rows)
    assert whole.dtype == part.dtype == np.float32
    np.testing.assert_allclose(part, whole[rows], atol=1e-6)
    assert whole.std() > 0.0


def test_a_day_of_the_week_that_training_has_not_seen_changes_no_score(prepared):
    at = [NAMES.index("weekday_sin"), NAMES.index("weekday_cos")]
    cut = int(prepared.ts.min()) + 2 * DAY
    network = train_model(prepared, prepared.between(0, cut), cut)  # Monday and Tuesday
    assert set(at) <= set(network.held.tolist())
    X = prepared.X.copy()
    X[:, at] = [[-1.0, 0.25]]
    assert np.array_equal(network.p_robot(X), network.p_robot(prepared.X))


def test_the_day_of_the_week_is_learned_from_a_week(prepared):
    n = len(prepared.X)
    week = dataclasses.replace(prepared, weekday=np.arange(n) % 7)
    held = train_model(week, prepared.first, int(prepared.ts.max())).held
    assert [NAMES[at] for at in held] == list(LOOKED_UP)  # there are none here


def test_a_purchase_labels_the_other_clicks_of_its_visitor_unless_labels_are_plain(prepared):
    rows, known_at = prepared.first, int(prepared.ts.max())
    human, weights = labelled(prepared, rows, known_at, Config())
    plain, _ = labelled(prepared, rows, known_at, Config(spread=False))
    assert np.array_equal(plain, known_humans(prepared, known_at, Config())[rows])
    bought = purchasing(prepared, known_at)[rows]
    assert human[bought].all()
    buyers = set(prepared.frame.filter(pl.Series(rows))["user_id"].filter(pl.Series(bought)).drop_nulls())
    users = prepared.frame.filter(pl.Series(rows))["user_id"]
    assert human.sum() > bought.sum()
    assert human[users.is_in(list(buyers)).fill_null(False).to_numpy()].all()
    assert weights.max() <= Config().largest_weight * (1 + 1e-6)
    np.testing.assert_allclose(weights.mean(), 1.0, rtol=1e-4)


def test_weights_are_bounded_and_can_be_left_out(prepared):
    rows = prepared.first
    human = known_humans(prepared, int(prepared.ts.max()), Config())[rows]
    assert sample_weights(prepared, rows, human, Config(weighted=False)) is None
    bounded = sample_weights(prepared, rows, human, Config(largest_weight=3.0))
    free = sample_weights(prepared, rows, human, Config(largest_weight=None))
    assert bounded.max() <= 3.0 * (1 + 1e-6) < free.max()


def test_the_same_seed_gives_the_same_model_and_thresholds(prepared, learned):
    network, thresholds, (cut, until) = learned
    again = train_model(prepared, prepared.between(0, cut), cut)
    assert np.array_equal(scores(prepared, again), scores(prepared, network))
    other = train_model(prepared, prepared.between(0, cut), cut, dataclasses.replace(Config(), seed=1))
    assert not np.array_equal(scores(prepared, other), scores(prepared, network))
    same = calibrate_model(prepared, again, prepared.between(cut, until), until, budget=0.05, confidence=None)
    assert same.calibration.to_dict() == thresholds.calibration.to_dict()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "forest"}, "kind is 'forest'; it must be one of mlp"),
        ({"slices": ("device", "ts")}, "slices names 'ts'; a slice is told by one or more of user_id"),
        ({"slices": ()}, "slices is .*name each column once"),
        ({"slices": ("device", "device")}, "slices is .*name each column once"),
    ],
)
def test_a_config_that_cannot_be_is_refused(fields, message):
    with pytest.raises(InvalidArgument, match=message):
        Config(**fields)


def test_a_part_without_clicks_or_purchases_is_refused(prepared):
    with pytest.raises(InvalidArgument, match="rows has no click"):
        train_model(prepared, prepared.between(0, 1), 1)
    velocity = train_model(prepared, prepared.first, 0, Config(kind="velocity"))
    with pytest.raises(InvalidArgument, match=r"purchases: none of the .* clicks to calibrate on"):
        calibrate_model(prepared, velocity, prepared.first, known_at=0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0%", 1_000_000),
        ("50%", 1_500_000),
        ("100%", 2_000_000),
        ("36h", 1_000_000 + 36 * 3_600_000),
        ("1.5d", 1_000_000 + 36 * 3_600_000),
        ("10m", 1_600_000),
        ("1970-01-01T01:00", 3_600_000),
        ("1970-01-01T01:00+01:00", 0),
        ("1970-01-02", DAY),
    ],
)
def test_a_time_is_a_share_a_duration_or_a_date(text, expected):
    assert moment(text, 1_000_000, 1_999_999) == expected


MONDAY = 1_772_409_600_000  # 2026-03-02


@pytest.mark.parametrize(
    ("starts", "ends", "expected"),
    [
        (0, 21, (0, 7, 14)),
        (0, 28, (7, 14, 21)),
        (0.001, 20.999, (0.001, 7, 14)),  # the clicks of the first and the last minute are missing
        (0.2, 21, (0.2, 7, 14)),
        (0.0, 20.8, (0.0, 6.75 + 1 / 24, 13.75 + 1 / 24)),  # the nearest full hour
        (0.3, 21, None),
        (0, 20.7, None),
        (0, 14, None),
        (0, 0.001, None),
    ],
)
def test_three_whole_weeks_are_split_by_week_and_less_by_share(starts, ends, expected):
    first, last = MONDAY + round(starts * DAY), MONDAY + round(ends * DAY) - 1
    if expected is None:
        assert split(first, last) == (first, moment("50%", first, last), moment("71.43%", first, last))
    else:
        assert split(first, last) == tuple(MONDAY + round(at * DAY) for at in expected)


def test_a_split_by_week_calibrates_on_every_day_that_is_evaluated():
    for hours in range(0, 168, 5):
        first = MONDAY + hours * 3_600_000 + 1_234
        last = first + 21 * DAY
        parts = split(first, last)
        assert set(weekdays(parts.train_until, parts.calibrate_until)) == set(weekdays(parts.calibrate_until, last))


@pytest.mark.parametrize(
    ("since", "until", "days"),
    [
        (0, 7, "Mon Tue Wed Thu Fri Sat Sun"),
        (3, 6, "Thu Fri Sat"),
        (5.4, 7.6, "Mon Sat Sun"),
        (5.6, 7.4, "Sun"),
        (1.9, 2.2, "Wed"),  # less than half a day
        (1.8, 2.1, "Tue"),
        (-1, 30, "Mon Tue Wed Thu Fri Sat Sun"),
    ],
)
def test_a_day_of_the_week_is_held_by_half_of_it_or_more(since, until, days):
    assert " ".join(weekdays(MONDAY + round(since * DAY), MONDAY + round(until * DAY))) == days


@pytest.mark.parametrize("text", ["", "half", "101%", "-5%", "36", "12 h", "nan%", "2026-13-01"])
def test_anything_else_is_no_time(text):
    with pytest.raises(InvalidArgument, match=r"time is .*; it must be a share of the log"):
        moment(text, 0, 10)
