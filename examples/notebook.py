# %% [markdown]
# What is odd on a host? Cells for a notebook; VS Code and Jupytext open this file as one.

# %%
import numpy as np

from onlineguard import Engine

rng = np.random.default_rng(0)
events = rng.normal([0.5, 12.0], [0.1, 3.0], (3_000, 2))
events[2_500:2_510] += [0.0, 60.0]
engine = Engine(features=["load", "latency"], target_rate=0.001)
engine.model

# %%
verdicts = engine.update("web-1", events)
verdicts

# %%
axes = verdicts.plot(events, engine.features)

# %%
oddest = int(np.nanargmax(verdicts.score))
verdicts[oddest]

# %%
engine.explain("web-1", events[oddest])

# %%
later = engine.plot("web-1", rng.normal([0.5, 12.0], [0.1, 3.0], (200, 2)))

# %%
engine
