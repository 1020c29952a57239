"""An Engine in other processes: it is sent there, judges, and what comes back has the bits of this process."""

import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import joblib
import numpy as np
import pytest

from onlineguard import Engine

KEYS, X = ["a", "b"] * 100, np.random.default_rng(0).normal(size=(200, 2))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["spawn", "joblib"])
def test_an_engine_that_was_sent_to_another_process_judges_there_as_it_would_here(kind):
    engine = Engine(2)
    engine.update(KEYS, X)
    if kind == "joblib":
        (found,) = joblib.Parallel(n_jobs=2)([joblib.delayed(engine.update)(KEYS, X)])
    else:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            found = pool.submit(engine.update, KEYS, X).result(120.0)
    assert engine.n_events == 200  # the copy learned, not this one
    np.testing.assert_array_equal(found.judgements, engine.update(KEYS, X).judgements)


FORKING = """
import multiprocessing, sys, warnings
import numpy as np
from onlineguard import Detector, Engine, OnlineguardError
from onlineguard.estimators import DriftRobustDetector

warnings.simplefilter("ignore")
X = np.random.default_rng(0).normal(size=(200, 2))
engines = {}

def judged(what):
    try:
        if what == "estimator":
            return engines["estimator"].score_one({"a": 1.0})
        engine = engines[what] if what == "old" else Engine(2, estimator=Detector())
        return float(np.nansum(engine.update("a", X).score))
    except OnlineguardError as error:
        return str(error)

if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")
    with fork.Pool(1) as pool:
        early = pool.map_async(judged, ["new"]).get(60)
    engines["old"], engines["estimator"] = Engine(2, estimator=Detector()), DriftRobustDetector()
    engines["estimator"].learn_one({"a": 1.0})
    here = judged("old")
    assert early == [here], (early, here)
    with fork.Pool(1) as pool:
        for said in pool.map_async(judged, ["old", "new", "estimator"]).get(60):
            print(said)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forking is the default on Linux alone")
def test_a_process_that_was_forked_behind_an_engine_says_so_instead_of_waiting_for_ever():
    ran = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr
    said = ran.stdout.splitlines()
    assert len(said) == 3
    for line in said:
        assert "JAX does not survive a fork; start processes by multiprocessing.get_context('spawn')" in line
