"""Streams of points and series that no default was chosen on, each from a seed.

A stream of points is made twice: the usual events, and what each of them would be if it were an anomaly. So the same
stream is judged with anomalies and without. A series of values is made likewise.
"""

from collections.abc import Callable

import numpy as np

Rng = np.random.Generator
Twice = tuple[np.ndarray, np.ndarray]  # usual events (n, d), and an anomaly in the place of each (n, d)
DAY = 288  # events


def wave(n: int, period: float) -> np.ndarray:
    """A sine (n, 1)."""
    return np.sin(2.0 * np.pi * np.arange(n)[:, None] / period)


def lasting(rng: Rng, n: int, regimes: int, length: float) -> np.ndarray:
    """Which regime holds at each event (n,); one lasts `length` events on average, the next is another one."""
    ends = rng.random(n) < 1.0 / length
    return np.cumsum(ends * rng.integers(1, max(regimes, 2), n)) % regimes


def autoregressive(rng: Rng, n: int, d: int, rho: float) -> np.ndarray:
    """Independent columns of unit variance (n, d)."""
    x = np.sqrt(1.0 - rho * rho) * rng.standard_normal((n, d))
    for t in range(1, n):
        x[t] += rho * x[t - 1]
    return x


def in_one(rng: Rng, x: np.ndarray, by: np.ndarray | float) -> np.ndarray:
    """The events with one feature of each moved by `by`, up or down."""
    moved = x.copy()
    rows, feature = np.arange(len(x)), rng.integers(0, x.shape[1], len(x))
    moved[rows, feature] += rng.choice([-1.0, 1.0], len(x)) * np.broadcast_to(by, x.shape)[rows, feature]
    return moved


def normal(d: int, far: float) -> Callable[[Rng, int], Twice]:
    def make(rng: Rng, n: int) -> Twice:
        x = rng.standard_normal((n, d))
        return x, in_one(rng, x, far)

    return make


def lognormal(rng: Rng, n: int) -> Twice:
    x = np.exp(3.0 + rng.standard_normal((n, 1)))
    return x, 30.0 * np.exp(3.0 + rng.random((n, 1)))


def pareto(rng: Rng, n: int) -> Twice:
    x = 1.0 + rng.pareto(1.5, (n, 1))
    return x, 2_000.0 * (1.0 + rng.random((n, 1)))


def students(rng: Rng, n: int) -> Twice:
    x = rng.standard_t(3, (n, 20))
    return x, in_one(rng, x, 40.0)


def cauchy(rng: Rng, n: int) -> Twice:
    x = rng.standard_cauchy((n, 10))
    return x, x + 20.0 * rng.choice([-1.0, 1.0], (n, 10))


def poisson(d: int, mean: float, odd: float) -> Callable[[Rng, int], Twice]:
    def make(rng: Rng, n: int) -> Twice:
        x = rng.poisson(mean, (n, d)).astype(float)
        strange = x.copy()
        strange[np.arange(n), rng.integers(0, d, n)] += odd
        return x, strange

    return make


def geometric_counts(rng: Rng, n: int) -> Twice:
    x = rng.negative_binomial(0.5, 0.05, (n, 3)).astype(float)
    return x, x + 400.0


def daily(rng: Rng, n: int) -> Twice:
    phase = np.array([0.0, 0.7])
    x = 10.0 * np.sin(2 * np.pi * np.arange(n)[:, None] / DAY + phase) + rng.standard_normal((n, 2))
    return x, in_one(rng, x, 25.0)


