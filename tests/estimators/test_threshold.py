"""The adaptive threshold around any detector of river."""

import copy
import math
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from river import anomaly, base, compose, preprocessing

from onlineguard.estimators import AdaptiveThreshold, ClippedLinearRegression
from tests.support.river_streams import events, regression, vanishing


def scored(law: str, n: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    return {
        "normal": lambda: rng.normal(-7.0, 2.0, n),
        "uniform": lambda: rng.random(n),
        "lognormal": lambda: rng.lognormal(3.0, 1.0, n),
        "heavy": lambda: 1e6 * rng.pareto(2.5, n),
        "left": lambda: -rng.lognormal(3.0, 1.0, n),
    }[law]().tolist()


class Given(base.AnomalyDetector):
    """A detector whose score is what it is given."""

    def score_one(self, x):
        return x["score"]

    def learn_one(self, x):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("law", ["normal", "uniform", "lognormal", "heavy", "left"])
def test_the_share_of_scores_above_the_threshold_is_the_target_rate(law):
    model, flagged = AdaptiveThreshold(Given()), 0
    for i, score in enumerate(scored(law, 12_000)):
        flagged += i >= 4_000 and model.classify(score)
        model.learn_one({"score": score})
    assert 0.006 < flagged / 8_000 < 0.014


def test_the_threshold_is_where_classification_changes():
    model = AdaptiveThreshold(Given())
    assert model.threshold == math.inf
    for score in scored("lognormal", 1_000):
        model.learn_one({"score": score})
    assert model.classify(1.001 * model.threshold)
    assert not model.classify(0.999 * model.threshold)
    assert not model.classify(math.nan)
    assert model.classify(math.inf)


def test_a_trickle_of_anomalies_does_not_lift_the_threshold_over_itself():
    rng = np.random.default_rng(6)
    model, caught, false = AdaptiveThreshold(Given()), [], []
    for i, score in enumerate(scored("lognormal", 10_000)):
        odd = bool(rng.random() < 0.02)
        score = 2e4 if odd else score
        if i >= 2_000:
            (caught if odd else false).append(model.classify(score))
        model.learn_one({"score": score})
    assert np.mean(caught) > 0.95
    assert np.mean(false) < 0.02


def test_a_burst_of_high_scores_is_flagged_to_its_end_and_a_new_regime_is_not_for_ever():
    model = AdaptiveThreshold(Given(), patience=2_000)
    stream = np.array(scored("normal", 12_000))
    stream[4_000:5_000] += 40.0
    stream[7_000:] += 40.0
    flags = []
    for score in stream.tolist():
        flags.append(model.classify(score))
        model.learn_one({"score": score})
    assert np.mean(flags[4_000:5_000]) == 1.0
    assert np.mean(flags[5_000:7_000]) < 0.03
    assert np.mean(flags[7_000:8_900]) == 1.0
    assert np.mean(flags[9_500:]) < 0.03


@pytest.mark.parametrize("protect", [False, True])
def test_a_protected_detector_is_not_taught_what_is_flagged(protect):
    class Counting(Given):
        learned = 0

        def learn_one(self, x):
            self.learned += 1

    model = AdaptiveThreshold(Counting(), protect_anomaly_detector=protect)
    for score in [*scored("normal", 500), *[1e3] * 10]:
        model.learn_one({"score": score})
    assert (model.anomaly_detector.learned <= 500) == protect


def test_an_adaptive_threshold_filters_in_a_pipeline_and_takes_frames():
    one, many = (AdaptiveThreshold(anomaly.HalfSpaceTrees(seed=1, window_size=20)) for _ in range(2))
    stream = list(vanishing(events(200)))
    stream = [{name: v for name, v in x.items() if v is not None and v == v} for x in stream]
    expected = []
    for x in stream:
        expected.append(one.score_learn_one(x))
    many.learn_many(pd.DataFrame(stream[:90]))
    many.learn_many(pl.DataFrame(stream[90:]))
    X = pd.DataFrame(stream)
    assert many.score_many(X).to_list() == [one.score_one(x) for x in stream]
    assert many.threshold == one.threshold
    copies = [pickle.loads(pickle.dumps(many)), copy.deepcopy(many)]
    assert [other.threshold for other in copies] == [one.threshold] * 2
    assert one.clone().threshold == math.inf
    pipeline = compose.Pipeline(
        preprocessing.MinMaxScaler(), AdaptiveThreshold(anomaly.HalfSpaceTrees(seed=1)), ClippedLinearRegression()
    )
    for x, y in regression(300):
        pipeline.predict_one(x)
        pipeline.learn_one(x, y)
    assert pipeline["AdaptiveThreshold"].threshold < math.inf
