"""A small trained model, and clicks to send, shared by the tests of the service."""

import os

import pytest

from onlineguard.compilation import VARIABLE
from onlineguard.records.click import Click
from onlineguard.slidr.learning.network import NetworkConfig
from onlineguard.slidr.model import Model, Span, save_model
from onlineguard.slidr.pipeline import Config, calibrate_model, prepare, train_model
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic


@pytest.fixture(scope="session")
def frame():
    """Two days of simulated clicks."""
    return simulate(Traffic(clicks=20_000, days=2), 5).clicks


@pytest.fixture(scope="session")
def clicks(frame):
    """Some thousand of them as records."""
    fields = Click.__struct_fields__
    return [Click(**{name: row[name] for name in fields}) for row in frame[:3_000].iter_rows(named=True)]


def made(frame, seed, folder):
    config = Config(network=NetworkConfig(hidden=(16, 8, 4), epochs=1), seed=seed)
    prepared = prepare(frame, config)
    rows, end = prepared.first, int(prepared.ts.max()) + 1
    scorer = train_model(prepared, rows, end, config)
    thresholds = calibrate_model(prepared, scorer, rows, end, config, budget=0.05, confidence=None)
    span = Span(0, end, end, int(rows.sum()), 1)
    return save_model(folder, Model(config, scorer, span, thresholds, span, {}))


@pytest.fixture(scope="session")
def model_folder(frame, tmp_path_factory):
    """The folder of a small model that is trained and calibrated."""
    folder = tmp_path_factory.mktemp("model") / "first"
    made(frame, 1, folder)
    return folder


@pytest.fixture(scope="session")
def other_folder(frame, tmp_path_factory):
    """Another one, to switch to."""
    folder = tmp_path_factory.mktemp("model") / "second"
    made(frame, 5, folder)
    return folder


@pytest.fixture(scope="session")
def environment():
    """Of services in processes of their own: what any test has compiled, they only read."""
    return {VARIABLE: os.environ[VARIABLE]}
