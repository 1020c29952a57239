# A tutorial of the documentation: docs/notebooks.py makes its page.

# %% [markdown]
# # A pipeline of river

# %% [markdown]
# river's detectors give scores. Which of them are alarms? The default model of onlineguard fits into river's
# pipelines, and gives a verdict for each event, while the stream drifts.
#
# This page needs `pip install 'onlineguard[plot,river]'`.

# %%
import random

import matplotlib.pyplot as plt
from river import metrics, preprocessing

from onlineguard.estimators import DriftRobustDetector, judge_one

rng = random.Random(0)
stream = []
for i in range(4_000):
    odd = rng.random() < 0.01
    usual = 20.0 + i / 200  # it drifts
    stream.append(({"ms": rng.gauss(usual + 60.0 * odd, 4.0), "kb": rng.gauss(300.0, 10.0)}, odd))

# %% [markdown]
# `judge_one` asks a pipeline for a verdict: score, threshold and p-value.

# %%
model = preprocessing.StandardScaler() | DriftRobustDetector(target_rate=0.01)
f1, scores, thresholds = metrics.F1(), [], []
for x, odd in stream:
    verdict = judge_one(model, x)
    f1.update(odd, verdict.anomalous)
    scores.append(verdict.score)
    thresholds.append(verdict.threshold)
    model.learn_one(x)
print(f1)

# %%
figure, ax = plt.subplots(figsize=(8, 3), layout="constrained")
for truth, color in ((False, "#94a3b8"), (True, "#dc2626")):
    at = [i for i, (_, odd) in enumerate(stream) if odd == truth]
    ax.semilogy(at, [scores[i] for i in at], ".", ms=3, color=color, label="odd" if truth else "usual")
ax.semilogy(thresholds, color="#0f172a", label="threshold")
ax.set(xlabel="event", ylabel="score", ylim=(0.05, None))
ax.legend(frameon=False)
assert f1.get() > 0.8

# %% [markdown]
# Which feature makes an event odd? The p-value is the share of usual events that are at least as odd; the parts of the
# features add up to one.

# %%
x = {"ms": 120.0, "kb": 300.0}
print(judge_one(model, x).p_value, model[-1].explain_one(model[0].transform_one(x)))

# %% [markdown]
# To put a threshold around river's own detectors, see [thresholds](../howto/thresholds.md). For one event at a time,
# river's own detectors are quicker; for batches of many slices, take the engine. See [river](../river.md) and the
# [comparison](../comparison.md).
