"""The quantile that ClippedQuantile keeps."""

import numpy as np
import pytest

from onlineguard.estimators import ClippedQuantile


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.05, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("law", ["normal", "exponential", "standard_cauchy"])
def test_the_share_below_a_quantile_is_its_level(level, law):
    values = getattr(np.random.default_rng(2), law)(size=12_000) * 1e5
    model, below = ClippedQuantile(level), 0
    for i, value in enumerate(values.tolist()):
        below += i >= 2_000 and value < model.quantile["x"]
        model.learn_one({"x": value})
    assert below / 10_000 == pytest.approx(level, abs=0.02)


def test_a_quantile_scores_values_beyond_it_on_its_own_side():
    low, high = ClippedQuantile(0.01), ClippedQuantile(0.99)
    for value in np.random.default_rng(3).normal(size=2_000).tolist():
        low.learn_one({"x": value})
        high.learn_one({"x": value})
    assert low.score_one({"x": -9.0}) > 1.0 > 0.0 > low.score_one({"x": 0.0}) > low.score_one({"x": 9.0})
    assert high.score_one({"x": 9.0}) > 1.0 > 0.0 > high.score_one({"x": 0.0}) > high.score_one({"x": -9.0})
