"""A model whose state is bytes: the Engine's verdicts, one event at a time, however the stream is cut."""

import numpy as np
import pytest

from onlineguard import CheckpointError, Detector, Engine, InvalidArgument, JointDetector, Judged, KeyedModel, Series
from onlineguard.core.regressions import linear_regression

MODELS = [(Detector(), 3), (JointDetector(), 3), (Series(), 1)]


def stream(n, n_features, seed=0):
    """Events with odd ones and missing features among them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(3.0, 2.0, (n, n_features)).astype(np.float32)
    x[rng.random(n) < 0.03] *= 20.0
    x[rng.random(x.shape) < 0.02] = np.nan
    return x


def run(keyed, events, state=None):
    """The state after these events, and their judgements (n, 8)."""
    judgements = []
    for x in events:
        state, judgement = keyed.step(state, x)
        judgements.append(judgement)
    return state, np.array(judgements)


@pytest.mark.parametrize(("model", "n_features"), MODELS)
def test_it_gives_the_verdicts_of_the_engine(model, n_features):
    events = stream(400, n_features)
    verdicts = Engine(n_features, estimator=model).update(["a"] * len(events), events)
    _, judgements = run(KeyedModel(model, n_features), events)
    ready, anomalous = judgements[:, 2] > 0, (judgements[:, 2] > 0) & (judgements[:, 0] > judgements[:, 1])
    assert np.array_equal(ready, verdicts.ready)
    assert np.array_equal(anomalous, verdicts.anomalous)
    np.testing.assert_allclose(judgements[:, 0], verdicts.score, rtol=1e-4)
    np.testing.assert_allclose(judgements[:, 1], verdicts.threshold, rtol=1e-4)


@pytest.mark.parametrize(("model", "n_features"), MODELS)
def test_another_process_goes_on_from_the_bytes(model, n_features):
    events = stream(120, n_features)
    whole, judgements = run(KeyedModel(model, n_features), events)
    half, first = run(KeyedModel(model, n_features), events[:50])
    again, second = run(KeyedModel(model, n_features), events[50:], bytes(bytearray(half)))
    assert again == whole
    assert np.array_equal(np.concatenate([first, second]), judgements, equal_nan=True)


def test_the_state_can_be_looked_at():
    keyed = KeyedModel(Detector(), 2)
    state, _ = run(keyed, [[1.0, 2.0]] * 5)
    assert keyed.state(state).seen == 5


def test_an_event_with_nothing_in_it_leaves_the_bytes_as_they_are():
    keyed = KeyedModel(Detector(), 2)
    state, _ = run(keyed, stream(50, 2))
    after, judgement = keyed.step(state, [np.nan, np.inf])
    assert after == state
    assert np.isnan(judgement.score)
    assert judgement.ready is False


def test_the_bytes_of_another_model_are_refused():
    state, _ = KeyedModel(Detector(), 2).step(None, [1.0, 2.0])
    for other in (KeyedModel(Detector(), 3), KeyedModel(JointDetector(), 2)):
        with pytest.raises(CheckpointError, match=r"is none of .*Detector with \d feature"):
            other.step(state, np.zeros(other.n_features))
    with pytest.raises(CheckpointError, match="a state of 3 bytes"):
        KeyedModel(Detector(), 2).step(b"abc", [1.0, 2.0])


def test_an_event_of_another_width_is_refused():
    with pytest.raises(InvalidArgument, match=r"x has shape \(3,\); this model takes 2 feature"):
        KeyedModel(Detector(), 2).step(None, [1.0, 2.0, 3.0])


def test_a_model_that_learns_from_pairs_is_refused():
    with pytest.raises(InvalidArgument, match="learns from pairs"):
        KeyedModel(Judged(linear_regression(2)), 2)


def test_a_state_of_other_numbers_is_refused():
    class Wide(Detector):
        def init(self, n_features):
            return super().init(n_features)._replace(median=np.float64(1.0))

    with pytest.raises(InvalidArgument, match=r"the state of Wide holds float64; it may hold float32, int32, bool"):
        KeyedModel(Wide(), 2)
