"""The scale that ClippedScale keeps beside a mean."""

import numpy as np
import pytest

from onlineguard.estimators import ClippedMean, ClippedScale


def test_the_mean_and_the_scale_are_right_with_a_tenth_of_the_events_corrupted():
    rng = np.random.default_rng(0)
    mean, scale = ClippedMean(), ClippedScale()
    for i in range(8_000):
        x = {"ms": rng.normal(20.0, 4.0), "kb": rng.normal(1e9, 1e7)} if i % 10 else {"ms": 1e9, "kb": -1e15}
        mean.learn_one({"ms": x["ms"]})
        scale.learn_one(x)
    assert mean.mean["ms"] == pytest.approx(20.0, abs=2.0)
    assert scale.scale == {"ms": pytest.approx(6.4, rel=0.4), "kb": pytest.approx(1.6e7, rel=0.4)}
    assert scale.mean == {"ms": pytest.approx(20.0, abs=4.0), "kb": pytest.approx(1e9, abs=1e7)}


@pytest.mark.slow
def test_the_scale_of_a_normal_stream_is_its_standard_deviation():
    rng = np.random.default_rng(1)
    model = ClippedScale()
    for value in rng.normal(-3.0, 2.0, 20_000):
        model.learn_one({"x": value})
    assert model.scale["x"] == pytest.approx(2.0, rel=0.1)
