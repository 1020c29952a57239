"""Rates with exact intervals, heavy sessions, IVR-FPR curves and their knee, against counting by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.thresholds import metrics

SCORES = st.sampled_from([0.0, 0.25, 0.5, np.nextafter(0.5, 1.0), 0.75, 1.0]) | st.floats(0.0, 1.0)


@st.composite
def clicks(draw, most=30):
    """(scores, human, slice codes) with many ties."""
    n = draw(st.integers(1, most))
    return (
        draw(hnp.arrays(np.float64, n, elements=SCORES)),
        draw(hnp.arrays(np.bool_, n)),
        draw(hnp.arrays(np.int64, n, elements=st.integers(0, 3))),
    )


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_the_interval_is_the_exact_one_of_a_binomial_test(level):
    k, n = np.array([0, 1, 3, 50, 99, 100, 0, 1]), np.array([100, 100, 100, 100, 100, 100, 1, 1])
    low, high = metrics.clopper_pearson(k, n, level)
    for i in range(len(k)):
        expected = stats.binomtest(int(k[i]), int(n[i])).proportion_ci(level, "exact")
        assert (low[i], high[i]) == pytest.approx(tuple(expected), abs=1e-12)


def test_the_interval_holds_every_share_at_least_as_often_as_it_says():
    k = np.arange(31)
    low, high = metrics.clopper_pearson(k, 30, 0.9)
    for share in np.linspace(0.0, 1.0, 101):
        assert stats.binom.pmf(k, 30, share)[(low <= share) & (share <= high)].sum() >= 0.9 - 1e-12


def test_the_interval_without_trials_is_everything():
    assert np.array(metrics.clopper_pearson(0, 0)).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(("k", "n"), [(3, 2), (-1, 2), (np.nan, 2), (1, np.nan)])
def test_counts_that_are_none_are_refused(k, n):
    with pytest.raises(InvalidArgument, match="hits must lie between 0 and trials"):
        metrics.clopper_pearson(k, n)


@pytest.mark.parametrize("level", [0.0, 1.0, np.nan])
def test_a_level_outside_0_to_1_is_refused(level):
    with pytest.raises(InvalidArgument, match="level is"):
        metrics.clopper_pearson(1, 2, level)


@given(clicks(), st.data())
def test_every_rate_counts_what_it_says_over_all_and_a_slice(given_clicks, data):
    scores, other, codes = given_clicks
    robotic = scores > 0.5
    counts = {
        metrics.ivr: (robotic, np.ones(len(robotic), bool)),
        metrics.fpr: (robotic & other, other),
        metrics.coverage: (robotic & other, other),
        metrics.recall: (robotic & other, other),
        metrics.precision: (robotic & other, robotic),
        metrics.true_fpr: (robotic & ~other, ~other),
    }
    measure = data.draw(st.sampled_from(list(counts)))
    hits, trials = counts[measure]
    marks = (robotic,) if measure is metrics.ivr else (robotic, other)
    over_all, by_slice = measure(*marks), measure(*marks, slice_ids=codes, n_slices=5)
    assert (over_all.hits, over_all.trials) == (hits.sum(), trials.sum())
    assert (by_slice.total.hits, by_slice.total.trials) == (hits.sum(), trials.sum())
    low, high = by_slice.interval()
    for code in range(5):
        k, n = hits[codes == code].sum(), trials[codes == code].sum()
        assert (by_slice.hits[code], by_slice.trials[code]) == (k, n)
        np.testing.assert_equal(by_slice.value[code], k / n if n else np.nan)
        assert (low[code], high[code]) == metrics.clopper_pearson(k, n)


def test_a_code_beyond_the_number_of_slices_is_refused_by_its_index():
    with pytest.raises(InvalidArgument, match=r"slice_ids\[1\] is 3; codes run from 0 to 2"):
        metrics.ivr(np.array([True, False]), np.array([0, 3]), 3)


def test_marks_that_are_numbers_are_refused():
    with pytest.raises(InvalidArgument, match="must be bool"):
        metrics.ivr(np.array([1, 0]))


@given(
    hnp.arrays(np.int64, st.integers(0, 40), elements=st.integers(-1, 2)),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
def test_a_session_is_heavy_with_more_than_k_clicks_within_a_clock_hour(sessions, k, random):
    ts = np.array([random.randrange(-2, 3) * metrics.HOUR_MS + random.choice([0, 3_599_999]) for _ in sessions])
    ts = ts.astype(np.int64)
    heavy = metrics.heavy_sessions(sessions, ts, k)
    for i, session in enumerate(sessions):
        counts = [((sessions == session) & (ts // metrics.HOUR_MS == hour)).sum() for hour in range(-2, 3)]
        assert heavy[i] == (session >= 0 and max(counts) > k)


@given(clicks())
def test_a_curve_lists_the_best_ivr_at_every_fpr_that_a_threshold_can_have(given_clicks):
    scores, human, _ = given_clicks
    human[0] = True
    curve = metrics.curve(scores, human)
    attainable = {}
    for threshold in [*scores, -1.0]:
        marked = scores > threshold
        rate = float(marked[human].mean())
        attainable[rate] = max(attainable.get(rate, 0.0), float(marked.mean()))
    listed = dict(zip(curve.fpr.tolist(), curve.ivr.tolist(), strict=True))  # of two at FPR 0 the later is the better
    assert listed == attainable
    assert (curve.fpr[0], curve.ivr[0], curve.fpr[-1], curve.ivr[-1]) == (0.0, 0.0, 1.0, 1.0)
    for threshold, rate, share in zip(curve.thresholds, curve.fpr, curve.ivr, strict=True):
        assert ((scores > threshold)[human].mean(), (scores > threshold).mean()) == (rate, share)


@given(clicks())
def test_the_knee_is_where_ivr_is_farthest_above_fpr(given_clicks):
    scores, human, _ = given_clicks
    human[0] = True
    curve = metrics.curve(scores, human)
    gaps = [(scores > t).mean() - (scores > t)[human].mean() for t in [*scores, -1.0]]
    assert curve.ivr[metrics.knee(curve)] - curve.fpr[metrics.knee(curve)] == max(gaps)


def test_the_knee_of_perfect_scores_marks_all_robots_and_nobody_else():
    curve = metrics.curve(np.array([0.9, 0.8, 0.7, 0.2, 0.1]), np.array([False, False, False, True, True]))
    at = metrics.knee(curve)
    assert (curve.fpr[at], curve.ivr[at], curve.thresholds[at]) == (0.0, 0.6, 0.2)


def test_a_curve_without_purchases_has_no_fpr_and_no_knee():
    curve = metrics.curve(np.array([0.5, 0.7]), np.array([False, False]))
    assert np.isnan(curve.fpr).all()
    with pytest.raises(InvalidArgument, match="no knee"):
        metrics.knee(curve)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_no_number_is_refused_by_its_index(bad):
    with pytest.raises(InvalidArgument, match=r"p_robot\[1\] is"):
        metrics.curve(np.array([0.5, bad]), np.array([True, False]))
