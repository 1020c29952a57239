"""What is left of a value once its latest differences have been heard, and is that further off than it should be?

The forecast is the last value and what the three latest differences add to it, with weights learned by normalised
least mean squares. With d these differences and e the residual, both clipped at ten 90 % quantiles q90 of |e|,

    w <- (1 - .0003) w + .03 e d / (q90^2 + |d|^2).

**How far off** |e| is follows from a Pareto tail through its 90 and 99 % quantiles: in decades of rarity,

    2 + log10(|e| / q99) / log10(q99 / q90).

It is a law, not a memory, so an anomaly that comes back every week stays one. The share of the past residuals that were
as large may say less, and then says so: k of n give at most `log10(n / (k + 1)) + .5` decades.

**Is a forecast worth anything?** Where differences over 64 values are three times as large as the residuals, in the
median and in the 90 % quantile: 7 to 11 times in series of operations, 2.3 where nothing can be forecast.

Quantiles come from cumulative counts: row i counts the values of bin i and above, four bins an octave. So an event adds
one to some rows, and a quantile is a count of rows.

Source: normalised least mean squares with a leak as in Haykin, "Adaptive filter theory", 2002; clip, quantiles, tail
and gate are ours.
"""

import math
from typing import NamedTuple

import numpy as np

from onlineguard.core.arrays import barrier, namespace
from onlineguard.core.bits import quarter
from onlineguard.core.protocols import Array
from onlineguard.core.shapes import Bool, Float32, Int32

LAGS = 3  # differences
RATE = 0.03
LEAK = 0.0003
CLIP = 10.0  # 90 % quantiles
BINS = 96  # four an octave
FULL = 20_000  # values after which all counts are halved
PLACING = 32  # residuals that find the unit of the bins, before any is counted
REACH = 16.0  # factor by which one of these moves it, at most
LEAST_STEP = 0.17  # octaves between q90 and q99, at least: .05 decades
GRACE = 0.5  # decades by which the tail may exceed the count
WORTH = 6.6  # bins between differences and residuals where a forecast is worth something: a factor of 3.2
MOST = 12.0  # decades
TINY = 2.0**-126
LN2, LN10 = np.float32(math.log(2.0)), np.float32(math.log(10.0))


class Forecast(NamedTuple):
    """What was learned of every column."""

    weights: Float32[Array, "d lags"]
    unit: Float32[Array, " d"]  # of the bins: the lower edge of the middle one
    placed: Int32[Array, " d"]  # residuals that found it, up to PLACING
    residuals: Int32[Array, "d bins"]  # how many lay in this bin and above
    changes: Int32[Array, "d bins"]  # the same of the differences over 64 values

    @classmethod
    def blank(cls, width: int) -> "Forecast":
        """Before any value, in NumPy."""
        none = np.zeros((width, BINS), np.int32)
        return cls(np.zeros((width, LAGS), np.float32), np.ones(width, np.float32), none[:, 0], none, none)


class Residual(NamedTuple):
    """A value beside its forecast."""

    differences: Float32[Array, "d lags"]  # clipped
    value: Float32[Array, " d"]  # less the forecast; NaN where there is none
    rarity: Float32[Array, " d"]  # decades; -MOST where nothing is known
    worth: Bool[Array, " d"]  # a forecast is worth something in this column
    median: Float32[Array, " d"]  # of the absolute residuals
    limit: Float32[Array, " d"]  # where differences and residuals are clipped


