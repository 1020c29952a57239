"""Judge a polars frame within its query: structs are the keys, and the verdicts are columns like any other.

python examples/polars_structs.py
"""

import numpy as np
import polars as pl

from onlineguard import Engine

rng = np.random.default_rng(0)
n = 6_000
logs = pl.DataFrame(
    {
        "place": [{"country": "DE" if i % 2 else "FR", "host": i % 3} for i in range(n)],
        "load": rng.normal(0.5, 0.1, n),
        "latency": rng.lognormal(2.5, 0.3, n),
    }
)
logs[n - 2, "latency"] = 400.0

engine = Engine(features=["load", "latency"], target_rate=0.001)


def judged(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with a verdict on each row."""
    return frame.hstack(engine.update(frame["place"], frame).to_polars())


query = logs.lazy().map_batches(judged, schema=judged(logs.clear()).schema)
odd = query.filter("anomalous").select("place", "latency", "p_value").sort("p_value").collect(engine="streaming")
print(odd)
