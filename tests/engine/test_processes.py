"""An Engine in other processes: it is sent there, judges, and what comes back has the bits of this process."""

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
