"""What scores of a stream of digits are worth: AUROC, precision, recovery after a switch, alarms."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import jax
import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from experiments.mnist_drift.models import Alarm
from experiments.mnist_drift.streams import Stream
from onlineguard.engine.schedules import scan_lanes

RECOVERY = 300  # images after a switch, scored apart from those after them
BINS = np.arange(0, 1_001, 50)  # images since the switch, for the course of recovery
NEAR = 0.02  # of its own steady AUROC: recovered
TARGETS = (0.01, 0.05)  # false alarm rates asked of the online threshold
SPENT = (0.002, 0.01)  # false alarm rates of the best thresholds, which know the labels


def auroc(score: Float[np.ndarray, " n"], anomalous: Bool[np.ndarray, " n"]) -> float:
    """Share of pairs of an anomaly and a normal image in which the anomaly scores higher, ties half; NaN without."""
    right, pairs = concordant(score, anomalous)
    return right / pairs if pairs else np.nan


def concordant(score: np.ndarray, anomalous: np.ndarray) -> tuple[float, float]:
    """The number of such pairs in which the anomaly scores higher, and of all pairs."""
    found = int(anomalous.sum())
    return float(rankdata(score)[anomalous].sum() - found * (found + 1) / 2), float(found * (len(score) - found))


def average_precision(score: Float[np.ndarray, " n"], anomalous: Bool[np.ndarray, " n"]) -> float:
    """Precision at every anomaly, averaged, images of one score taken together; NaN without anomalies."""
    if not anomalous.any():
        return np.nan
    values, group = np.unique(-score, return_inverse=True)
    positives = np.bincount(group, anomalous, len(values))
    taken = np.cumsum(np.bincount(group, minlength=len(values)))
    return float((positives * np.cumsum(positives) / taken).sum() / positives.sum())


def measured(score: np.ndarray, stream: Stream) -> dict[str, float]:
    """AUROC and average precision a segment, averaged: of the images after the first 300, and of those 300.

    The first segment's first images are counted in neither: no model knows anything then.
    """
    settled, fresh = [], []
    for segment in range(stream.segment[-1] + 1):
        inside = (stream.segment == segment) & stream.whole
        settled.append(inside & (stream.since >= RECOVERY))
        if segment:
            fresh.append(inside & (stream.since < RECOVERY))
    return {
        f"{name} {when}": _mean([measure(score[part], stream.anomalous[part]) for part in parts])
        for name, measure in (("auroc", auroc), ("ap", average_precision))
        for when, parts in (("settled", settled), ("after switch", fresh))
    }


def course(score: np.ndarray, stream: Stream) -> Float[np.ndarray, "bins+1 2"]:
    """Concordant and all pairs in each bin of images since a switch, pairs within one segment only; then settled."""
    edges = [*pairwise(BINS), (RECOVERY, np.inf)]
    pairs = np.zeros((len(edges), 2))
    for segment in range(1, stream.segment[-1] + 1):
        for row, (low, high) in enumerate(edges):
            part = (stream.segment == segment) & (stream.since >= low) & (stream.since < high) & stream.whole
            pairs[row] += concordant(score[part], stream.anomalous[part])
    return pairs


def recovered(pairs: Float[np.ndarray, "*draws bins+1 2"], level: float | None = None) -> Float[np.ndarray, "*draws"]:
    """Images after a switch until a bin's AUROC is within NEAR of the settled one, or at `level`; infinite if never.

    Pairs are pooled over what is to be averaged, such as seeds; the answer is the end of the bin.
    """
    curve = pairs[..., 0] / np.maximum(pairs[..., 1], 1.0)
    least = curve[..., -1:] - NEAR if level is None else level
    there = (pairs[..., :-1, 1] > 0) & (curve[..., :-1] >= least)
    return np.where(there.any(-1), BINS[1:][there.argmax(-1)], np.inf)


def alarms(found: Mapping[str, np.ndarray], stream: Stream) -> dict[str, dict[str, float]]:
    """Shares of false alarms and of misses of every model under the online threshold, settled images only."""
    settled = stream.whole & (stream.since >= RECOVERY)
    events = np.stack([one.astype(np.float32)[:, None] for one in found.values()])
    events = np.clip(events, -1e30, 1e30)
    shares: dict[str, dict[str, float]] = {name: {} for name in found}
    for target in TARGETS:
        alarm = Alarm(target)
        states = jax.tree.map(lambda leaf: np.stack([np.asarray(leaf)] * len(found)), alarm.init())
        raised = np.asarray(scan_lanes(alarm, states, events, np.ones(events.shape[:2], bool))[1]) > 0
        for name, one in zip(found, raised, strict=True):
            shares[name][f"false alarms at {target:g}"] = float(one[settled & ~stream.anomalous].mean())
            shares[name][f"misses at {target:g}"] = float((~one)[settled & stream.anomalous].mean())
    return shares


def best_misses(score: np.ndarray, stream: Stream) -> dict[str, float]:
    """Share of anomalies missed by the best threshold of each segment at given false alarms; settled images only.

    What a threshold that knows the labels would miss: the score's part in the misses, and no threshold's.
    """
    settled = stream.whole & (stream.since >= RECOVERY)
    parts = [settled & (stream.segment == segment) for segment in range(stream.segment[-1] + 1)]
    return {
        f"misses of the best threshold at {share:g}": _mean(
            [
                float(
                    (score[part & stream.anomalous] <= np.quantile(score[part & ~stream.anomalous], 1 - share)).mean()
                )
                for part in parts
                if stream.anomalous[part].any() and not stream.anomalous[part].all()
            ]
        )
        for share in SPENT
    }


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else np.nan
