"""Made-up scores of clicks, and calibrations of them."""

from dataclasses import dataclass

import numpy as np

from onlineguard.slidr.thresholds.calibration import Calibration, calibrate

KEYS = ["desktop", ("mobile", "US", True), "tablet", "other"]


@dataclass(frozen=True)
class Clicks:
    p: np.ndarray
    codes: np.ndarray
    human: np.ndarray
    heavy: np.ndarray
    robot: np.ndarray


def made(n: int, seed: int = 0, noise: float = 0.0, slices: int = len(KEYS)) -> Clicks:
    """A quarter are robots, scored higher; `noise` blurs the scores of the same clicks."""
    random = np.random.default_rng(seed)
    codes, robot = random.integers(0, slices, n), random.random(n) < 0.25
    human, heavy = ~robot & (random.random(n) < 0.15), robot & (random.random(n) < 0.4)
    logit = random.normal(np.where(robot, 1.5, -1.5 - 0.3 * (codes % 4)), 1.0)
    logit += noise * random.normal(size=n)
    return Clicks(1 / (1 + np.exp(-logit)), codes, human, heavy, robot)


def calibration_of(clicks: Clicks, method: str = "envelope") -> Calibration:
    names = [str(code) for code in range(max(len(KEYS), int(clicks.codes.max()) + 1))]
    return calibrate(
        clicks.p, clicks.codes, clicks.human, clicks.heavy, budget=0.02, method=method, names=names, confidence=None
    )
