# A tutorial of the documentation: docs/notebooks.py makes its page.

# %% [markdown]
# # Server metrics

# %% [markdown]
# Two weeks of CPU load from two hosts, a value every ten minutes. Each host has a daily wave of its own. On one, the
# users stayed away for some hours; on the other, a process took all of the CPU for half an hour. Is either noticed?
#
# This page needs `pip install 'onlineguard[plot,polars]'`.

# %%
import matplotlib.pyplot as plt
import numpy as np
import polars as pl

from onlineguard import Engine, Series

rng = np.random.default_rng(1)
day, days = 144, 14
t = np.arange(day * days)
wave = np.sin(2.0 * np.pi * t / day)
loads = {
    "web-1": 50.0 + 30.0 * wave + rng.normal(0.0, 2.0, len(t)),
    "web-2": 30.0 + 10.0 * wave + rng.normal(0.0, 1.0, len(t)),
}
loads["web-1"][day * 11 + 20 : day * 11 + 60] = rng.normal(50.0, 2.0, 40)  # no users
loads["web-2"][day * 9 + 30 : day * 9 + 33] = 95.0  # a process that takes all
cpu = np.stack(list(loads.values()), axis=1)
frame = pl.DataFrame({"step": np.repeat(t, 2), "host": list(loads) * len(t), "cpu": cpu.ravel()})
frame.head(4)

# %% [markdown]
# One engine keeps a model for each host. `Series` is the model for a metric: it finds the period by itself. The
# events come in the order of time, hosts interleaved, as they would from a monitoring system. The p-value in the table
# is the share of a host's usual values that are at least as odd.

# %%
engine = Engine(features=["cpu"], estimator=Series())
verdicts = engine.update(frame["host"], frame.select("cpu"))
alarms = frame.with_columns(p=verdicts.p_value).filter(verdicts.anomalous)
alarms.with_columns(day=pl.col("step") / day)

# %%
figure, axes = plt.subplots(2, 1, figsize=(8, 3.6), sharex=True, layout="constrained")
for ax, (host, cpu) in zip(axes, loads.items(), strict=True):
    at = alarms.filter(pl.col("host") == host)
    ax.plot(t / day, cpu, lw=0.7, color="#94a3b8")
    ax.plot(at["step"] / day, at["cpu"], "o", color="#dc2626")
    ax.set(ylabel=host)
axes[-1].set(xlabel="day")

# %% [markdown]
# An alarm marks where something begins: the next 60 values of the host, ten hours here, raise no other. The model was
# told nothing of days or scales.

# %%
found = [(host, step // day) for step, host in alarms.select("step", "host").iter_rows()]
print(len(alarms), "alarms in", len(frame), "values:", found)
assert {("web-1", 11), ("web-2", 9)} <= set(found)

# %% [markdown]
# The same from the command line, on a file: `onlineguard run metrics.csv --slice host --feature cpu --time timestamp
# --report report.html`. Go on with [seasons](../howto/seasons.md) or with [a dashboard](dashboard.md).
