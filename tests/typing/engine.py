"""A program with the Engine, as a user types it."""

from typing import Any, assert_type

import numpy as np
import polars as pl

from onlineguard import Engine, InvalidArgument, JointDetector, Lagged, Series, SliceModel, Verdicts, in_batches

engine = Engine(features=["load", "latency"], target_rate=0.01, max_slices=10_000, weights={"load": 2.0})
verdicts = engine.update(["web-1", "web-2"], np.zeros((2, 2)))
assert_type(verdicts, Verdicts)
assert_type(verdicts.score, np.ndarray)
assert_type(verdicts.slice_numbers, np.ndarray | None)
assert_type(engine.n_slices, int)
assert_type(engine.explain("web-1", {"load": 1.0, "latency": 2.0}), dict[Any, float])
shares: dict[str, float] = engine.explain("web-1", {"load": 1.0, "latency": 2.0})
assert_type(engine.describe("web-1"), dict[str, Any])
assert_type(Engine.load("engine.onlineguard"), Engine)

for verdict in verdicts:
    assert_type(verdict.anomalous, bool)
    assert_type(verdict.p_value, float)
assert_type(verdicts[0].score, float)
assert_type(verdicts[:1], Verdicts)
assert_type(verdicts[pl.Series([True, False])], Verdicts)
verdicts.plot(pl.DataFrame({"load": [1.0, 2.0]}), time=np.arange(2))

model: SliceModel = Series(target_rate=0.001)
lagged: SliceModel = Lagged(JointDetector(target_rate=0.01), lags=2)
engines: dict[str, Engine] = {"series": Engine(1, estimator=model), "points": Engine(1, estimator=JointDetector())}


def changed(engine: Engine, rate: float) -> Engine:
    """Another target rate; a wrong one is told by the name of its argument."""
    try:
        engine.target_rate = rate
    except InvalidArgument as error:
        assert_type(error.argument, str | None)
    return engine


async def in_a_loop(lazy: pl.LazyFrame) -> list[Verdicts]:
    """The verdicts on the rows of a query."""
    for _, rows, y in in_batches(lazy, "host", "target"):
        assert_type(rows, pl.DataFrame)
        assert_type(y, pl.Series)
    return [await engine.aupdate(keys, rows) for keys, rows in in_batches(lazy, ["country", "host"])]
