"""Two memories of location and scale, and how fast the one that judges may be.

The fast memory learns from every event at patience^(-2/3). The slow one, against which events are judged, learns at
1 / patience where nothing moves: what is learned slowly cannot be shifted by a burst that stays under the threshold.
Where the stream drifts, slow is wrong. The share of events that lie nearer to the fast memory than to the slow one is
below a half while nothing moves, since the fast one is noisier, and well above it under drift. The slow rate rises
with it:

    rate = patience^-(1 - w) patience^(-2 w / 3),    w = (share - 1/2) / .2, from 0 to 1.
"""

from typing import NamedTuple

import numpy as np

from onlineguard.core.arrays import larger, namespace, smaller, where
from onlineguard.core.protocols import Array
from onlineguard.core.shapes import Bool, Float32, Float64
from onlineguard.core.spread import Memory, remembered, standardised, start_memories

START = 1.0  # early rate START / (seen + START): the first events count alike
NEARER = (0.5, 0.2)  # the share from which the slow memory begins to speed up, and the way from there to full speed
APART = 5.0  # scales beyond which a feature says no more about which memory is nearer
FLOOR_DECAY = 0.02  # decay of the scale's floor, in units of 1 / patience


class Memories(NamedTuple):
    """What is usual of every feature, as learned slowly and fast."""

    slow: Memory
    fast: Memory
    nearer: Float32[Array, ""]  # running share of the events nearer to the fast one

    @classmethod
    def blank(cls, width: int) -> "Memories":
        """Before any value, in NumPy."""
        memory = Memory.blank(width)
        return cls(memory, memory, np.float32(0.0))

    def moved(self, by: Float64[np.ndarray, "*slices d"]) -> "Memories":
        """The same, or many stacked, when values are counted from `by` more; NumPy."""
        return self._replace(slow=self.slow.moved(by), fast=self.fast.moved(by))


def pace(memories: Memories, patience: Float32[Array, ""]) -> Float32[Array, ""]:
    """The rate of the slow memory once it is old: from 1 / patience to patience^(-2/3)."""
    moving = smaller(larger((memories.nearer - NEARER[0]) / NEARER[1], 0.0), 1.0)
    return namespace(moving).exp(namespace(moving).log(patience) * (moving / 3.0 - 1.0))  # quicker than a power


def learned_memories(
    memories: Memories,
    x: Float32[Array, " d"],
    present: Bool[Array, " d"],
    z: Float32[Array, " d"],
    rate: Float32[Array, ""],
    seen: Float32[Array, ""],
    patience: Float32[Array, ""],
) -> Memories:
    """The memories after x, whose residuals under the slow one are z; the slow one learns at `rate`."""
    xp = namespace(x)
    slow, fast, nearer = memories
    usual_rate = larger(patience ** (-2 / 3), START / (seen + START))
    z_fast, known = standardised(fast, x, present)
    unit = xp.where(known, fast.scale / xp.where(known, slow.scale, 1.0), 0.0)
    apart = xp.minimum(abs(xp.stack([z_fast * unit, z])), APART)
    to_fast, to_slow = apart @ np.ones(x.shape[-1], np.float32)  # the quickest sum of rows
    usable = xp.any(present)
    share = nearer + where(usable, patience ** (-2 / 3), 0.0) * (where(to_fast < to_slow, 1.0, 0.0) - nearer)
    return Memories(
        remembered(slow, x, present, z, rate, 1.0 - FLOOR_DECAY / patience),
        remembered(fast, x, present, z_fast, usual_rate, 1.0 - usual_rate),
        share,
    )


def first_memories(
    memories: Memories, x: Float32[Array, " d"], present: Bool[Array, " d"], last: Bool[Array, ""]
) -> Memories:
    """The memories after one of the first events; see `start_memories`."""
    return Memories(*start_memories(memories.slow, memories.fast, x, present, last), memories.nearer)
