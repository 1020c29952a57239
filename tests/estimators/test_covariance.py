"""The covariance that ClippedCovariance keeps."""

import numpy as np
import pytest

from onlineguard import Constant, Fixed
from onlineguard.estimators import ClippedCovariance


def test_a_covariance_is_that_of_the_stream():
    rng = np.random.default_rng(4)
    truth = np.array([[2.0, 0.8], [0.8, 1.0]])
    model = ClippedCovariance(clip=Fixed(1e9), rate=Constant(0.002))
    for row in rng.multivariate_normal([10.0, -5.0], truth, 6_000).tolist():
        model.learn_one(dict(zip("ab", row, strict=True)))
    found = model.covariance
    np.testing.assert_allclose([[found[a, b] for b in "ab"] for a in "ab"], truth, atol=0.25)
    assert model.mean == {"a": pytest.approx(10.0, abs=0.2), "b": pytest.approx(-5.0, abs=0.2)}
