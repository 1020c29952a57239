"""Series for the benchmarks of `Series`: two real sets, and synthetic ones with and without anomalies.

The synthetic ones are what monitored series commonly are: plateaus of a day, spikes in noise, hourly prices, weeks with
holidays, bursts of counts, temperatures that wander, speeds with rush hours, latencies, loads, beats, stuck gauges.
"""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from benchmarks.streams import cloudwatch

KPI = Path("streams", "kpi.csv.gz")
Rng = np.random.Generator


class Labelled(NamedTuple):
    """One series."""

    name: str
    values: np.ndarray  # (n,) float64
    labels: np.ndarray  # (n,) bool


def cloudwatch_series(folder: Path, most: int | None = None) -> list[Labelled]:
    """17 server metrics with labelled windows."""
    stream = cloudwatch(folder, most)
    names = sorted(set(stream.metric))
    parts = zip(names, stream.split(stream.value), stream.split(stream.label), strict=True)
    return [Labelled(*part) for part in parts]


def kpi_series(folder: Path, most: int | None = None) -> list[Labelled]:
    """Two operations series with labelled points; the first `most` values of each."""
    with gzip.open(folder / KPI) as file:
        frame = pl.read_csv(file.read())
    return [
        Labelled(str(name), part["value"].to_numpy().astype(float)[:most], (part["label"] == 1).to_numpy()[:most])
        for (name,), part in frame.group_by("series", maintain_order=True)
    ]


def autoregressive(rng: Rng, n: int, rho: float) -> np.ndarray:
    """Of unit variance."""
    x = np.sqrt(1.0 - rho * rho) * rng.standard_normal(n)
    for t in range(1, n):
        x[t] += rho * x[t - 1]
    return x


def wave(n: int, period: int) -> np.ndarray:
    return np.sin(2 * np.pi * np.arange(n) / period)


