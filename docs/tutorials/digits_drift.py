# A tutorial of the documentation: docs/notebooks.py makes its page.

# %% [markdown]
# # Digits whose normal one switches

# %% [markdown]
# A zero is normal, other digits are anomalies. Halfway, without notice, the normal digit becomes a one. A model must
# find the anomalies before and after, and is never shown a label. This is a small form of our experiment on MNIST,
# with the 8 x 8 digits that come with scikit-learn.
#
# This page needs `pip install 'onlineguard[plot,sklearn]'`.

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from onlineguard import ClippedSGD, Engine, Judged, Mean, Neighbours

images, labels = load_digits(return_X_y=True)
rng = np.random.default_rng(0)
n, switch = 3_000, 1_500
normal = np.where(np.arange(n) < switch, 0, 1)
odd = rng.random(n) < 0.05
digit = np.where(odd, (normal + rng.integers(1, 10, n)) % 10, normal)
X = np.stack([images[rng.choice(np.flatnonzero(labels == d))] for d in digit]) + rng.normal(0.0, 0.5, (n, 64))

# %% [markdown]
# Two models, each in an engine. One keeps a running mean, whose steps are clipped; the score is the distance from it.
# The other compares each image with the most similar of the last 512. `Judged` adds the threshold to either model. Its
# patience is how many images a new normal must last before it is accepted.

# %%
models = {"distance from a clipped mean": ClippedSGD(Mean(64)), "neighbours": Neighbours(64)}
scores = {
    name: Engine(64, estimator=Judged(model, target_rate=0.01, patience=500.0)).update("digits", X).score
    for name, model in models.items()
}


# %%
def auc(score, start, end):
    part = np.arange(n)[start:end]
    part = part[np.isfinite(score[part])]
    return roc_auc_score(odd[part], score[part])


for name, score in scores.items():
    spans = {"before": (300, switch), "300 after the switch": (switch, switch + 300), "later": (switch + 300, n)}
    print(f"{name:30}", {span: round(float(auc(score, *ends)), 3) for span, ends in spans.items()})

# %%
figure, ax = plt.subplots(figsize=(8, 3), layout="constrained")
width = 150
for name, score in scores.items():
    ends = np.arange(300, n + 1, 50)
    ax.plot(ends, [auc(score, end - width, end) for end in ends], label=name)
ax.axvline(switch, color="#0f172a", ls=":", lw=1)
ax.set(xlabel="image", ylabel=f"AUC of the last {width}")
ax.legend(frameon=False, loc="lower right")
assert auc(scores["neighbours"], switch + 300, n) > 0.95

# %% [markdown]
# Right after the switch the ones look odd, since they are new. Within a few dozen images the neighbours have learned
# what is normal now. The mean moves slowly, so that anomalies cannot drag it along, and is still on its way. The whole
# experiment, with rotation, corrupted pixels and river's detectors, is in
# [experiments/mnist_drift](../../experiments/mnist_drift/README.md).