def weekly(rng: Rng, n: int) -> Twice:
    at_work = (np.arange(n) // 24 % 7 < 5) & (abs(np.arange(n) % 24 - 12) < 5)
    mean = np.where(at_work, 200.0, 20.0)[:, None] * np.array([1.0, 0.3])
    x = rng.poisson(mean * rng.gamma(20.0, 0.05, (n, 1))).astype(float)
    return x, x + np.array([600.0, 0.0])


def quiet_nights(rng: Rng, n: int) -> Twice:
    day = (np.arange(n) % DAY > DAY // 3)[:, None]
    x = rng.poisson(30.0 * day + 0.02, (n, 2)).astype(float)
    return x, x + 120.0


def counter(rng: Rng, n: int) -> Twice:
    steps = rng.poisson(5.0, n)
    x = (np.cumsum(steps) % 10_000).astype(float)[:, None]
    return x, -x - 3_000.0


def sawtooth(rng: Rng, n: int) -> Twice:
    saw = (np.arange(n) % 400 / 400.0)[:, None]
    x = np.concatenate([saw, 1.0 - saw], 1) + 0.02 * rng.standard_normal((n, 2))
    return x, np.concatenate([saw, saw], 1) + 0.8


def on_off(rng: Rng, n: int) -> Twice:
    on = lasting(rng, n, 2, 400.0)[:, None]
    means = np.where(on, [60.0, 900.0, 8.0], [2.0, 10.0, 0.2])
    x = means * (1.0 + 0.1 * rng.standard_normal((n, 3)))
    return x, np.where(on, [2.0, 900.0, 0.2], [60.0, 10.0, 8.0]) * (1.0 + 0.1 * rng.standard_normal((n, 3)))


def rarely_on(rng: Rng, n: int) -> Twice:
    on = (rng.random(n) < 0.03)[:, None]  # a nightly job: a usual mode of 3 % of the events
    x = np.where(on, [80.0, 500.0], [5.0, 20.0]) * (1.0 + 0.1 * rng.standard_normal((n, 2)))
    return x, np.array([160.0, 20.0]) * (1.0 + 0.1 * rng.standard_normal((n, 2)))


def regimes(rng: Rng, n: int) -> Twice:
    centres = 6.0 * rng.standard_normal((3, 5))
    x = centres[lasting(rng, n, 3, 1_500.0)] + rng.standard_normal((n, 5))
    return x, x + 12.0 * rng.choice([-1.0, 1.0], (n, 5))


def clusters(rng: Rng, n: int) -> Twice:
    centres = 8.0 * rng.standard_normal((5, 4))
    x = centres[rng.choice(5, n, p=[0.5, 0.3, 0.1, 0.07, 0.03])] + rng.standard_normal((n, 4))
    return x, 8.0 * rng.standard_normal((n, 4)) + 20.0 * rng.choice([-1.0, 1.0], (n, 4))


def ring(rng: Rng, n: int) -> Twice:
    turn = rng.uniform(0.0, 2 * np.pi, n)
    x = np.stack([np.cos(turn), np.sin(turn)], 1) + 0.05 * rng.standard_normal((n, 2))
    return x, 0.1 * rng.standard_normal((n, 2))


def taking_turns(rng: Rng, n: int) -> Twice:
    x = np.where(np.arange(n)[:, None] % 2, [1.0, 50.0], [9.0, 10.0]) + rng.standard_normal((n, 2)) * [0.3, 2.0]
    return x, np.array([5.0, 30.0]) + rng.standard_normal((n, 2)) * [0.3, 2.0]


def changing_spread(rng: Rng, n: int) -> Twice:
    spread = np.exp(1.2 * wave(n, 3_000))
    x = spread * rng.standard_normal((n, 4))
    return x, in_one(rng, x, 10.0 * spread)


def ramp(rng: Rng, n: int) -> Twice:
    x = np.arange(n)[:, None] / 2_000.0 * np.array([1.0, -2.0, 0.0]) + rng.standard_normal((n, 3))
    return x, in_one(rng, x, 8.0)


def steep_ramp(rng: Rng, n: int) -> Twice:
    x = np.arange(n)[:, None] / 50.0 + rng.standard_normal((n, 1))
    return x, in_one(rng, x, 15.0)


def mixed_units(rng: Rng, n: int) -> Twice:
    x = rng.standard_normal((n, 4)) * [1e-9, 1.0, 1e9, 1.0] + [1e-9, 0.0, 1e9, 1e6]
    return x, in_one(rng, x, np.array([1e-8, 10.0, 1e10, 10.0]))


def binary(rng: Rng, n: int) -> Twice:
    p = np.repeat([0.5, 0.2, 0.05, 0.01], [10, 20, 10, 10])
    x = (rng.random((n, 50)) < p).astype(float)
    return x, (rng.random((n, 50)) < 1.0 - p).astype(float)


def one_hot(rng: Rng, n: int) -> Twice:
    shares = 1.0 / np.arange(1, 31) ** 1.2
    x = np.concatenate([np.eye(30)[rng.choice(30, n, p=shares / shares.sum())], rng.standard_normal((n, 2))], 1)
    strange = x.copy()
    strange[:, 30:] += 7.0 * rng.choice([-1.0, 1.0], (n, 2))
    return x, strange


def relations(rng: Rng, n: int) -> Twice:
    x = rng.standard_normal((n, 6)) @ rng.standard_normal((6, 50)) + 0.1 * rng.standard_normal((n, 50))
    strange = x.copy()
    strange[:, :10] = rng.permutation(x)[:, :10]
    return x, strange


def repeated(rng: Rng, n: int) -> Twice:
    distinct = rng.standard_normal((n, 3))
    x = distinct[np.sort(rng.integers(0, n // 4, n))]
    return x, in_one(rng, x, 8.0)


def polled(rng: Rng, n: int) -> Twice:
    x = np.repeat(autoregressive(rng, n // 10 + 1, 2, 0.8), 10, axis=0)[:n]  # a gauge read oftener than it moves
    return x, in_one(rng, x, 8.0)


def missing(rng: Rng, n: int) -> Twice:
    x = rng.standard_normal((n, 8)) + rng.standard_normal((n, 1))
    strange = in_one(rng, x, 9.0)
    gone = rng.random((n, 8)) < 0.3
    gone[:, 0] |= lasting(rng, n, 2, 500.0) == 1
    strange[gone & (x == strange)] = np.nan
    x[gone] = np.nan
    return x, strange


def amounts(rng: Rng, n: int) -> Twice:
    paid = rng.random((n, 3)) < [0.05, 0.02, 0.5]
    x = np.where(paid, np.exp(rng.standard_normal((n, 3))), 0.0)
    return x, np.where(rng.random((n, 3)) < 0.5, 200.0, x) + np.array([0.0, 0.0, 100.0])


def rounded(rng: Rng, n: int) -> Twice:
    x = np.round(20.0 + 0.8 * autoregressive(rng, n, 3, 0.98))
    return x, in_one(rng, x, 8.0)


def persistent(rng: Rng, n: int) -> Twice:
    x = autoregressive(rng, n, 5, 0.995)
    return x, in_one(rng, x, 8.0)


def walk(rng: Rng, n: int) -> Twice:
    x = np.cumsum(rng.standard_normal((n, 2)), axis=0)
    return x, x + 60.0 * rng.choice([-1.0, 1.0], (n, 2))


def ratios(rng: Rng, n: int) -> Twice:
    requests = rng.gamma(2.0, 50.0, n)
    x = np.stack([requests, requests * rng.beta(2.0, 50.0, n), rng.beta(0.5, 20.0, n)], 1)
    return x, x * [1.0, 0.0, 1.0] + np.array([0.0, 0.7, 0.0]) * requests[:, None]


def square_wave(rng: Rng, n: int) -> Twice:
    on = (np.arange(n) % 200 < 100)[:, None]
    x = np.where(on, 100.0, 20.0) + 2.0 * rng.standard_normal((n, 1))
    return x, x + 150.0


def two_modes(rng: Rng, n: int) -> Twice:
    x = np.where(rng.random((n, 1)) < 0.8, 0.0, 20.0) + rng.standard_normal((n, 1))
    return x, 35.0 + rng.standard_normal((n, 1))


def early_jump(rng: Rng, n: int) -> Twice:
    x = rng.standard_normal((n, 3)) + 5.0 * (np.arange(n)[:, None] > 400)  # moved house while it was young
    return x, in_one(rng, x, 15.0)


def sales(rng: Rng, n: int) -> Twice:
    sold = rng.random((n, 4)) < [0.4, 0.15, 0.03, 0.6]
    x = np.where(sold, rng.geometric(0.4, (n, 4)), 0).astype(float)
    x[:2] = [[1.0], [3.0]]  # a shop is first seen when it sells
    strange = x.copy()
    strange[np.arange(n), rng.integers(0, 4, n)] += 25.0
    return x, strange


def twins(rng: Rng, n: int) -> Twice:
    """Two sensors of one temperature, of which one is off by half of what the temperature varies."""
    x = 20.0 + 5.0 * autoregressive(rng, n, 1, 0.9) + 0.3 * rng.standard_normal((n, 2))
    return x, in_one(rng, x, 2.5)


def compared(rng: Rng, n: int) -> Twice:
    """The same, and their difference."""
    usual, strange = (np.column_stack([x, x[:, 0] - x[:, 1]]) for x in twins(rng, n))
    return usual, strange


def of_any_unit(d: int, spread: Callable[[np.ndarray], np.ndarray]) -> Callable[[Rng, int], Twice]:
    """A slice whose features have a scale of their own each, and a relation."""

    def make(rng: Rng, n: int) -> Twice:
        x = spread(0.8 * rng.standard_normal((n, 1)) + 0.6 * rng.standard_normal((n, d))) + rng.normal(0.0, 5.0, d)
        unit = 10.0 ** rng.uniform(-3.0, 6.0, d)
        return unit * x, unit * in_one(rng, x, 8.0 * x.std(axis=0))

    return make


POINTS: dict[str, Callable[[Rng, int], Twice]] = {
    "normal, d = 1": normal(1, 6.0),
    "normal, d = 10": normal(10, 7.0),
    "normal, d = 200": normal(200, 15.0),
    "log-normal latencies": lognormal,
    "Pareto latencies": pareto,
    "Student t(3), d = 20": students,
    "Cauchy, d = 10": cauchy,
    "Poisson .1": poisson(1, 0.1, 5.0),
    "Poisson .1, d = 5": poisson(5, 0.1, 5.0),
    "Poisson 3, d = 5": poisson(5, 3.0, 15.0),
    "over-dispersed counts": geometric_counts,
    "daily wave": daily,
    "weekly work hours": weekly,
    "quiet nights": quiet_nights,
    "counter that resets": counter,
    "sawtooth": sawtooth,
    "on and off": on_off,
    "a rare usual mode": rarely_on,
    "regimes": regimes,
    "clusters": clusters,
    "ring": ring,
    "taking turns": taking_turns,
    "changing spread": changing_spread,
    "ramp": ramp,
    "steep ramp": steep_ramp,
    "mixed units": mixed_units,
    "binary features": binary,
    "one-hot": one_hot,
    "relations, d = 50": relations,
    "repeated rows": repeated,
    "polled gauge": polled,
    "missing values": missing,
    "zeros and amounts": amounts,
    "rounded": rounded,
    "persistent": persistent,
    "walk": walk,
    "ratios": ratios,
    "Poisson 1": poisson(1, 1.0, 9.0),
    "square wave": square_wave,
    "two modes": two_modes,
    "early jump": early_jump,
    "sales, mostly none": sales,
    "two sensors": twins,
    "two sensors compared": compared,
}


SLICES: dict[str, Callable[[Rng, int], Twice]] = {
    "normal, d = 1": of_any_unit(1, lambda x: x),
    "normal, d = 3": of_any_unit(3, lambda x: x),
    "log-normal, d = 3": of_any_unit(3, lambda x: np.exp(0.6 * x)),
}


REGRESSIONS: dict[str, Callable[[Rng, tuple[int, int]], np.ndarray]] = {  # the laws of four features
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "gamma": lambda rng, shape: rng.gamma(5.0, 1.0, shape),
    "exponential": lambda rng, shape: rng.standard_exponential(shape),
    "log-normal": lambda rng, shape: np.exp(0.7 * rng.standard_normal(shape)),
    "Student t(3)": lambda rng, shape: rng.standard_t(3, shape),
    "counts": lambda rng, shape: rng.poisson([0.3, 1.0, 3.0, 30.0], shape).astype(float),
    "mostly zero": lambda rng, shape: np.where(rng.random(shape) < 0.1, rng.gamma(2.0, 3.0, shape), 0.0),
}


SERIES = {
    name: POINTS[name]
    for name in (
        "normal, d = 1",
        "log-normal latencies",
        "Pareto latencies",
        "Poisson .1",
        "over-dispersed counts",
        "daily wave",
        "weekly work hours",
        "quiet nights",
        "counter that resets",
        "sawtooth",
        "on and off",
        "changing spread",
        "steep ramp",
        "polled gauge",
        "rounded",
        "persistent",
        "walk",
    )
}