QUIET: dict[str, Callable[[Rng, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "uniform": lambda rng, n: rng.uniform(18, 22, n),
    "exponential": lambda rng, n: rng.standard_exponential(n),
    "log-normal": lambda rng, n: rng.lognormal(size=n),
    "Cauchy": lambda rng, n: rng.standard_cauchy(n),
    "counts": lambda rng, n: rng.poisson(5, n).astype(float),
    "mostly zeros": lambda rng, n: np.where(rng.random(n) < 0.05, rng.lognormal(size=n), 0.0),
    "autoregressive": lambda rng, n: autoregressive(rng, n, 0.9),
    "changing spread": lambda rng, n: rng.standard_normal(n) * np.exp(autoregressive(rng, n, 0.98)),
    "daily wave": lambda rng, n: wave(n, 288) + 0.1 * rng.standard_normal(n),
    "daily plateau": lambda rng, n: np.where(np.arange(n) % 288 < 108, 20, 80) + rng.uniform(-3, 3, n),
    "square wave": lambda rng, n: np.where(np.arange(n) % 288 < 108, 20.0, 80.0),
    "constant": lambda rng, n: np.full(n, 45.0),
    "walk": lambda rng, n: rng.standard_normal(n).cumsum(),
    "walk with heavy steps": lambda rng, n: rng.standard_t(2.5, n).cumsum(),
    "sawtooth": lambda rng, n: np.arange(n) % 250 / 250 + 0.03 * rng.standard_normal(n),
    "counter": lambda rng, n: rng.poisson(4, n).cumsum() % 2_400.0,
    "on and off": lambda rng, n: (5 + 40 * ((rng.random(n) < 1 / 200).cumsum() % 2)) * rng.normal(1, 0.05, n),
}


def quiet(seeds: int, n: int) -> list[Labelled]:
    """Series without anomalies, named LAW/SEED."""
    return [
        Labelled(f"{law}/{seed}", make(np.random.default_rng((seed, i)), n), np.zeros(n, bool))
        for i, (law, make) in enumerate(QUIET.items())
        for seed in range(seeds)
    ]


def eventful(seeds: int) -> list[Labelled]:
    """Series with labelled windows around what is odd in them, named FAMILY/SEED."""
    return [
        Labelled(f"{family}/{seed}", *make(np.random.default_rng((seed, i, 1))))
        for i, (family, make) in enumerate(EVENTFUL.items())
        for seed in range(seeds)
    ]


def _windows(n: int, places: np.ndarray, width: int) -> np.ndarray:
    labels = np.zeros(n, bool)
    for place in places.tolist():
        labels[max(0, place - width // 2) : place + width // 2 + 1] = True
    return labels


def _places(rng: Rng, first: int, last: int, apart: int, number: int) -> np.ndarray:
    return np.sort(rng.choice(np.arange(first, last, apart), number, replace=False))


def _plateau(change: float) -> Callable[[Rng], tuple[np.ndarray, np.ndarray]]:
    """A daily plateau, which on one day is `change` times as high."""

    def make(rng: Rng) -> tuple[np.ndarray, np.ndarray]:
        n, day = 4_032, 288
        high, low, bad = rng.uniform(50, 90), rng.uniform(15, 30), int(rng.integers(9, 12))
        hour = np.arange(n) % day
        on = (hour > 115) & (hour < 223)
        x = np.where(on, high, low) + rng.uniform(-1, 1, n) * rng.choice([1, 3, 8])
        x[on & (np.arange(n) // day == bad)] += (change - 1.0) * (high - low)
        return x, _windows(n, np.array([bad * day + 250]), 403)

    return make


def _spikes(rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    n, at = 4_032, int(rng.integers(2_000, 3_500))
    x = rng.gamma(2.0, 0.3, n) + np.where(rng.random(n) < 0.05, rng.gamma(3.0, 0.5, n), 0.0)
    x[at : at + 8] += rng.uniform(3, 5) * rng.uniform(0.5, 1.0, 8)
    return x, _windows(n, np.array([at]), 403)


def _prices(rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    n = 1_600
    x = np.exp(0.3 * wave(n, 24) + 0.25 * rng.standard_normal(n))
    places = _places(rng, 400, n - 100, 120, 2)
    for at in places:
        x[at : at + rng.integers(1, 4)] *= rng.uniform(3, 6)
    return x, _windows(n, places, 82)


def _weeks(rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    n, day = 10_320, 48
    hour, week = np.arange(n) % day / 2, np.array([0.9, 1.0, 1.0, 1.05, 1.1, 1.15, 0.95])
    profile = 0.35 + 0.65 * np.clip(np.sin(np.pi * (hour - 5) / 20), 0, 1) ** 0.6
    x = 2e4 * week[np.arange(n) // day % 7] * profile * (1 + 0.02 * rng.standard_normal(n))
    days = _places(rng, 80, 205, 25, 3)
    for holiday in days:
        x[holiday * day : (holiday + 1) * day] *= rng.choice([0.45, 0.6, 1.35])
    return x, _windows(n, days * day + 24, 207)


def _counts(rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    n = 15_900
    mean = rng.uniform(3, 40) * (1 + 0.6 * wave(n, 288)) * np.exp(0.3 * autoregressive(rng, n, 0.98))
    x = rng.poisson(mean * rng.gamma(2.0, 0.5, n)).astype(float)
    places = _places(rng, 3_000, n - 600, 1_500, 3)
    for at in places:
        length = int(rng.integers(6, 24))
        x[at : at + length] += rng.poisson(mean.mean() * rng.uniform(8, 25) * np.exp(-np.arange(length) / 6))
    return x, _windows(n, places, 399)


def _wandering(rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    n = int(rng.integers(7_000, 22_000))
    x = 80 + 8 * autoregressive(rng, n, 0.999) + 0.3 * rng.standard_normal(n) + 2 * wave(n, 288)
    places = _places(rng, n // 4, n - 700, 1_100, 2)
    for at in places:
        x[at : at + 60] -= rng.uniform(20, 45) * np.append(np.linspace(0, 1, 12), np.linspace(1, 0, 48))
    return x, _windows(n, places + 10, n // 40)


def _speeds(rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    n = 2_300
    x = 65 + 4 * rng.standard_normal(n) - 6 * np.clip(autoregressive(rng, n, 0.9), 0, None)
    x[abs(np.arange(n) % 144 - 104) < 7] -= rng.uniform(10, 25)
    places = _places(rng, 500, n - 150, 300, 2)
    for at in places:
        x[at : at + 12] -= rng.uniform(30, 45)
    return np.round(np.clip(x, 3, None)), _windows(n, places, 115)


def _latencies(rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    n = 4_032
    x = 45 + 2 * rng.standard_normal(n) + np.where(rng.random(n) < 0.01, rng.gamma(2, 3, n), 0.0)
    places = np.array([rng.integers(1_200, 1_800), rng.integers(3_000, 3_700)])
    x[places[0] : places[0] + 5] += rng.uniform(15, 40)
    x[places[1] : places[1] + 40] += rng.uniform(8, 20)
    return x, _windows(n, places, 134)


def _loads(rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    n, at = 18_000, int(rng.integers(12_000, 16_000))
    x = 35 + 15 * wave(n, 288) + 4 * rng.standard_normal(n) - 8.0 * (np.arange(n) // 288 % 7 > 4)
    x[at : at + 1_400] = np.maximum(x[at : at + 1_400], 60 + 3 * rng.standard_normal(1_400)) + 15
    return np.clip(x, 0, 100), _windows(n, np.array([at + 600]), 1_499)


def _beats(rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Beats of which one is missing."""
    n, every = 6_000, int(rng.integers(60, 120))
    x = 0.01 * rng.standard_normal(n)
    missing = int(rng.integers(35, 45))
    for i, at in enumerate(range(0, n, every)):
        if i != missing:
            beat = 0.5 * (np.arange(n) - at - rng.integers(-3, 4)) / (0.1 * every)
            x += rng.uniform(0.9, 1.1) * np.exp(-(beat**2))
    return x, _windows(n, np.array([missing * every + every // 2]), 2 * every)


def _stuck(rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """A gauge that is stuck for a while."""
    n, at, length = 8_000, int(rng.integers(4_000, 7_000)), int(rng.integers(50, 150))
    x = 20 + 3 * autoregressive(rng, n, 0.8) + 4 * wave(n, 720)
    x[at : at + length] = x[at]
    return x, _windows(n, np.array([at + length // 2]), length + 60)


def _flattened(rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """A wave that becomes flat where it crosses its mean, and comes back there."""
    n, period = 6_000, int(rng.choice([60, 96, 144]))
    at = period * int(rng.integers(4_000 // period, 5_000 // period))
    x = wave(n, period)
    x[at : at + period] = 0.0
    return x + 0.05 * rng.standard_normal(n), _windows(n, np.array([at + period // 2]), period + 60)


EVENTFUL: dict[str, Callable[[Rng], tuple[np.ndarray, np.ndarray]]] = {
    "plateau, higher": _plateau(1.8),
    "plateau, lower": _plateau(0.4),
    "plateau, missing": _plateau(0.0),
    "spikes": _spikes,
    "prices": _prices,
    "weeks": _weeks,
    "counts": _counts,
    "wandering": _wandering,
    "speeds": _speeds,
    "latencies": _latencies,
    "loads": _loads,
    "missing beat": _beats,
    "stuck": _stuck,
    "flat wave": _flattened,
}
