"""The streams: points or pairs around a truth that stays or moves, with noise, and corrupted events among them."""

import math
from dataclasses import dataclass

import numpy as np

from onlineguard.core.protocols import Array, Event

RADIUS = 2.0  # truths lie at this distance from the point that every estimate starts from
SEGMENTS = 5  # of a stream that jumps: four jumps, whatever its length
SINE = 2000  # events a period
WALK = 0.02  # length of a walk's step, in standard deviations of a Gaussian feature's noise
WAY = 10.0  # length of all steps of a slow walk together
FAR = 100.0  # how far off corrupted points and targets are


@dataclass(frozen=True)
class Stream:
    """One row of the table; a share of None corrupts T^(1/3) of the T events, in expectation."""

    model: str  # mean, linear, logistic
    d: int
    noise: str  # gaussian, student, pareto (skewed), symmetric (Pareto); labels, which logistic regression has
    drift: str  # still, jumps, slow sine, slow walk: of bounded total; sine, walk: as long as the stream
    attack: str = ""  # far, direction, flips
    share: float | None = 0.0
    longest: int = 100_000

    @property
    def name(self) -> str:
        share = "∛T" if self.share is None else f"{100 * self.share:g} %"
        return f"{self.model} d={self.d}, {self.noise}, {self.drift}" + (
            f", {share} {self.attack}" if self.attack else ""
        )

    @property
    def theory(self) -> bool:
        """Whether the theory promises T^(2/3): total drift bounded, and not more than T^(1/3) corrupted events."""
        return self.drift in ("still", "jumps", "slow sine", "slow walk") and not self.share


LONG = 1_000_000
STREAMS = (
    Stream("mean", 1, "gaussian", "still", longest=LONG),
    Stream("mean", 1, "gaussian", "jumps", longest=LONG),
    Stream("mean", 1, "student", "slow sine", "far", None, longest=LONG),
    Stream("mean", 1, "pareto", "still", "direction", None, longest=LONG),
    Stream("mean", 1, "symmetric", "walk", "direction", 0.2, LONG),
    Stream("mean", 1, "student", "sine", "far", 0.02, LONG),
    Stream("mean", 20, "gaussian", "still", "direction", None),
    Stream("mean", 20, "gaussian", "walk"),
    Stream("mean", 20, "student", "still", "far", 0.2),
    Stream("mean", 20, "student", "jumps", "direction", None, LONG),
    Stream("mean", 20, "symmetric", "slow walk", "far", None),
    Stream("mean", 20, "pareto", "sine", "far", 0.05),
    Stream("mean", 100, "gaussian", "still", "direction", 0.1),
    Stream("mean", 100, "student", "jumps", "direction", None),
    Stream("linear", 1, "student", "still", "far", None, longest=LONG),
    Stream("linear", 1, "symmetric", "slow walk", "direction", 0.1, LONG),
    Stream("linear", 20, "gaussian", "jumps", "far", None, LONG),
    Stream("linear", 20, "student", "walk", "direction", 0.05),
    Stream("linear", 20, "pareto", "slow sine", "far", 0.2),
    Stream("linear", 100, "gaussian", "still"),
    Stream("linear", 100, "student", "jumps", "far", 0.01),
    Stream("logistic", 1, "labels", "still", longest=LONG),
    Stream("logistic", 20, "labels", "jumps", "flips", None, LONG),
    Stream("logistic", 20, "labels", "walk", "flips", 0.05),
    Stream("logistic", 100, "labels", "slow sine", "direction", 0.1),
    Stream("logistic", 100, "labels", "still", "flips", 0.2),
)
QUICK = (0, 3, 16, 21)  # of them: every model, and where the mean is not what a median clip finds
JUMP = Stream("mean", 20, "student", "jumps", "far", 0.05)


def noise(law: str, random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Independent numbers of mean zero. Of all laws but the first the variance is only just finite."""
    if law == "gaussian":
        return random.standard_normal(shape, np.float32)
    if law == "student":
        return random.standard_t(2.1, shape)
    above = np.expm1(random.standard_exponential(shape) / 2.01)  # Pareto of shape 2.01, counted from its least value
    return above - 1 / 1.01 if law == "pareto" else above * random.choice((-1.0, 1.0), shape)


def direction(random: np.random.Generator, d: int) -> Array:
    """A point on the unit sphere."""
    point = random.standard_normal(d)
    return point / np.linalg.norm(point)


class Source:
    """One seed's draw of a stream of a given length, chunk by chunk."""

    def __init__(self, stream: Stream, length: int, random: np.random.Generator):
        self.stream, self.length, self.random, self.t = stream, length, random, 0
        self.places = RADIUS * np.stack([direction(random, stream.d) for _ in range(SEGMENTS)])
        if stream.d == 1:  # there are two directions only, and a jump to where one is would be none
            self.places[:, 0] = RADIUS * (-1.0) ** np.arange(SEGMENTS)
        self.toward = direction(random, stream.d)
        self.place = self.places[0]
        self.share = length ** (-2 / 3) if stream.share is None else stream.share

    def chunk(self, n: int) -> tuple[Event, Array]:
        """The next n events, and the truth at each."""
        truth = self._truth(n)
        self.t += n
        hit = self.random.random(n) < self.share
        event = self._point(truth, hit) if self.stream.model == "mean" else self._pair(truth, hit)
        return event, truth.astype(np.float32)

    def _truth(self, n: int) -> Array:
        t, drift = np.arange(self.t, self.t + n), self.stream.drift
        if drift == "still":
            return np.tile(self.place, (n, 1))
        if drift == "jumps":
            return self.places[t * SEGMENTS // self.length]
        if drift.endswith("sine"):
            return self.places[0] * np.cos(2 * np.pi * t / (SINE if drift == "sine" else self.length))[:, None]
        step = WALK if drift == "walk" else WAY / self.length
        steps = self.random.standard_normal((n, self.stream.d)) * (step / math.sqrt(self.stream.d))
        path = self.place + np.cumsum(steps, axis=0)
        self.place = path[-1]
        return path

    def _point(self, truth: Array, hit: Array) -> Array:
        x = truth + noise(self.stream.noise, self.random, truth.shape)
        far = self.random.standard_normal((int(hit.sum()), self.stream.d))
        far = far / np.linalg.norm(far, axis=1, keepdims=True) if self.stream.attack == "far" else self.toward
        x[hit] = FAR * far
        return x.astype(np.float32)

    def _pair(self, truth: Array, hit: Array) -> tuple[Array, Array]:
        x = self.random.standard_normal(truth.shape, np.float32)
        signal = (x * truth).sum(-1)
        aligned = np.sign(x[hit] @ self.toward)  # what pulls every time in the same direction
        if self.stream.model == "linear":
            y = signal + noise(self.stream.noise, self.random, signal.shape)
            y[hit] = FAR * (self.random.choice((-1.0, 1.0), len(aligned)) if self.stream.attack == "far" else aligned)
        else:
            y = (self.random.random(len(x)) < 1 / (1 + np.exp(-signal))).astype(np.float64)
            y[hit] = 1 - y[hit] if self.stream.attack == "flips" else aligned > 0
        return x, y.astype(np.float32)
