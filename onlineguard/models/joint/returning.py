"""What comes back belongs to the stream: odd runs that end and come again.

A server that is on for a while and then off, a counter that starts again, a machine with three programs: each regime is
shorter than patience, so none would ever count as usual, and a slice that knows one of them would flag the others for
good. The share of the events in odd runs that are *over* is remembered. Where it exceeds `SHARE`, odd runs are the
rule, and the slice is *open*: it learns odd runs as usual ones, slowly, and its scale is as wide as its fast memory
goes.

A single burst or new regime opens nothing, since one run counts `ONE` at most. Neither do runs that are odd because
they are too regular: a script may come as often as it likes.
"""

from typing import NamedTuple

import numpy as np

from onlineguard.core.arrays import namespace, smaller, to_float, where
from onlineguard.core.protocols import Array
from onlineguard.core.shapes import Bool, Float, Float32, Int32
from onlineguard.core.spread import Memory

SHARE = 0.15  # of the events, in odd runs that are over: opens the slice,
BACK = 0.1  # and closes it below this part of it
ONE = 0.12  # what one run counts at most; .08 takes a run more, and regimes of 1,500 events twice as long to learn
MEMORY = 4.0  # of the share, in units of patience
WIDE = 0.5  # scales of an open slice are at least this part of the way between the two memories; .33 finds less
REPLAY_RATE = 0.02  # memory of how much of a run was odd for its regularity alone
REPLAYED = 0.02  # what is left of it, once the run is over, if that was a seventh of a run


class Returning(NamedTuple):
    """How much of the stream was odd for a while, and then no more."""

    share: Float32[Array, ""]  # running share of the events in odd runs that are over
    replayed: Float32[Array, ""]  # running share of a run's events that were odd for their regularity alone
    open: Bool[Array, ""]  # odd runs are learned as usual ones

    @classmethod
    def blank(cls) -> "Returning":
        """Before any event, in NumPy."""
        return cls(np.float32(0.0), np.float32(0.0), np.bool_(False))


def returned(
    state: Returning,
    lasted: Int32[Array, ""],
    over: Bool[Array, ""],
    replays: Bool[Array, ""],
    seen: Float32[Array, ""],
    usable: Bool[Array, ""],
    patience: Float[Array, ""],
) -> Returning:
    """The state after an event; `over` if no run lasts, or it became usual, and `lasted` is its length until then."""
    rate = where(usable, 1.0 / smaller(seen + 1.0, MEMORY * patience), 0.0)
    counts = usable & over & (state.replayed <= REPLAYED)
    share = (1.0 - rate) * state.share + where(counts, smaller(rate * to_float(lasted), ONE), 0.0)
    replay_rate = where(usable, REPLAY_RATE, 0.0)
    replayed = where(over & usable, 0.0, state.replayed + replay_rate * (where(replays, 1.0, 0.0) - state.replayed))
    return Returning(share, replayed, share > where(state.open, BACK, 1.0) * SHARE)


def widened(slow: Memory, fast: Memory, wide: Bool[Array, ""]) -> Memory:
    """The slow memory, whose scales reach towards the fast one if `wide`."""
    xp = namespace(slow.scale)
    apart = WIDE * abs(fast.location - slow.location)
    return slow._replace(scale=where(wide, xp.fmax(slow.scale, apart), slow.scale))
