"""Running location and scale of every feature, each standardised by itself, ruled by no outlier.

Huber's joint estimation ("Proposal 2") as stochastic approximation. With z = (x - m) / s and u = z clipped to [-K, K],

    m <- m + rate s u            s <- s (1 + rate (u^2 - B)),            B = E min(Z^2, K^2), Z standard normal.

The clip K s is adaptive: as long as the running scale says, at 1e-6 as at 1e12.

Source: Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics, 1964. The floors and the
start are ours.
"""

import math
from typing import NamedTuple

import numpy as np

from onlineguard.core.arrays import namespace, where
from onlineguard.core.protocols import Array
from onlineguard.core.shapes import Bool, Float, Float32, Float64

# `docs/detector-constants.md` has the reason for each of these, and what changes when it is halved or doubled.
K = 2.5  # where a standardised residual is clipped; 99 % of a normal law lies within
B = 0.9775598  # E min(Z^2, K^2) for a standard normal Z: makes the scale of a normal law its standard deviation
FLOOR_SHARE = 1e-3  # the scale falls fast to this share of its recent peak, and slowly from there
RESOLUTION = 2.0**-18  # least scale relative to the location: what float32 resolves, with room
TINY = 1e-30  # least scale of all, so that a stream of zeros can be divided by it
FAR = 1e15  # standardised residuals end here, so that their squares add up in float32
FLOAT64_NOISE = 2.0**-50  # relative difference that is rounding, not news: four times the spacing of float64


class Memory(NamedTuple):
    """What is usual of every feature, in the feature's unit."""

    location: Float32[Array, " d"]  # NaN until the first value
    scale: Float32[Array, " d"]  # NaN until the second value
    floor: Float32[Array, " d"]  # what the scale may not fall under

    @classmethod
    def blank(cls, width: int) -> "Memory":
        """Before any value, in NumPy."""
        unknown = np.full(width, math.nan, np.float32)
        return cls(unknown, unknown, np.zeros_like(unknown))

    def moved(self, by: Float64[np.ndarray, "*slices d"]) -> "Memory":
        """The same memory, or many stacked, when values are counted from `by` more; NumPy.

        A scale held up only by the resolution of float32 at the old location falls to that at the new one.
        """
        location = counted_from(self.location, by)
        here, there = (RESOLUTION * abs(x) + TINY for x in (self.location, location))
        by_resolution = (self.floor > 0.0) & (self.floor <= 2.0 * here) & (location != self.location)
        scale = np.where(by_resolution & (self.scale <= 2.0 * here), there, self.scale)
        floor = np.where(by_resolution, np.fmax(FLOOR_SHARE * scale, there), self.floor)
        return Memory(location, scale.astype(location.dtype), floor.astype(location.dtype))


def standardised(
    memory: Memory, x: Float32[Array, " d"], present: Bool[Array, " d"]
) -> tuple[Float32[Array, " d"], Bool[Array, " d"]]:
    """Residuals in scales, 0 where x is missing or the memory empty; and which ones are neither."""
    xp = namespace(x)
    known = present & (memory.scale > 0)
    z = (x - memory.location) / memory.scale
    return xp.where(known, xp.minimum(xp.maximum(z, -FAR), FAR), 0.0), known


def remembered(
    memory: Memory,
    x: Float32[Array, " d"],
    present: Bool[Array, " d"],
    z: Float32[Array, " d"],
    rate: Float32[Array, ""],
    floor_decay: Float32[Array, ""],
) -> Memory:
    """The memory after x, whose standardised residuals are z."""
    xp = namespace(x)
    u = xp.minimum(xp.maximum(z, -K), K)
    location = memory.location + rate * u * memory.scale
    scale = memory.scale * (1.0 + rate * (u * u - B))
    first = xp.isnan(memory.location)
    least = RESOLUTION * abs(memory.location) + TINY
    unscaled = ~first & ~(memory.scale > least)  # a constant stream so far: the first other value gives the scale
    location = xp.where(first, x, xp.where(unscaled, memory.location, location))
    scale = xp.where(unscaled, abs(x - memory.location), scale)
    floor = xp.fmax(xp.fmax(memory.floor * floor_decay, FLOOR_SHARE * scale), least)
    return Memory(
        xp.where(present, location, memory.location),
        xp.where(present, xp.maximum(scale, floor), memory.scale),
        xp.where(present, floor, memory.floor),
    )


def start_memories(
    slow: Memory, fast: Memory, x: Float32[Array, " d"], present: Bool[Array, " d"], last: Bool[Array, ""]
) -> tuple[Memory, Memory]:
    """Two memories after one of the first events; `last` says that it is the last of them.

    The slow one keeps the two closest of consecutive values, as location and scale, so that absurd ones among the
    first few have no say. The fast one keeps the latest value until it starts from the slow one as well.
    """
    xp = namespace(x)
    step = abs(x - fast.location)
    closer = (step > 0) & (step < math.inf) & ~(step >= slow.scale)
    location = xp.where(closer | xp.isnan(fast.location), x, slow.location)
    scale = xp.where(present, xp.where(closer, step, slow.scale), slow.scale)
    return (
        Memory(xp.where(present, location, slow.location), scale, slow.floor),
        Memory(xp.where(present, where(last, location, x), fast.location), scale, slow.floor),
    )


def counted_from(
    values: Float[np.ndarray, "*lead columns"], by: Float64[np.ndarray, "*#lead width"]
) -> Float[np.ndarray, "*lead columns"]:
    """Values, in blocks of `width` columns, when they are counted from `by` more, in their own type.

    NumPy. The difference is taken in float64, and what is rounding of float64 counts as none.
    """
    wide = np.tile(by, values.shape[-1] // by.shape[-1])
    return np.where(wide == 0.0, values, difference(values.astype(np.float64), wide).astype(values.dtype))


def difference(
    values: Float64[np.ndarray, "*shape"], origins: Float64[np.ndarray, "*#shape"]
) -> Float64[np.ndarray, "*shape"]:
    """Values less their origins, with what is rounding of float64 taken for none."""
    relative = values - origins
    np.copyto(relative, 0.0, where=abs(relative) <= FLOAT64_NOISE * abs(origins))
    return relative
