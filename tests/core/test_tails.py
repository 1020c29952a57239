"""Where usual numbers should end: for many laws, and where a share of the numbers are anomalies."""

import jax
import numpy as np
import pytest
from scipy import stats

from onlineguard.core.tails import Tail, end, upper_quantile
from onlineguard.engine.schedules import scan
from onlineguard.models.one_sided import OneSided

LAWS = {
    "normal": stats.norm(),
    "lognormal": stats.lognorm(1.0),
    "t of 3 degrees": stats.t(3),
    "gamma": stats.gamma(2.0),
    "half-normal": stats.halfnorm(),
    "exponential": stats.expon(),
}


@pytest.mark.parametrize("name", LAWS)
def test_the_end_of_a_law_is_read_from_its_lower_side(name):
    law = LAWS[name]
    tail = Tail(*law.ppf([0.01, stats.norm.cdf(-1), 0.5, stats.norm.cdf(1)]).astype(np.float32), np.float32(0.01))
    assert 0.005 < law.sf(end(tail, 0.01)) < 0.02


def test_the_normal_quantile_is_that_of_scipy():
    shares = np.array([1e-4, 1e-3, 0.01, 0.05, 0.2])
    np.testing.assert_allclose(upper_quantile(shares), stats.norm.isf(shares), atol=1e-3)


class Alarm(OneSided):
    """Only in the tests: the score of a step is whether the number is odd."""

    def step(self, state, event):
        state, judged = super().step(state, event)
        return state, (judged.ready & (judged.score > judged.threshold)).astype(np.float32)


jax.tree_util.register_dataclass(Alarm, ["target_rate", "patience", "regime_share"], [])


@pytest.mark.slow
def test_anomalies_that_stand_apart_do_not_use_up_the_threshold():
    rng = np.random.default_rng(0)
    odd = rng.random(20_000) < 0.05
    model = Alarm()
    numbers = (rng.normal(size=20_000) + 5.0 * odd).astype(np.float32)
    flagged = np.asarray(scan(model, model.init(1), numbers[:, None])[1])[2_000:] > 0
    assert flagged[odd[2_000:]].mean() > 0.8
    assert flagged[~odd[2_000:]].mean() < 0.013
