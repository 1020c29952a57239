"""The regret experiment: its streams, its measures, and what a quick run shows."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import common
from experiments.regret import run as regret
from experiments.regret.measures import ratio, slope
from experiments.regret.methods import Distance, Growing, distance
from experiments.regret.streams import FAR, QUICK, STREAMS, Source, Stream, noise
from onlineguard.core.clipped_sgd import ClippedSGD
from onlineguard.core.clips import Fixed
from onlineguard.core.estimands import Linear, Mean
from onlineguard.core.rates import Decay
from onlineguard.engine.schedules import scan


def _quick(out: Path) -> str:
    common.main(regret.run, regret.__file__, seeds=20, quick_seeds=3, arguments=["--quick", "--out", str(out)])
    return (out / "results.json").read_text()


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return _quick(tmp_path_factory.mktemp("regret"))


def _path(stream: Stream, length: int):
    source = Source(stream, length, common.rng(5, length))
    pieces = [source.chunk(500) for _ in range(length // 500)]
    return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]


def _drift(truth):
    return np.linalg.norm(np.diff(truth, axis=0), axis=1).sum()


@pytest.mark.slow
def test_a_quick_run_shows_the_default_near_the_best_fixed_rate(text):
    results = json.loads(text)
    assert len(results["streams"]) == len(QUICK)
    for one in results["streams"].values():
        for at in one["lengths"]:
            assert at["ratio"]["default"][0] < regret.BEST
            assert at["regret"]["best fixed"][0] > 0
    assert results["claims"]["default"]["holds"] is True
    skewed = next(one for name, one in results["streams"].items() if "pareto" in name)
    assert skewed["slope"]["default"][0] > 0.9 > skewed["slope"]["derived"][0]


@pytest.mark.slow
def test_a_second_quick_run_writes_the_same_bytes(text, tmp_path):
    assert _quick(tmp_path) == text
    assert {path.name for path in tmp_path.iterdir()} == {
        *("results.json", "regret.png", "slopes.png", "ratios.png", "jump.png")
    }


def test_every_value_that_the_table_promises_is_measured():
    assert {s.model for s in STREAMS} == {"mean", "linear", "logistic"}
    assert {s.d for s in STREAMS} == {1, 20, 100}
    assert {s.noise for s in STREAMS} == {"gaussian", "student", "pareto", "symmetric", "labels"}
    assert {s.drift for s in STREAMS} == {"still", "jumps", "sine", "walk", "slow sine", "slow walk"}
    assert {s.attack for s in STREAMS} == {"", "far", "direction", "flips"}
    assert {s.share or 0 for s in STREAMS} >= {0, 0.2}
    assert len({s.name for s in STREAMS}) == len(STREAMS)


@pytest.mark.parametrize("law", ["gaussian", "student", "pareto", "symmetric"])
def test_noise_has_mean_zero_and_only_one_law_is_skewed(law):
    draws = noise(law, common.rng(0), (400_000,))
    assert abs(draws.mean()) < 0.05
    assert (abs(np.median(draws)) > 0.1) == (law == "pareto")


@pytest.mark.parametrize("drift", ["still", "jumps", "slow sine", "slow walk"])
def test_where_the_theory_speaks_total_drift_does_not_grow_with_the_stream(drift):
    stream = Stream("mean", 3, "gaussian", drift)
    assert stream.theory
    short, long = (_drift(_path(stream, n)[1]) for n in (1000, 8000))
    assert long < 1.6 * short + 1e-9
    assert (long > 0) == (drift != "still")


@pytest.mark.parametrize("drift", ["sine", "walk"])
def test_elsewhere_it_does(drift):
    stream = Stream("mean", 3, "gaussian", drift)
    assert not stream.theory
    short, long = (_drift(_path(stream, n)[1]) for n in (2000, 8000))
    assert long == pytest.approx(4 * short, rel=0.1)


def test_as_many_events_are_corrupted_as_the_stream_says():
    for share, expected in ((None, 20), (0.1, 800)):
        x, truth = _path(Stream("mean", 2, "gaussian", "still", "far", share), 8000)
        hit = np.linalg.norm(x - truth, axis=1) > FAR / 2
        assert hit.sum() == pytest.approx(expected, abs=4 * expected**0.5)


def test_flipped_labels_are_the_share_that_disagrees():
    clean, flipped = (Stream("logistic", 2, "labels", "still", "flips", share) for share in (0.0, 0.2))
    sources = [Source(stream, 4000, common.rng(3)) for stream in (clean, flipped)]
    ((x, y), _), ((same_x, other), _) = (source.chunk(4000) for source in sources)
    np.testing.assert_array_equal(x, same_x)
    assert (y != other).mean() == pytest.approx(0.2, abs=0.03)


def test_distance_scores_the_estimate_from_before_the_event():
    x = common.rng(1).standard_normal((50, 2)).astype(np.float32)
    truth = np.full((50, 2), 0.5, np.float32)
    params = Distance(ClippedSGD(Mean(2), Decay(), Fixed(np.float32(1e9))))
    _, scores = scan(params, params.init(), (x, truth))
    means = [np.zeros(2), *(x[:n].mean(0) for n in range(1, 50))]
    np.testing.assert_allclose(scores, np.linalg.norm(np.array(means) - truth, axis=1), rtol=1e-4)


def test_a_wrong_intercept_counts_as_distance():
    theta = Linear(np.float32([3.0, 0.0]), np.float32(4.0))
    assert distance(theta, np.zeros(2, np.float32)) == pytest.approx(5.0)


def test_the_theory_s_clip_grows_as_the_cube_root_of_the_epoch():
    clip = Growing(3.0, 2.0)
    state, limits = clip.init(), []
    for _ in range(70):
        limit, state = jax.jit(Growing.observe)(clip, state, 1.0, (0.0, np.inf))
        limits.append(float(limit))
    assert limits[0] == 3.0
    assert limits[7] == limits[14] == pytest.approx(4.0)
    assert limits[63] == pytest.approx(8.0)


def test_a_slope_is_the_exponent_of_a_power():
    lengths = (1000, 10_000, 100_000)
    found = slope(lengths, [np.array([1.0, 2.0, 5.0]) * n**0.6 for n in lengths])
    assert found.mean == pytest.approx(0.6)
    assert found.high - found.low < 1e-6


def test_the_ratio_of_proportional_regrets_is_certain():
    best = np.array([1.0, 2.0, 4.0])
    found = ratio(1.2 * best, best)
    np.testing.assert_allclose(found.as_list(), 1.2)
    found = ratio(1.2 * best[::-1], best)
    assert found.low < 1.2 < found.high
