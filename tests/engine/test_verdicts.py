"""Verdicts: one event's p-value is the one it has among many, and a score has a place between 0 and 1."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onlineguard import Engine
from onlineguard.engine.verdicts import Verdict, Verdicts

NUMBERS = st.floats(0.0, width=32, allow_subnormal=False) | st.sampled_from([0.0, 1.0, np.inf, np.nan])


@example(rows=np.full((2, 5), 0.0, np.float32), target_rate=0.01)  # log 0 less log 0
@given(hnp.arrays(np.float32, st.tuples(st.integers(2, 9), st.just(5)), elements=NUMBERS), st.floats(1e-6, 0.2))
def test_the_p_value_of_one_event_is_that_which_it_has_among_many(rows, target_rate):
    def verdicts(part):
        score, threshold, *quantiles = part.T
        columns = [score, threshold, np.ones_like(score), *quantiles, threshold, quantiles[0] / 2]
        return Verdicts(np.stack(columns, axis=1), target_rate)

    with np.errstate(all="ignore"):
        together = verdicts(rows).p_value
        alone = [verdicts(rows[i : i + 1]).p_value[0] for i in range(len(rows))]
    np.testing.assert_array_equal(alone, together)


def scored():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5_000, 5))
    odd = rng.random(5_000) < 0.02
    x[odd] += rng.choice([-2.0, 2.0], (odd.sum(), 5))
    verdicts = Engine(n_features=5).update("a", x)
    return odd[500:], verdicts[500:]


def test_a_bounded_score_lies_between_0_and_1_and_says_how_rare_the_event_is():
    _, verdicts = scored()
    bounded = verdicts.bounded_score
    assert ((bounded >= 0.0) & (bounded < 1.0)).all()
    np.testing.assert_allclose(10.0 ** (-bounded / (1.0 - bounded)), verdicts.p_value)
    assert verdicts[7].bounded_score == bounded[7]


def test_a_verdict_is_shown_by_what_a_reader_looks_for():
    verdict = Verdict(2.5, 1.25, True, (1.0, 1.1, 1.2, 1.3), 0.01)
    assert (
        repr(verdict)
        == f"Verdict(score=2.5, threshold=1.25, p_value={verdict.p_value:.4g}, anomalous=True, ready=True)"
    )


def test_rivers_binned_roc_auc_of_the_bounded_score_is_near_the_exact_one():
    metrics = pytest.importorskip("river.metrics")
    odd, verdicts = scored()
    binned = metrics.ROCAUC(n_thresholds=10)
    for is_odd, score in zip(odd.tolist(), verdicts.bounded_score.tolist(), strict=True):
        binned.update(is_odd, score)
    ranks = verdicts.score.argsort().argsort()
    n = odd.sum()
    exact = (ranks[odd].sum() - n * (n - 1) / 2) / (n * (~odd).sum())
    assert exact - 0.02 <= binned.get() <= exact
