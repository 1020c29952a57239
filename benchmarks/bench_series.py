"""What the verdicts of the default detector of series are worth, as they come, and how fast they come.

    uv run --group dev python -m benchmarks.bench_series [--quick] [--data DIR]

One JSON line a figure, one configuration for all of them.

    windows      17 server metrics, scored as the public benchmark scores (`benchmarks/nab.py`), in its three profiles.
                 Ours are the verdicts as they come. Each peer has, for each profile, the threshold that suits it best
                 afterwards, and the same pause after an alarm: more than a peer can have in use.
    segments     labelled segments of two operations series in which an alarm is raised, and false alarms
    synthetic    the standard profile over synthetic series with labelled windows, and alarms in 10,000 events of series
                 without any
    speed        events in a second of one core's time, in batches of 131,072, and numbers that are kept a slice
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.nab import LONGEST_PROBATION, PROFILES, Profile, normalised, windows_of
from benchmarks.series_streams import KPI, Labelled, cloudwatch_series, eventful, kpi_series, quiet
from benchmarks.streams import FILE, PEERS
from benchmarks.workloads import emit, events
from onlineguard import Engine
from onlineguard.models.detector import Detector
from onlineguard.models.series import PAUSE, Series

CANDIDATES = 120  # thresholds tried for a peer, spread evenly over the logs of how many events lie above

Scores = list[np.ndarray]


def alarms(series: list[Labelled], estimator: object = None) -> list[np.ndarray]:
    """Where a model of ours raises an alarm, in every series, each a slice of one engine."""
    keys = np.repeat(np.arange(len(series)), [len(one.values) for one in series])
    engine = Engine(1, estimator=estimator or Series())
    flags = engine.update(keys, np.concatenate([one.values for one in series])[:, None]).anomalous
    return np.split(flags, np.cumsum([len(one.values) for one in series])[:-1])


def paused(flags: np.ndarray, pause: int = int(PAUSE)) -> np.ndarray:
    """The flags without those in the pause after an alarm."""
    kept, last = np.zeros(len(flags), bool), -pause - 1
    for place in np.flatnonzero(flags).tolist():
        if place - last > pause:
            kept[place], last = True, place
    return kept


def by_all_history(values: Scores) -> Scores:
    """Distance from the mean of all earlier values in their standard deviations."""
    found = []
    for x in values:
        n = np.arange(1, len(x) + 1)
        mean = np.cumsum(x) / n
        spread = np.sqrt(np.maximum(np.cumsum(x * x) / n - mean * mean, 0.0))
        scores = np.zeros(len(x))
        scores[1:] = abs(x[1:] - mean[:-1]) / np.maximum(spread[:-1], 1e-9 * abs(mean[:-1]) + 1e-12)
        found.append(scores)
    return found


def best(series: list[Labelled], scores: Scores, profile: Profile) -> float:
    """The score at the threshold that suits the scores best, one for all series."""
    ordered = np.sort(np.concatenate(scores))[::-1]
    places = np.unique(np.geomspace(1, len(ordered) / 4, CANDIDATES).astype(int)) - 1
    labels = [one.labels for one in series]
    return max(
        normalised(zip((paused(part > ordered[place]) for part in scores), labels, strict=True), profile)
        for place in places.tolist()
    )


def windows(series: list[Labelled], quick: bool) -> None:
    labels = [one.labels for one in series]
    peers: dict[str, Callable[[Scores], Scores]] = {"z-score over all history": by_all_history}
    peers |= {name: make for name, make in PEERS.items() if not (quick and name in ("HalfSpaceTrees", "OneClassSVM"))}
    ours = alarms(series)
    detected = [paused(flags) for flags in alarms(series, Detector())]
    scored = {name: score([one.values for one in series]) for name, score in peers.items()}
    for name, profile in PROFILES.items():
        figures = {
            "onlineguard Series, own verdicts": normalised(zip(ours, labels, strict=True), profile),
            "onlineguard Detector, own verdicts": normalised(zip(detected, labels, strict=True), profile),
            **{f"{peer}, best threshold": best(series, scores, profile) for peer, scores in scored.items()},
        }
        for detector, value in figures.items():
            emit(bench="series", figure="windows", profile=name, detector=detector, value=round(value, 1))


def segments(series: list[Labelled]) -> None:
    for one, flags in zip(series, alarms(series), strict=True):
        found = windows_of(one.labels)
        caught = sum(bool(flags[first : last + 1].any()) for first, last in found)
        false = int((flags & ~one.labels).sum())
        emit(bench="series", figure="segments", series=one.name, caught=caught, of=len(found), false_alarms=false)


def synthetic(seeds: int, n: int) -> None:
    for series, figure in ((eventful(seeds), "score"), (quiet(seeds, n), "alarms in 10,000 events")):
        found = alarms(series)
        for family in dict.fromkeys(one.name.partition("/")[0] for one in series):
            parts = [(a, one.labels) for a, one in zip(found, series, strict=True) if one.name.startswith(f"{family}/")]
            value = (
                normalised(parts, PROFILES["standard"])
                if figure == "score"
                else 1e4 * float(np.mean([flags.mean() for flags, _ in parts]))
            )
            emit(bench="series", figure=f"synthetic, {figure}", family=family, value=round(value, 1), series=seeds)


def speed(quick: bool) -> None:
    for d, slices in ((1, 1), (1, 1_000), (4, 1_000)):
        keys, X = events(4_096 if quick else 131_072, d, slices)
        engine = Engine(d, estimator=Series())

        def run(engine: Engine = engine, keys: np.ndarray = keys, X: np.ndarray = X) -> None:
            _ = engine.update(keys, X).anomalous

        run()
        run()
        times = []
        for _ in range(3 if quick else 7):
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
        figure = {"features": d, "slices": slices, "numbers_a_slice": engine.layout.length}
        per_s = {name: round(len(X) / of(times)) for name, of in (("events_per_s", median), ("fastest", min))}
        emit(bench="series", figure="speed", **figure, **per_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a little of each, to see that it works")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("ONLINEGUARD_DATA"), help="folder of real data [ONLINEGUARD_DATA]"
    )
    options = parser.parse_args()
    speed(options.quick)
    synthetic(1 if options.quick else 8, 2_000 if options.quick else 10_000)
    if options.data is None or not all((options.data / file).is_file() for file in (FILE, KPI)):
        print(f"no {FILE} and {KPI} in {options.data}: name the folder that holds them with --data or ONLINEGUARD_DATA")
        sys.exit(0 if options.quick else 2)
    segments(kpi_series(options.data, LONGEST_PROBATION * 4 if options.quick else None))
    windows(cloudwatch_series(options.data, 3 if options.quick else None), options.quick)


if __name__ == "__main__":
    main()
