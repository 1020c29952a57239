"""How well detectors find the labelled windows of 17 real server metrics, each with one configuration for all.

    uv run --group dev python -m benchmarks.bench_detection [--quick] [--data DIR]

One JSON line a figure and detector; `compare` in `benchmarks/streams.py` says what the figures mean. Every detector is
also shown with its scores held as a fading maximum, to tell what holding alone gives: labels are windows, and a peer
says nothing in most of a window's points.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.streams import FILE, PEERS, Series, cloudwatch, compare, held
from benchmarks.workloads import emit
from onlineguard import Engine
from onlineguard.models.detector import Detector
from onlineguard.models.series import Series as SeriesEstimator

HOLD = 72.0  # events: six hours

OURS: dict[str, Callable[[], Any]] = {
    "onlineguard Series": SeriesEstimator,
    "onlineguard Detector": Detector,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three of the series, to see that it works")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("ONLINEGUARD_DATA"), help="folder of real data [ONLINEGUARD_DATA]"
    )
    options = parser.parse_args()
    if options.data is None or not (options.data / FILE).is_file():
        print(f"no {FILE} in {options.data}: name the folder that holds it with --data or ONLINEGUARD_DATA")
        sys.exit(0 if options.quick else 2)

    stream = cloudwatch(options.data, 3 if options.quick else None)
    values, labels = stream.split(stream.value), stream.split(stream.label)

    def show(detector: str, scores: Series) -> dict[str, float]:
        figures = compare(scores, labels)
        for figure, value in figures.items():
            emit(bench="detection", detector=detector, figure=figure, value=round(value, 3), series=len(labels))
        return figures

    ours: dict[str, dict[str, float]] = {}
    for name, make in OURS.items():
        verdicts = Engine(1, estimator=make()).update(stream.metric, stream.value[:, None])
        scores = stream.split(np.where(verdicts.ready, verdicts.score, 0.0))
        ours[name] = show(name, scores)
        show(f"{name}, held", held(scores, HOLD))
    peers: dict[str, dict[str, float]] = {}
    for name, score in PEERS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a constant series has no range to scale by
            scores = score(values)
        peers[name] = show(name, scores)
        show(f"{name}, held", held(scores, HOLD))

    for figure, value in ours["onlineguard Series"].items():
        best = max(peers, key=lambda name: peers[name][figure])
        emit(
            bench="detection", figure=figure, series=round(value, 3), best_peer=round(peers[best][figure], 3), peer=best
        )


if __name__ == "__main__":
    main()
