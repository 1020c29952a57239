"""Judge the machines of a pandas frame, and go on with pandas' own groupby.

pip install onlineguard pandas
python examples/pandas_groupby.py
"""

import numpy as np
import pandas as pd

from onlineguard import Engine

rng = np.random.default_rng(0)
n = 6_000
df = pd.DataFrame(
    {
        "time": pd.date_range("2026-07-01", periods=n, freq="min"),
        "machine": rng.choice(["press 1", "press 2", "oven"], n),
        "bar": rng.normal(5.0, 0.1, n),
    }
)
usual = {"press 1": 60.0, "press 2": 65.0, "oven": 850.0}
df["celsius"] = rng.normal([usual[machine] for machine in df["machine"]], 1.0)
df.loc[5_000:5_040, "celsius"] += 12.0
df = df[df["bar"] < 5.2]  # an index with gaps

engine = Engine(features=["celsius", "bar"], target_rate=0.001)  # no groupby here: the keys are a column
df = df.join(engine.update(df["machine"], df).to_pandas(df.index))

odd = df[df["anomalous"]].groupby("machine")
print(odd.agg(first=("time", "min"), last=("time", "max"), events=("score", "size"), oddest=("p_value", "min")))

# One number by itself, a new engine for each group: a transform like any other.
df["alone"] = df.groupby("machine")["celsius"].transform(lambda x: Engine(1).update("this one", x).score)
print(df.groupby("machine")["alone"].describe(percentiles=[0.5, 0.99]).round(2))
