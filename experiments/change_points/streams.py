"""The streams: of the paper's section 5, whose mean changes three times, and laws that never change."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import signal

from experiments import common

# The streams of the paper's section 5: three changes between a mean of 0 and one of length `jump`.
LENGTH = 1600
TRUTH = np.repeat(np.arange(4), LENGTH // 4)  # true changes up to each event
SHAPE = 2.01  # of the Pareto law, as in the paper: its variance is all but infinite

# One change after `BEFORE` events, looked for in `AFTER`; jumps in standard deviations (of the Pareto law, which has
# next to none: in half the width of its middle 68 %, which is one standard deviation of a normal law).
BEFORE, AFTER = 1000, 1000
JUMPS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0)


@dataclass(frozen=True)
class Row:
    """A row of the published table: a law, and what its authors measured (median and half the 95 % band)."""

    law: str
    d: int
    jump: float
    published: tuple[tuple[int, int] | None, ...]  # Algorithm 1, Improved GLR, R-BOCPD

    @property
    def name(self) -> str:
        if self.law == "Bernoulli":
            low = 0.5 - self.jump / 2
            return f"Bernoulli {low:.2f} / {1 - low:.2f}"
        law = {"Normal, total variance 1": "Normal*"}.get(self.law, self.law)
        return f"{law}, d = {self.d}, jump {self.jump:g}"


# The paper prints the covariance I / sqrt(32) for d = 32; its bounds suppose a total variance of 1. Both are run.
ROWS = (
    Row("Normal", 1, 1.0, ((274, 38), (64, 45), None)),
    Row("Normal", 32, 1.0, ((300, 6), (2400, 0), None)),
    Row("Normal, total variance 1", 32, 1.0, ((300, 6), (2400, 0), None)),
    Row("Normal", 1, 0.5, ((694, 191), (356, 150), None)),
    Row("Normal", 32, 0.5, ((1427, 14), (2400, 1), None)),
    Row("Normal, total variance 1", 32, 0.5, ((1427, 14), (2400, 1), None)),
    Row("Pareto", 1, 1.0, ((296, 35), (19913, 8143), None)),
    Row("Pareto", 32, 1.0, ((302, 7), (1616, 921), None)),
    Row("Pareto", 1, 0.5, ((868, 365), (1891, 663), None)),
    Row("Pareto", 32, 0.5, ((1431, 14), (1667, 653), None)),
    Row("Bernoulli", 1, 0.7, ((515, 49), (181, 23), (23, 479))),
    Row("Bernoulli", 1, 0.4, ((1509, 53), (1466, 762), (63, 380))),
)

LAWS = ("Normal", "Student t 2.1", "Pareto", "log-normal", "Bernoulli 0.15", "AR(1) 0.5")


def noise(law: str, rng: np.random.Generator, events: int, d: int) -> np.ndarray:
    """(events, d) of mean 0, apart from the laws of which only stationary streams are drawn."""
    z = rng.standard_normal((events, d))
    if law == "Normal":
        return z * d**-0.25
    if law == "Normal, total variance 1":
        return z * d**-0.5
    if law == "Pareto":
        if d == 1:
            return rng.pareto(SHAPE, (events, 1)) - 1.0 / (SHAPE - 1.0)
        return z / np.linalg.norm(z, axis=1, keepdims=True) * (1.0 + rng.pareto(SHAPE, (events, 1)))
    if law == "Student t 2.1":
        return rng.standard_t(2.1, (events, d))
    if law == "log-normal":
        return np.exp(z)
    if law == "Bernoulli 0.15":
        return (rng.random((events, d)) < 0.15).astype(np.float64)
    assert law == "AR(1) 0.5"
    return np.asarray(signal.lfilter([1.0], [1.0, -0.5], z, axis=0))


def width(law: str) -> float:
    """Half the width of the middle 68.3 % of the law, one feature: one standard deviation of a normal one."""
    if law == "Normal":
        return 1.0
    assert law == "Pareto"
    low, high = ((1.0 - p) ** (-1.0 / SHAPE) for p in (0.158655, 0.841345))
    return (high - low) / 2.0


def table_streams(row: Row, runs: Sequence[int]) -> np.ndarray:
    """(runs, LENGTH, d) streams of a row of the table, one a seed."""
    streams: list[np.ndarray] = []
    for run in runs:
        rng = common.rng(1, ROWS.index(row), run)
        if row.law == "Bernoulli":
            level = 0.5 + row.jump * (TRUTH % 2 - 0.5)
            streams.append((rng.random(LENGTH) < level).astype(np.float64)[:, None])
        else:
            mean = row.jump / np.sqrt(row.d) * (TRUTH % 2)
            streams.append(mean[:, None] + noise(row.law, rng, LENGTH, row.d))
    return np.stack(streams)
