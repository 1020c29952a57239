"""The evaluation of a calibrated scorer, against counting by hand and the definitions."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.evaluation.evaluation import NONE, POINTS, Share, compare, evaluate, hourly_fpr, threshold_text
from onlineguard.slidr.thresholds import metrics
from tests.support.slidr_evaluations import KEYS, calibration_of, made


def all_arrays(value):
    return (
        [value]
        if not isinstance(value, dict | list)
        else [leaf for item in (value.values() if isinstance(value, dict) else value) for leaf in all_arrays(item)]
    )


def test_every_rate_counts_the_decisions_of_the_calibration_over_all_and_a_slice():
    clicks = made(20_000)
    calibration = calibration_of(made(20_000, seed=1))
    e = evaluate(clicks.p, clicks.codes, KEYS, clicks.human, clicks.heavy, calibration, clicks.robot)
    marked = calibration.robotic(clicks.p, clicks.codes)
    for group, inside in [
        (e.overall, np.ones(len(marked), bool)),
        *((group, clicks.codes == code) for code, group in enumerate(e.slices)),
    ]:
        assert (group.clicks, group.purchases) == (inside.sum(), (inside & clicks.human).sum())
        for share, hits, among in [
            (group.ivr, marked, inside),
            (group.fpr, marked, inside & clicks.human),
            (group.coverage, marked, inside & clicks.heavy),
            (group.recall, marked, inside & clicks.robot),
            (group.precision, clicks.robot, inside & marked),
            (group.true_fpr, marked, inside & ~clicks.robot),
        ]:
            assert share == Share.of(int((hits & among).sum()), int(among.sum()))
            assert share.low <= share.value <= share.high
            assert (share.low, share.high) == metrics.clopper_pearson(share.hits, share.trials)
    assert [group.threshold for group in e.slices] == calibration.thresholds.tolist()
    assert e.overall.threshold is None
    assert e.slices[1].name == "mobile / US / True"


def test_slices_that_the_calibration_does_not_know_have_its_default_threshold():
    clicks = made(5_000)
    calibration = calibration_of(clicks)
    new = replace(clicks, codes=np.where(np.arange(5_000) % 3, clicks.codes, len(KEYS)))
    e = evaluate(new.p, new.codes, [*KEYS, "new"], new.human, new.heavy, calibration)
    assert e.slices[-1].threshold == calibration.default
    assert e.slices[-1].ivr.hits == (new.p[new.codes == len(KEYS)] > calibration.default).sum() > 0


def test_one_threshold_for_all_slices_is_told_over_all():
    clicks = made(5_000)
    calibration = calibration_of(clicks, method="global")
    e = evaluate(clicks.p, clicks.codes, KEYS, clicks.human, clicks.heavy, calibration)
    assert e.overall.threshold == calibration.default
    at = np.searchsorted(e.overall.curve.fpr, e.overall.fpr.value, side="right") - 1
    assert e.overall.curve.ivr[at] == pytest.approx(e.overall.ivr.value, abs=0.02)  # the point lies on the curve


def test_a_thinned_curve_is_part_of_the_whole_one_with_its_ends_and_its_knee():
    clicks = made(60_000)
    e = evaluate(clicks.p, clicks.codes, KEYS, clicks.human, clicks.heavy, calibration_of(clicks))
    whole = metrics.curve(clicks.p, clicks.human)
    thin = e.overall.curve
    assert len(whole.fpr) > 3 * POINTS > 1.5 * len(thin.fpr) > POINTS / 2
    where = np.searchsorted(-whole.thresholds, -thin.thresholds)
    for name in ("thresholds", "fpr", "ivr"):
        np.testing.assert_array_equal(getattr(thin, name), getattr(whole, name)[where])
    assert where[e.overall.knee] == metrics.knee(whole)
    assert {0, len(whole.fpr) - 1} <= set(where.tolist())
    between = np.interp(whole.fpr, thin.fpr[1:], thin.ivr[1:])  # the first point is upright below the second
    assert np.abs(between - whole.ivr)[1:].max() < 0.03


SCORES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


@given(hnp.arrays(np.float64, 12, elements=SCORES), hnp.arrays(np.bool_, 12))
def test_auc_is_the_share_of_pairs_in_order_with_ties_as_half(p, human):
    calibration = calibration_of(made(2_000))
    auc = evaluate(p, np.zeros(12, int), KEYS, human, None, calibration).overall.auc
    pairs = p[~human][None, :] - p[human][:, None]
    if pairs.size:
        assert auc == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))
    else:
        assert np.isnan(auc)


def test_reliability_of_a_model_that_knows_the_probability_lies_on_the_diagonal():
    random = np.random.default_rng(3)
    n = 40_000
    p_human = random.beta(0.5, 4.0, n)
    human = random.random(n) < p_human
    e = evaluate(1 - p_human, np.zeros(n, int), KEYS, human, None, calibration_of(made(2_000)), level=0.999)
    assert len(e.reliability) == 20
    assert sum(b.clicks for b in e.reliability) == n
    for b in e.reliability:
        assert b.clicks == pytest.approx(n / 20, abs=2)
        assert b.low <= b.predicted <= b.high
    assert np.all(np.diff([b.predicted for b in e.reliability]) > 0)


def test_reliability_of_weighted_clicks_is_that_of_clicks_repeated():
    random = np.random.default_rng(4)
    n = 3_000
    p = random.choice([0.1, 0.4, 0.8], n)
    human, weights = random.random(n) < 0.3, random.integers(1, 5, n)
    calibration = calibration_of(made(2_000))
    codes = np.zeros(n, int)
    weighted = evaluate(p, codes, KEYS, human, None, calibration, weights=weights)
    again = np.repeat(np.arange(n), weights)
    repeated = evaluate(p[again], codes[again], KEYS, human[again], None, calibration)
    assert weighted.weighted
    assert not repeated.weighted
    assert len(weighted.reliability) == len(repeated.reliability) == 3  # equal scores are never parted
    for a, b in zip(weighted.reliability, repeated.reliability, strict=True):
        assert (a.predicted, a.known) == pytest.approx((b.predicted, b.known))
        assert a.low < b.low < b.high < a.high  # repeats are no new clicks


def test_reliability_takes_the_known_people_where_they_are_given():
    clicks = made(3_000)
    e = evaluate(clicks.p, clicks.codes, KEYS, clicks.human, None, calibration_of(clicks), known=~clicks.robot)
    known = sum(b.known * b.clicks for b in e.reliability)
    assert known == pytest.approx((~clicks.robot).sum())
    assert e.overall.purchases == clicks.human.sum() < known / 2


def test_scores_that_are_no_probabilities_have_no_reliability():
    clicks = made(3_000)
    scaled = replace(clicks, p=100 * clicks.p)
    e = evaluate(scaled.p, scaled.codes, KEYS, scaled.human, None, calibration_of(scaled))
    assert e.reliability == ()
    assert e.overall.curve is not None


def test_without_purchases_robots_or_clicks_there_is_nothing_rather_than_a_number():
    clicks = made(4_000)
    calibration = calibration_of(clicks)
    quiet = np.zeros(4_000, bool)
    codes = np.where(clicks.codes == 1, 0, clicks.codes)
    e = evaluate(clicks.p, codes, KEYS, quiet, quiet, calibration, quiet)
    assert e.overall.curve is None
    assert e.overall.knee is None
    for share in (e.overall.fpr, e.overall.coverage, e.overall.recall, e.slices[1].ivr):
        assert np.isnan([share.value, share.low, share.high]).all()
        assert str(share) == NONE
    assert e.overall.true_fpr.trials == 4_000
    assert e.overall.precision.value == 0.0
    assert e.slices[1].clicks == 0


def test_an_evaluation_is_plain_json_without_nan():
    clicks = made(4_000)
    codes = np.where(clicks.codes == 1, 0, clicks.codes)
    e = evaluate(clicks.p, codes, KEYS, clicks.human, None, calibration_of(clicks), clicks.robot)
    plain = json.loads(json.dumps(e.to_dict(), allow_nan=False))
    assert plain["overall"]["fpr"]["value"] == e.overall.fpr.value
    assert plain["overall"]["curve"]["ivr"] == e.overall.curve.ivr.tolist()
    assert plain["overall"]["coverage"]["low"] is None
    assert plain["slices"][1]["curve"] is None
    assert plain["budget"] == 0.02
    assert len(plain["reliability"]) == len(e.reliability)
    assert all(isinstance(leaf, str | float | int | None) for leaf in all_arrays(plain))


def test_the_table_begins_with_all_clicks_and_goes_on_with_the_largest_slices():
    clicks = made(4_000)
    e = evaluate(clicks.p, clicks.codes, KEYS, clicks.human, clicks.heavy, calibration_of(clicks))
    rows = e.table()
    assert rows[0]["slice"] == "all"
    assert rows[0]["FPR"] == str(e.overall.fpr)
    counts = [int(row["clicks"].replace(",", "")) for row in rows]
    assert counts[0] == sum(counts[1:]) == 4_000
    assert counts[1:] == sorted(counts[1:], reverse=True)
    assert len(e.table(most=2)) == 3
    assert "recall" not in rows[0]
    with_truth = evaluate(clicks.p, clicks.codes, KEYS, clicks.human, None, calibration_of(clicks), clicks.robot)
    assert {tuple(row) for row in with_truth.table()} == {(*rows[0], "recall", "precision", "true FPR")}


def test_a_comparison_tells_what_each_scorer_adds_to_the_first():
    clicks, other = made(8_000), made(8_000, noise=1.5)
    e = evaluate(clicks.p, clicks.codes, KEYS, clicks.human, clicks.heavy, calibration_of(clicks), clicks.robot)
    worse = evaluate(other.p, clicks.codes, KEYS, clicks.human, clicks.heavy, calibration_of(other))
    rows = compare({"worse": worse, "network": e})
    assert [row["scorer"] for row in rows] == ["worse", "network"]
    assert list(rows[0]) == list(rows[1])
    assert rows[0]["gain"] == rows[0]["recall"] == NONE
    gain = 100 * (e.overall.ivr.value - worse.overall.ivr.value)
    assert rows[1]["gain"] == f"{gain:+.2f}"
    assert gain > 0
    for row, scored in zip(rows, (other, clicks), strict=True):
        thresholds = np.unique(scored.p[scored.human])  # nothing else changes the count of marked purchases
        best = max((scored.p > t).mean() for t in thresholds if (scored.p[scored.human] > t).mean() <= 0.02)
        assert row["IVR at budget"] == f"{best:.2%}"
    assert "budget" not in rows[0]
    knee = evaluate(clicks.p, clicks.codes, KEYS, clicks.human, None, calibration_of(clicks, method="knee"))
    assert [row["budget"] for row in compare({"a": e, "b": knee})] == ["2.00%", NONE]
    assert compare({"b": knee})[0]["IVR at budget"] == NONE
    assert compare({}) == []


def test_scorers_on_different_clicks_are_not_compared():
    a, b = (evaluate(c.p, c.codes, KEYS, c.human, None, calibration_of(c)) for c in (made(2_000), made(2_001)))
    with pytest.raises(InvalidArgument, match="different clicks"):
        compare({"a": a, "b": b})


def test_the_hourly_rates_are_those_of_the_clicks_of_each_hour():
    random = np.random.default_rng(5)
    robotic, human, hour = random.random(900) < 0.3, random.random(900) < 0.5, random.integers(0, 23, 900)
    shares = hourly_fpr(robotic, human, hour)
    assert len(shares) == 24
    for h, share in enumerate(shares):
        of_hour = human & (hour == h)
        if h == 23:
            assert str(share) == NONE
        else:
            assert share == Share.of(int((robotic & of_hour).sum()), int(of_hour.sum()))


@pytest.mark.parametrize(
    ("threshold", "text"), [(0.5, "0.50000"), (None, NONE), (float(np.finfo(float).max), "never"), (-1e300, "always")]
)
def test_a_threshold_reads_as_a_number_or_as_what_it_does(threshold, text):
    assert threshold_text(threshold) == text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"p_robot": np.zeros(0)}, "p_robot is empty"),
        ({"p_robot": np.array([0.1, np.nan, 0.2])}, r"p_robot\[1\] is nan"),
        ({"slice_ids": np.array([0, 9, 0])}, r"slice_ids\[1\] is 9"),
        ({"slice_keys": ["one"]}, "slice_keys has 1 slices, the calibration 4"),
        ({"human": np.zeros(2, bool)}, "human is bool of shape"),
        ({"truth": np.zeros(3, int)}, "truth is int64"),
        ({"known": np.zeros(4, bool)}, "known is bool of shape"),
        ({"weights": np.array([1.0, 0.0, 1.0])}, "weights of shape"),
        ({"level": 1.0}, "level is 1.0"),
    ],
)
def test_what_is_malformed_is_refused_by_name(changes, message):
    given = {
        "p_robot": np.array([0.1, 0.5, 0.9]),
        "slice_ids": np.zeros(3, int),
        "slice_keys": KEYS,
        "human": np.array([True, False, False]),
        "heavy": None,
        "calibration": calibration_of(made(2_000)),
    }
    with pytest.raises(InvalidArgument, match=message):
        evaluate(**given | changes)
