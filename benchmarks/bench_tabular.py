"""How well detectors rank and flag the anomalies of eight labelled tabular sets, shuffled: one configuration for all.

    uv run --group dev python -m benchmarks.bench_tabular [--quick] [--data DIR]

One JSON line a set and detector: mean AUC and average precision (AP) over the shuffles. Of our own models also

    only_normal   share flagged, after the first 100 events, of a stream of the normal events alone; the target is 1 %
    recall        share of the anomalies flagged, after the first 100 events, at the model's own threshold
    false         share of the normal events flagged beside them

The last lines compare the default model with the best online peer of each set, and on average. Sets without a time
order say nothing about drift; `bench_cases` does.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.peers import ONLINE, SLOW, isolation_forest
from benchmarks.streams import WARM_UP, roc_auc
from benchmarks.workloads import emit
from onlineguard import Detector, Engine, JointDetector, SliceModel

SETS = ("mammography", "thyroid", "cardio", "musk", "satellite", "optdigits", "vowels", "PageBlocks")
SHUFFLES = 3
DEFAULT = "onlineguard JointDetector"
OURS: dict[str, Callable[[], SliceModel]] = {DEFAULT: JointDetector, "onlineguard Detector": Detector}
Figures = dict[str, float]


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """The mean precision at the anomalies, ties in order of arrival."""
    found = np.cumsum(labels[np.argsort(-scores, kind="stable")])
    ordered = labels[np.argsort(-scores, kind="stable")]
    return float((found / np.arange(1, len(labels) + 1))[ordered].mean())


def ranked(scores: np.ndarray, labels: np.ndarray) -> Figures:
    """AUC and AP of finite scores; what could not be scored counts as least odd."""
    scores = np.where(np.isfinite(scores), scores, np.nanmin(scores))
    return {"auc": roc_auc(scores, labels), "ap": average_precision(scores, labels)}


def shares_flagged(flagged: np.ndarray, odd: np.ndarray, settled: int = 0) -> Figures:
    """The share of the anomalies that are flagged, and the share of the normal events from `settled` on."""
    return {"recall": float(flagged[odd].mean()), "false": float(flagged[settled:][~odd[settled:]].mean())}


def stored(data: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The events (n, d) of a set, and which of them are anomalies (n,)."""
    with np.load(data / "tabular" / f"{name}.npz") as file:
        return file["X"].astype(float), file["y"] == 1


def of_model(make: Callable[[], SliceModel], x: np.ndarray, labels: np.ndarray) -> Figures:
    """What one of our models makes of a shuffled set."""

    def judged(events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        verdicts = Engine(x.shape[1], estimator=make()).update(np.zeros(len(events), int), events)
        return verdicts.score.astype(float), verdicts.anomalous[WARM_UP:]

    scores, flagged = judged(x)
    only_normal = float(judged(x[~labels])[1].mean())
    return {**ranked(scores, labels), "only_normal": only_normal, **shares_flagged(flagged, labels[WARM_UP:])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small set, one shuffle: to see that it works")
    parser.add_argument("--sets", nargs="+", choices=SETS, help="these sets only")
    parser.add_argument("--fast-peers", action="store_true", help="leave out the peers that take minutes")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("ONLINEGUARD_DATA"), help="folder of real data [ONLINEGUARD_DATA]"
    )
    options = parser.parse_args()
    if options.data is None or not (options.data / "tabular").is_dir():
        print(f"no folder tabular in {options.data}: name the folder that holds it with --data or ONLINEGUARD_DATA")
        sys.exit(0 if options.quick else 2)

    sets = options.sets or (["vowels"] if options.quick else SETS)
    shuffles = 1 if options.quick else SHUFFLES
    fast = options.quick or options.fast_peers
    peers = {name: score for name, score in ONLINE.items() if not (fast and name in SLOW)}
    offline = "IsolationForest, offline"
    table: dict[str, dict[str, Figures]] = {}
    for name in sets:
        x, labels = stored(options.data, name)
        found: dict[str, list[Figures]] = {}
        for seed in range(shuffles):
            order = np.random.default_rng(seed).permutation(len(x))
            a, b = x[order], labels[order]
            for model, make in OURS.items():
                found.setdefault(model, []).append(of_model(make, a, b))
            for peer, score in peers.items():
                found.setdefault(peer, []).append(ranked(score(a), b))
            found.setdefault(offline, []).append(ranked(isolation_forest(a, seed), b))
        for detector, figures in found.items():
            mean = {key: float(np.mean([f[key] for f in figures])) for key in figures[0]}
            table.setdefault(detector, {})[name] = mean
            emit(bench="tabular", set=name, detector=detector, **{key: round(value, 4) for key, value in mean.items()})

    means = {
        detector: {key: float(np.mean([figures[name][key] for name in sets])) for key in ("auc", "ap")}
        for detector, figures in table.items()
    }
    for detector, figures in means.items():
        emit(bench="tabular", set="mean", detector=detector, **{key: round(value, 4) for key, value in figures.items()})
    for name in sets:
        best = max(peers, key=lambda peer: table[peer][name]["auc"])
        behind = table[best][name]["auc"] - table[DEFAULT][name]["auc"]
        emit(bench="tabular", figure="AUC behind the best online peer", set=name, peer=best, value=round(behind, 4))
    best = max(peers, key=lambda peer: means[peer]["auc"])
    ahead = means[DEFAULT]["auc"] - means[best]["auc"]
    emit(bench="tabular", figure="mean AUC ahead of the best online peer", peer=best, value=round(ahead, 4))


if __name__ == "__main__":
    main()
