"""The demonstration: its stream, its z-scores and its counting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlineguard.cli import demo


@pytest.fixture(scope="module")
def stream():
    return demo.synthetic_stream(80_000, seed=0)


def test_the_same_seed_makes_the_same_stream(stream):
    again, other = demo.synthetic_stream(80_000, seed=0), demo.synthetic_stream(80_000, seed=1)
    assert np.array_equal(stream.values, again.values)
    assert not np.array_equal(stream.values, other.values)


def test_every_slice_has_its_scale_and_hidden_anomalies(stream):
    for i, trouble in enumerate(demo.TROUBLES):
        mine = stream.slices == i
        deviation = np.median(np.abs(np.diff(stream.values[mine]))) / trouble.scale
        assert 0.3 < deviation < 3.0
        assert (stream.odd & stream.counted & mine).sum() > 0
        assert mine.sum() == 10_000


@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 1, 5, 50]))
def test_the_running_z_score_is_that_of_the_values_before(seed, window):
    values = np.random.default_rng(seed).normal(1e6, 2.0, 80)
    z = demo.running_z(values, window)
    for t in range(10, 80):
        before = values[:t] if window is None else values[max(t - window, 0) : t]
        if len(before) > 1:
            assert z[t] == pytest.approx(abs(values[t] - before.mean()) / before.std(), rel=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(0, 60))
def test_the_threshold_in_hindsight_spends_the_budget_and_no_more(seed, budget):
    z = np.abs(np.random.default_rng(seed).normal(size=50))
    assert (z > demo.threshold_for(z, budget)).sum() == min(budget, 50)


def test_methods_are_compared_at_equally_many_false_alarms_and_onlineguard_finds_most(stream, tmp_path):
    seen = []
    comparison = demo.judge(stream, tmp_path / "report.html", seen.append)
    ours, *others = comparison.by_slice.values()
    budget = sum(tally.false_alarms for tally in ours)
    hidden = int((stream.odd & stream.counted).sum())
    for tallies in (ours, *others):
        assert sum(tally.false_alarms for tally in tallies) == budget
        assert sum(tally.hidden for tally in tallies) == hidden
    assert sum(tally.found for tally in ours) > 1.2 * max(sum(tally.found for tally in other) for other in others)
    assert 0 < budget < 2 * demo.TARGET_RATE * len(stream.values)
    assert seen[-1] == len(stream.values)
    assert f"of {hidden:,} hidden anomalies" in comparison.conclusion
    page = (tmp_path / "report.html").read_text()
    assert all(trouble.name in page for trouble in demo.TROUBLES)
