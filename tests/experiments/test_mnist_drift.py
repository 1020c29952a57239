"""The MNIST drift experiment: laws of its streams, models and measures, and what its quick run shows."""

import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from experiments.mnist_drift import measures, streams
from experiments.mnist_drift.data import Digits, load
from experiments.mnist_drift.models import (
    TRAINED,
    Frozen,
    Standardised,
    supervised,
    unsupervised,
)
from onlineguard.core.clipped_sgd import ClippedSGD
from onlineguard.core.estimands import LogisticRegression, Mean
from onlineguard.engine.schedules import scan


@pytest.fixture(autouse=True)
def _small_digits(monkeypatch):
    monkeypatch.delenv("ONLINEGUARD_DATA", raising=False)


@pytest.fixture
def digits() -> Digits:
    return load(None, quick=True)


def scored(model, events):
    return np.asarray(scan(model, model.init(), events)[1])


# streams


def test_a_stream_has_the_asked_share_of_anomalies_and_no_normal_image_of_another_digit(digits):
    marked = Digits(np.tile(digits.labels[:, None, None] / 10, (1, 3, 3)).astype(np.float32), digits.labels, "marked")
    stream = streams.draw(marked, 0, (800, 800), 0.2, 0.0)  # every pixel tells the digit
    shown = np.rint(10 * stream.pixels[:, 4]).astype(int)
    assert abs(stream.anomalous.mean() - 0.2) < 0.03
    for segment in (0, 1):
        inside = stream.segment == segment
        (normal,) = set(shown[inside & ~stream.anomalous])
        assert normal not in shown[inside & stream.anomalous]
        assert len(set(shown[inside & stream.anomalous])) == 9


def test_streams_of_one_seed_differ_only_in_what_is_asked_for(digits):
    few, many = (streams.draw(digits, 3, (300, 300), rate, 0.0) for rate in (0.05, 0.2))
    assert few.anomalous.any()
    assert not (few.anomalous & ~many.anomalous).any()
    straight, turned = (streams.draw(digits, 3, (300, 300), 0.05, angle) for angle in (0.0, 180.0))
    np.testing.assert_array_equal(straight.anomalous, turned.anomalous)
    assert (straight.pixels != turned.pixels).any()


def test_an_image_comes_once_while_there_are_others():
    rows = np.arange(2_000, dtype=np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)
    stream = streams.draw(Digits(rows, np.arange(2_000) % 10, "numbered"), 1, (150, 150), 0.1, 0.0)
    assert len(set(stream.pixels[:, 0].tolist())) == 300


@pytest.mark.parametrize("side", [8, 28])
def test_a_turn_by_90_degrees_is_a_quarter_turn(side):
    images = np.random.default_rng(0).random((4, side, side), np.float32)
    still = streams.rotated(images, np.zeros(4))
    turned = streams.rotated(images, np.full(4, 90.0))
    size = 14 if side == 28 else side
    quarter = np.rot90(still.reshape(4, size, size), axes=(1, 2)).reshape(4, -1)
    assert min(abs(turned - quarter).max(), abs(turned - quarter[:, ::-1]).max()) < 1e-3


def test_an_unturned_large_image_is_its_two_by_two_means():
    images = np.random.default_rng(0).random((3, 28, 28), np.float32)
    means = images.reshape(3, 14, 2, 14, 2).mean((2, 4)).reshape(3, -1)
    np.testing.assert_allclose(streams.rotated(images, np.zeros(3)), means, atol=1e-6)


def test_corruption_touches_the_asked_share_and_nothing_else(digits):
    stream = streams.draw(digits, 0, (500, 500), 0.05, 0.0)
    salted = streams.corrupted(stream, 0, "pixels", 0.2)
    assert abs(1 - salted.whole.mean() - 0.2) < 0.05
    np.testing.assert_array_equal(salted.pixels[salted.whole], stream.pixels[salted.whole])
    assert (salted.pixels[~salted.whole] == streams.SALT).any(axis=1).mean() > 0.9
    np.testing.assert_array_equal(salted.revealed, stream.revealed)
    flipped = streams.corrupted(stream, 0, "labels", 0.2)
    assert abs((flipped.revealed != stream.revealed).mean() - 0.2) < 0.05
    np.testing.assert_array_equal(flipped.anomalous, stream.anomalous)
    assert flipped.whole.all()


# measures


def test_auroc_and_average_precision_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    for _ in range(20):
        truth = random.random(200) < 0.1
        truth[0] = True
        score = np.round(random.normal(truth * 1.0, 1.0), 1)  # with ties
        assert measures.auroc(score, truth) == pytest.approx(roc_auc_score(truth, score))
        assert measures.average_precision(score, truth) == pytest.approx(average_precision_score(truth, score))