def residual(forecast: Forecast, latest: Float32[Array, "d latest"], x: Float32[Array, " d"]) -> Residual:
    """What x is beside the forecast from the latest values, newest first."""
    xp = namespace(x)
    n, changes = forecast.residuals[:, 0], forecast.changes[:, 0]
    median, high, extreme = (_quantile(forecast.residuals, share) for share in (0.5, 0.1, 0.01))
    change_median, change_high = (_quantile(forecast.changes, share) for share in (0.5, 0.1))
    worth = (changes > 0) & (change_median - median > WORTH) & (change_high - high > WORTH)

    limit = xp.where(n > 0, CLIP * forecast.unit * _ratio(high), math.inf)
    steps = latest[:, :LAGS] - latest[:, 1 : LAGS + 1]
    differences = xp.minimum(xp.maximum(steps, -limit[:, None]), limit[:, None])
    value = x - (latest[:, 0] + xp.sum(forecast.weights * differences, 1))
    size = abs(value)
    ahead = size / forecast.unit
    bin_ = _bin(ahead)
    as_large = xp.max(xp.where(_bins() >= bin_[:, None], forecast.residuals, 0), 1)
    step = xp.maximum((extreme - high) / 4, LEAST_STEP)
    octaves = xp.log(xp.maximum(ahead, TINY)) / LN2 - (extreme - BINS // 2) / 4
    counted = xp.log(n.astype(np.float32) / (as_large + 1).astype(np.float32)) / LN10 + GRACE
    rarity = xp.where(n > 0, xp.minimum(2.0 + octaves / step, counted), -MOST)
    return Residual(*barrier(differences, value, rarity, worth, forecast.unit * _ratio(median), limit))


def corrected(
    forecast: Forecast,
    seen: Residual,
    latest: Float32[Array, "d latest"],
    x: Float32[Array, " d"],
    present: Bool[Array, " d"],
) -> Forecast:
    """The forecast after x, in those columns where it is present."""
    xp = namespace(x)
    size = abs(seen.value)
    known = present & (size < math.inf)
    unplaced = known & (forecast.placed < PLACING) & (size > TINY)
    nearer = xp.minimum(xp.maximum(size / forecast.unit, 1.0 / REACH), REACH) * forecast.unit
    unit = xp.where(unplaced, xp.where(forecast.placed == 0, size, nearer), forecast.unit)

    counted = known & (forecast.placed == PLACING)
    residuals = _counted(forecast.residuals, _bin(size / forecast.unit), counted)
    change = abs(x - latest[:, -1])
    changes = _counted(forecast.changes, _bin(change / forecast.unit), counted & (change < math.inf))

    e = xp.minimum(xp.maximum(seen.value, -seen.limit), seen.limit) / seen.limit
    d = seen.differences / seen.limit[:, None]
    step = RATE * e / (1.0 / CLIP**2 + xp.sum(d * d, 1))
    weights = (1.0 - LEAK) * forecast.weights + step[:, None] * d
    weights = xp.where((known & (seen.limit > 0) & (seen.limit < math.inf))[:, None], weights, forecast.weights)
    return Forecast(weights, unit, forecast.placed + unplaced, residuals, changes)


def _bins() -> Int32[np.ndarray, "1 bins"]:
    return np.arange(BINS, dtype=np.int32)[None]


def _bin(ratio: Float32[Array, " d"]) -> Int32[Array, " d"]:
    """The bin of a number of units; the outer ones also take what lies beyond."""
    xp = namespace(ratio)
    ratio = xp.minimum(xp.where(ratio > TINY, ratio, TINY), 2.0**100)
    return xp.minimum(xp.maximum(quarter(ratio) + BINS // 2, 0), BINS - 1)


def _ratio(place: Float32[Array, " d"]) -> Float32[Array, " d"]:
    """The number of units at a place among the bins."""
    return namespace(place).exp((place - BINS // 2) * (LN2 / 4))


def _counted(
    counts: Int32[Array, "d bins"], bin_: Int32[Array, " d"], present: Bool[Array, " d"]
) -> Int32[Array, "d bins"]:
    """The cumulative counts after one more in a bin."""
    xp = namespace(bin_)
    counts = counts + (_bins() <= xp.where(present, bin_, -1)[:, None])
    return counts >> (counts[:, :1] >= FULL)


def _quantile(counts: Int32[Array, "d bins"], share: float) -> Float32[Array, " d"]:
    """Where in the bins, counted from the first one's lower edge, the value lies that a share of all exceeds."""
    xp = namespace(counts)
    wanted = np.float32(share) * counts[:, 0].astype(np.float32)
    reached = counts >= xp.ceil(wanted).astype(np.int32)[:, None]
    bins = xp.sum(reached.astype(np.int32), 1).astype(np.float32)
    more = xp.min(xp.where(reached, counts, np.int32(2**30)), 1).astype(np.float32)
    fewer = xp.max(xp.where(reached, 0, counts), 1).astype(np.float32)
    return bins - (wanted - fewer) / xp.maximum(more - fewer, 1.0)
