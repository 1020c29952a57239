"""Thresholds that follow drift against fixed ones: how far the share of robotic clicks gets from what was promised.

    uv run --group dev python -m benchmarks.bench_drift [--quick] [--clicks 150000] [--seeds 2] [--memory 100]

A logistic model learns the first of three simulated weeks, and thresholds are chosen on the second. In the third the
logits of all scores move by so much until its end, as a feature that drifts would move them, or stay; or on its fourth
day robots whose scores lie above all bands send as many clicks as everybody else. One JSON line a case: the mean over
slices of abs(ln(IVR / promised)), the IVR, the FPR, and of the flood the share of its clicks that is marked.
"""

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks.workloads import emit
from onlineguard.slidr.pipeline import Config, Prepared, Thresholds, calibrate_model, prepare, purchasing, train_model
from onlineguard.slidr.pipeline import scores as scored
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic
from onlineguard.slidr.thresholds.drift import MEMORY, Drifting

DAY = 86_400_000
SHIFTS = (0.0, 0.5, -0.5, 1.5, -1.5)  # of logits, at the end of the week


class Week(NamedTuple):
    """The third week of a world: each click's score, slice, and whether it led to a purchase."""

    thresholds: Thresholds
    p_robot: np.ndarray
    codes: np.ndarray
    bought: np.ndarray
    passed: np.ndarray  # share of the week before each click


def week(clicks: int, seed: int) -> Week:
    traffic = Traffic(clicks=clicks, days=21)
    config = Config(kind="logistic")
    prepared: Prepared = prepare(simulate(traffic, seed).clicks, config)
    ends = [traffic.begin + 7 * DAY * number for number in range(4)]
    learned, later, last = (prepared.between(*ends[at : at + 2]) for at in range(3))
    scorer = train_model(prepared, learned, ends[1], config)
    thresholds = calibrate_model(prepared, scorer, later, ends[2], config, budget=0.02, confidence=None)
    rows = last & prepared.first
    ids, _ = prepared.ids_among(thresholds.keys)
    passed = (prepared.ts[rows] - ends[2]) / (7 * DAY)
    return Week(thresholds, scored(prepared, scorer)[rows], ids[rows], purchasing(prepared, ends[3])[rows], passed)


def shifted(p: np.ndarray, by: np.ndarray) -> np.ndarray:
    held = np.clip(p.astype(np.float64), 1e-7, 1.0 - 1e-7)
    return (1.0 / (1.0 + np.exp(-(np.log(held) - np.log1p(-held) + by)))).astype(np.float32)


def followed(found: Thresholds, p: np.ndarray, codes: np.ndarray, memory: float) -> np.ndarray:
    """The threshold of each click."""
    calibration = found.calibration
    assert calibration.band is not None
    fixed = np.append(calibration.thresholds, calibration.default)[np.minimum(codes, len(calibration.thresholds))]
    names = list(map(str, range(len(calibration.thresholds))))
    drifting = Drifting(names, calibration.thresholds, calibration.band, calibration.ivr.value, memory)
    limits = drifting.limits(list(map(str, codes.tolist())), p)
    return np.array([mine if mine is not None else theirs for mine, theirs in zip(limits, fixed, strict=True)])


def measured(world: Week, p: np.ndarray, limits: np.ndarray, since: float) -> dict[str, float]:
    """Of the clicks after that share of the week."""
    late = world.passed >= since
    robotic, codes = p[late] > limits[late], world.codes[late]
    calibration = world.thresholds.calibration
    promised = calibration.ivr.value
    assert calibration.band is not None
    moving = np.flatnonzero(calibration.band[:, 0] < calibration.band[:, 1])
    away = [
        abs(np.log((robotic[codes == slice_].sum() + 0.5) / ((codes == slice_).sum() * promised[slice_] + 0.5)))
        for slice_ in moving.tolist()
    ]
    bought = world.bought[late]
    return {
        "away": round(float(np.mean(away)), 3),
        "ivr": round(float(robotic.mean()), 4),
        "promised": round(float(calibration.ivr.total.value), 4),
        "fpr": round(float(robotic[bought].mean()), 4),
        "slices": len(moving),
    }


def flood(world: Week, limits: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> dict[str, float]:
    """Robots send as many clicks as everybody on the fourth day: what is marked of them, and of all others since."""
    calibration = world.thresholds.calibration
    assert calibration.band is not None
    day = (world.passed >= 3 / 7) & (world.passed < 4 / 7)
    source = np.flatnonzero(day)
    high = np.append(calibration.band[:, 1], calibration.default)[np.minimum(world.codes, len(calibration.band))]
    robots = shifted(high[source], np.full(len(source), 0.1))
    order = np.argsort(np.concatenate([world.passed, world.passed[source]]), kind="stable")
    p = np.concatenate([world.p_robot, robots])[order]
    codes = np.concatenate([world.codes, world.codes[source]])[order]
    robot = (np.arange(len(order)) >= len(world.p_robot))[order]
    found = limits(p, codes)
    since = np.concatenate([world.passed, world.passed[source]])[order] >= 3 / 7
    marked = p > found
    last = (np.concatenate([world.passed, world.passed[source]])[order] >= 6 / 7) & ~robot
    return {
        "flood_marked": round(float(marked[robot].mean()), 4),
        "others_since": round(float(marked[since & ~robot].mean()), 4),
        "others_last_day": round(float(marked[last].mean()), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small world")
    parser.add_argument("--clicks", type=int, default=150_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--memory", type=float, default=MEMORY)
    options = parser.parse_args()
    if options.quick:
        options.clicks, options.seeds = 20_000, 1
    for seed in range(options.seeds):
        world = week(options.clicks, seed)
        ways: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
            "fixed": lambda p, codes, found=world.thresholds: np.append(
                found.calibration.thresholds, found.calibration.default
            )[np.minimum(codes, len(found.calibration.thresholds))],
            "followed": lambda p, codes, found=world.thresholds: followed(found, p, codes, options.memory),
        }
        for way, limits in ways.items():
            for shift in SHIFTS:
                p = shifted(world.p_robot, shift * world.passed)
                figures = measured(world, p, limits(p, world.codes), 4 / 7)
                emit(bench="drift", seed=seed, thresholds=way, logits_move=shift, **figures)
            emit(bench="drift", seed=seed, thresholds=way, flood="fourth day", **flood(world, limits))


if __name__ == "__main__":
    main()
