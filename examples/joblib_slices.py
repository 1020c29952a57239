"""Judge the slices of a frame in several processes by joblib, and put their engines together afterwards.

pip install onlineguard pandas joblib
python examples/joblib_slices.py
"""

from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from onlineguard import Engine

rng = np.random.default_rng(0)
df = pd.DataFrame({"host": rng.choice(["web-1", "web-2", "web-3"], 9_000), "load": rng.normal(0.5, 0.1, 9_000)})
df["latency"] = 20.0 * df["load"] + rng.normal(0.0, 1.0, 9_000)
df.loc[8_990, "latency"] = 50.0


def judged(host: str, rows: pd.DataFrame) -> tuple[Engine, pd.DataFrame]:
    """An engine that knows one host, and the verdicts on its rows."""
    engine = Engine(features=["load", "latency"], target_rate=0.001)
    return engine, engine.update(host, rows).to_pandas(rows.index)


if __name__ == "__main__":
    parts: Any = Parallel(n_jobs=2)(delayed(judged)(host, rows) for host, rows in df.groupby("host"))
    df = df.join(pd.concat([verdicts for _, verdicts in parts]))
    engine = Engine(features=["load", "latency"], target_rate=0.001)
    for part, _ in parts:
        engine.add(part)  # it goes on with every host where its process stopped
    print(engine)
    print(df.loc[8_990])
