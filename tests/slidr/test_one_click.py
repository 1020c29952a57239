"""One click in one program: the counters and the engine end as step by step, to the last bit, and p_robot nearly so."""

import numpy as np
import pytest
from hypothesis import given

from onlineguard import Engine
from onlineguard.slidr.clicks.clicks import Click
from onlineguard.slidr.counting.counters import ClickKeys, ProcessStore
from onlineguard.slidr.features import WIDTH, Featuriser
from onlineguard.slidr.learning.network import Config, init
from onlineguard.slidr.learning.train import Network
from onlineguard.slidr.one_click import OneClick
from tests.support.same import assert_same
from tests.support.slidr_streams import gateway, streams

WATCHED = [2, 6, 10, 14, 36, 37]
SLICES = ("phone", "pc")
JUDGEMENT = ("score", "threshold", "median", "fifth", "twentieth")


def network(kind="mlp"):
    config, rng = Config(kind=kind, hidden=(16, 8), bits=4), np.random.default_rng(0)
    mean, deviation = rng.random(WIDTH, np.float32), rng.random(WIDTH, np.float32) + 0.5
    return Network(config, init(1, WIDTH, config), mean, deviation, np.zeros(0, np.float32))


def clicks_of(keys: ClickKeys) -> list[Click]:
    rest = {"user_agent": "", "ad_id": "", "marketplace": "DE"}
    rows = zip(*keys, strict=True)
    return [
        Click(
            click_id=id_, ts=int(ts), user_id=user, session_id=session, ip=ip, device="pc", logged_in=i % 2 > 0, **rest
        )
        for i, (id_, ts, user, session, ip) in enumerate(rows)
    ]


def compare(keys: ClickKeys, model: Network, counting: bool) -> int:
    """Run the stream both ways, and return how many clicks the program took."""
    engine, store, featuriser = Engine(len(WATCHED)), ProcessStore(), Featuriser()
    stepwise, theirs = Engine(len(WATCHED)), ProcessStore()
    one_click = OneClick.of(model, featuriser, engine, store if counting else None, WATCHED)
    taken = 0
    for i, click in enumerate(clicks_of(keys)):
        slice_ = SLICES[i % len(SLICES)]
        counts = theirs.count(keys.part(i, i + 1))
        x = featuriser.of_counts(counts, keys.ts[i : i + 1], [click.marketplace], [click.logged_in])
        verdict = stepwise.update([slice_], x[:, WATCHED])
        judged = one_click.take(click, slice_, None if counting else counts[0])
        if judged is None:
            assert slice_ not in engine.slices
            if counting:
                store.count(keys.part(i, i + 1))
            engine.update([slice_], x[:, WATCHED])
            continue
        taken += 1
        assert judged.p_robot == pytest.approx(float(model.p_robot(x)[0]), rel=1e-5, abs=1e-7)
        np.testing.assert_array_equal(judged.watched, x[0, WATCHED])
        expected = (verdict.score[0], verdict.threshold[0], *verdict.quantiles[0])
        np.testing.assert_array_equal([getattr(judged, name) for name in JUDGEMENT], expected)
        assert judged.ready == verdict.ready[0]
    if counting:
        assert_same(store.dump(), theirs.dump())
    (config, tensors), (their_config, their_tensors) = engine.dump(), stepwise.dump()
    assert config == their_config
    assert {name: tensor.tobytes() for name, tensor in tensors.items()} == {
        name: tensor.tobytes() for name, tensor in their_tensors.items()
    }
    return taken


@pytest.mark.parametrize("counting", [True, False])
@given(keys=streams())
def test_it_counts_and_learns_as_step_by_step(counting, keys):
    compare(keys, network(), counting)


@pytest.mark.parametrize(("kind", "counting"), [("mlp", True), ("cross", True), ("mlp", False)])
def test_a_long_stream_that_grows_tables_and_pools_slices_ends_alike(kind, counting):
    assert compare(gateway(4_000, 1_500, 0), network(kind), counting) == 4_000 - len(SLICES)


def test_models_that_it_cannot_take_are_left_to_others():
    assert OneClick.of(network("embedding"), Featuriser(), Engine(6), None, WATCHED) is None


def test_an_engine_that_counts_from_origins_is_not_taken():
    engine = Engine(6)
    engine.update(["far"], np.full((1, 6), 1.7e12))
    assert not engine.takes("far")
    assert (
        OneClick.of(network(), Featuriser(), engine, None, WATCHED).take(
            clicks_of(gateway(1, 1, 0))[0], "far", np.zeros(26, np.int32)
        )
        is None
    )
