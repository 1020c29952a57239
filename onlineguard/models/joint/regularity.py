"""Too regular is odd too: events that lie nearer to the last few than events of the slice do.

D is the distance from the nearest of the last `LAST` events. An event's regularity g is -ln of the share of events that
are at least as near to the last ones, 1 on average, read from the running median and 5 % quantile of ln D:

    g = ln 2 + ln 10 (median - ln D) / (median - quantile).

A script that replays one request has a large g for as long as it runs. A run is too regular where the running mean of g
is far above 1, and above what the slice has shown before: repeats are usual in many streams.
"""

import math
from typing import NamedTuple

import numpy as np

from onlineguard.core.arrays import larger, namespace, put, smaller, where
from onlineguard.core.protocols import Array
from onlineguard.core.shapes import Bool, Float32, Int32
from onlineguard.models.joint.neighbours import distances

LAST = 8
NEAREST = 1e-3  # distances below this, in scales, are equal: exact repeats
LEAST_UNIT = 0.05  # of median - quantile, so that streams of repeats divide by something
MOST = 10.0  # g ends here, where a share of e^-10 means nothing any more
ODD = 3.0  # g of an event of the run: one usual event in twenty has it as well
RUN = 1 / 16  # rate of the mean of g
LEAST_MEAN = 2.0  # g is exponential with mean 1 where events are usual, so its mean exceeds this hardly ever,
BEYOND = 1.5  # and this many times
LEVEL = 0.005  # what it exceeds in this share of the events
RATE = 0.0005  # of the quantiles: what lasts for some hundred events must not become their measure
EARLY = (20.0, 200.0)  # early rate 20 / (age + 200)


class Regularity(NamedTuple):
    """The last events, and what is usual of the distances from them."""

    last: Float32[Array, "last d"]  # their residuals
    turn: Int32[Array, ""]  # the row that comes next
    median: Float32[Array, ""]  # of ln D,
    low: Float32[Array, ""]  # and what 5 % fall below
    mean: Float32[Array, ""]  # running mean of g
    high: Float32[Array, ""]  # what the mean exceeds in LEVEL of the events

    @classmethod
    def blank(cls, width: int) -> "Regularity":
        """Before any event, in NumPy."""
        return cls(np.zeros((LAST, width), np.float32), np.int32(0), *map(np.float32, (0.0, -1.0, 1.0, BEYOND)))


class Regular(NamedTuple):
    """How regular an event is."""

    log_distance: Float32[Array, ""]  # ln D
    mean: Float32[Array, ""]  # the running mean of g, with it
    odd: Bool[Array, ""]  # it is one of a run that is too regular


def regular(state: Regularity, y: Float32[Array, " d"]) -> Regular:
    """How regular the event with residuals y is."""
    log_distance = namespace(y).log(distances(state.last, y).min(-1) + NEAREST)
    unit = larger(state.median - state.low, LEAST_UNIT)
    g = math.log(2.0) + math.log(10.0) * (state.median - log_distance) / unit
    g = larger(smaller(g, MOST), 0.0)
    mean = state.mean + RUN * (g - state.mean)
    return Regular(log_distance, mean, (g >= ODD) & (mean > larger(LEAST_MEAN, BEYOND * state.high)))


def learned_regularity(
    state: Regularity,
    y: Float32[Array, " d"],
    event: Regular,
    age: Float32[Array, ""],
    learns: Bool[Array, ""],
    usual: Bool[Array, ""],
) -> Regularity:
    """The state after an event; of an odd one only the event itself and the mean are learned."""
    rate = where(usual, larger(EARLY[0] / (age + EARLY[1]), RATE), 0.0)
    place = where(learns, state.turn, -1)
    median = state.median + rate * (where(event.log_distance > state.median, 1.0, 0.0) - 0.5)
    low = state.low + rate * (where(event.log_distance > state.low, 1.0, 0.0) - 0.95)
    high = state.high * (1.0 + rate * (where(event.mean > state.high, 1.0, 0.0) - LEVEL))
    return Regularity(
        put(state.last, place, y),
        where(learns, where(state.turn + 1 >= LAST, 0, state.turn + 1), state.turn),
        median,
        smaller(low, median),
        where(learns, event.mean, state.mean),
        larger(high, 1.0),
    )