def test_corrupted_images_count_in_no_measure(digits):
    stream = streams.draw(digits, 0, (500, 500), 0.1, 0.0)
    salted = streams.corrupted(stream, 0, "pixels", 0.2)
    score = np.random.default_rng(0).random(1_000)
    spoiled = np.where(salted.whole, score, -1e9)
    assert measures.measured(score, salted) == measures.measured(spoiled, salted)
    np.testing.assert_array_equal(measures.course(score, salted), measures.course(spoiled, salted))


def test_a_model_has_recovered_at_the_first_bin_near_its_settled_auroc():
    pairs = np.ones((2, len(measures.BINS), 2)) * (90.0, 100.0)
    pairs[:, :3, 0] = (20.0, 60.0, 87.0)  # and then settled: 0.9
    pairs[1, 0] = (0.0, 0.0)  # a bin without an anomaly says nothing
    assert measures.recovered(pairs).tolist() == [measures.BINS[4]] * 2
    assert measures.recovered(pairs, 0.6).tolist() == [measures.BINS[2]] * 2
    assert np.isinf(measures.recovered(pairs, 0.95)).all()


# models


@pytest.mark.slow
def test_every_model_scores_every_image_with_finite_numbers_from_before_it(digits):
    stream = streams.draw(digits, 0, (60, 60), 0.1, 30.0)
    other = stream.pixels.copy()
    other[-1] = other[0][::-1]
    for name, model in unsupervised(8).items():
        first, second = scored(model, stream.pixels), scored(model, other)
        assert np.isfinite(first[1:]).all(), name
        np.testing.assert_array_equal(first[:-1], second[:-1], err_msg=name)
    for name, model in supervised(8).items():
        first = scored(model, (stream.pixels, stream.revealed))
        assert np.isfinite(first).all(), name
        last = stream.revealed.copy()
        last[-1] = 1 - last[-1]
        np.testing.assert_array_equal(first, scored(model, (stream.pixels, last)), err_msg=name)


@pytest.mark.slow
def test_a_million_in_a_pixel_moves_a_standardised_model_no_further_than_its_limit(digits):
    stream = streams.draw(digits, 0, (300,), 0.1, 0.0)
    model = Standardised(ClippedSGD(LogisticRegression(64)), 64)
    state = scan(model, model.init(), (stream.pixels, stream.revealed))[0]
    (spread, _), _ = model.step(state, (np.full(64, 1e6, np.float32), np.float32(0)))
    assert (abs(spread.location - state[0].location) <= 0.0101 * model.limit * state[0].scale).all()
    assert (spread.scale <= state[0].scale * 1.06).all()


def test_a_frozen_model_stops_learning():
    images = np.random.default_rng(0).random((TRAINED + 50, 4), np.float32)
    model = Frozen(ClippedSGD(Mean(4)))
    before = scan(model, model.init(), images[:TRAINED])[0][0].theta
    after = scan(model, model.init(), images)[0][0].theta
    np.testing.assert_array_equal(before, after)
    assert abs(before - images[:TRAINED].mean(0)).max() < 0.1


# the command


def quick(out):
    command = [sys.executable, "-m", "experiments.mnist_drift", "--quick", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_quick_run_shows_what_it_should_and_repeats_byte_for_byte(tmp_path):
    printed = quick(tmp_path / "one")
    results = json.loads((tmp_path / "one" / "results.json").read_text())
    assert "neighbours" in printed
    assert "8x8" in results["data"]
    assert {path.stem for path in (tmp_path / "one").glob("*.png")} == {
        "stream",
        "running",
        "recovery",
        "threshold",
        "sweep_unlabelled",
        "sweep_labelled",
    }
    settled = {name: values["auroc settled"][0] for name, values in results["long stream"].items()}
    assert settled["neighbours"] > max(value for name, value in settled.items() if name.startswith(("river", "mean")))
    for model, reading in (("mean", "(b) no labels"), ("LR", "(a) labels revealed")):
        for cell, of in results["sweep"][reading].items():
            if cell.startswith("pixels"):
                assert of[f"{model}, constant"]["settled"][0] > of[f"{model}, constant, unclipped"]["settled"][0] + 0.1
    for name in ("HalfSpaceTrees", "LODA", "OneClassSVM"):
        claim = results["claims"][f"neighbours less river {name}, settled AUROC"]
        assert claim["cells led"] == claim["cells"] > 0
    quick(tmp_path / "two")
    assert (tmp_path / "one" / "results.json").read_bytes() == (tmp_path / "two" / "results.json").read_bytes()
