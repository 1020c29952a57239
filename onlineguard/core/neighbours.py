"""How far is an event from the nearest of the last ones: estimators that remember events instead of a law.

What is usual may have many faces: handwritten ones are thin or bold, slanted or straight, and no mean and no scale
describes them. A ring of the last events does, in memory that never grows, and it forgets by itself when the stream
moves on.

An event is compared as it is, or, with `direction`, by its direction alone: then strokes may be thin or bold, and a
pixel may be 1e6. A missing feature counts as 0. Where features have units, put `Standardised` in front.

**What all events share** says nothing of any. Directions of pixels or counts, which are never negative, lie in one
corner, and those of few features (a thin stroke) are far from all others for their length alone. So `Neighbours` takes
half of the mean direction m of the last events from each, and compares what is left: u - m / 2 at length 1.

Sources: fine-tuning on recent similar samples, Sankararaman et al., FITNESS, ICML 2022; fixed share, Herbster and
Warmuth, Tracking the best expert, Machine Learning, 1998. The mixture over memories is ours.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from onlineguard.core.arrays import capped, choose, larger, namespace, saturating_add, strong, to_float, where
from onlineguard.core.clips import Adaptive
from onlineguard.core.protocols import Array, Score
from onlineguard.core.pytree import pytree, static
from onlineguard.core.registry import register
from onlineguard.core.shapes import Bool, Float, Float32, Int, Int32

# The last events, and which of the nearest among them counts. A short window is the first to know what is new, a long
# one the more precise; the k-th rather than the first, so that no single earlier anomaly makes the next one usual.
WINDOWS = ((32, 2), (64, 2), (128, 3), (256, 5), (512, 5))
NEAREST = 1e-6  # squared distances below this count as this: an event that was seen before is near, not infinitely so
# Share of the mean direction that is taken away: from .35 to .7 it does as well. In `experiments/mnist_drift`, on other
# seeds, the best threshold of a segment misses 41 % of the anomalies at 1 % of false alarms instead of 48 % at 0; on
# small digits and counts of words the average precision gains .01 to .14. At 1 a stream with one face is lost.
COMMON = 0.5
# Factor on squared distances from events that were odd when they came: 1.2 to 2 do as well. At 1 the same best
# threshold misses 1 % more, and 5 % more where it is one for all segments; the mean average precision on eight tabular
# sets is .32 instead of .35.
DOUBT = 1.5
HEARD = 0.9  # share of the events that are not odd in this sense; from .8 to .95 the tabular sets differ by .008 of AUC
BLANK = 1e-6  # an event of a shorter length has no direction


class Ring(NamedTuple):
    """The last events, of which one is replaced by each new one."""

    events: Float32[Array, "length d"]  # zeros where none was yet
    lengths: Float32[Array, " length"]  # squared, of each
    oldest: Int32[Array, ""]  # where the next event goes
    seen: Int32[Array, ""]  # events learned; saturates, never wraps

    @classmethod
    def empty(cls, length: int, width: int, direction: bool) -> "Ring":
        """Before any event, in NumPy; a place without one is as far as an event that has nothing in common."""
        apart = np.full(length, 1.0 if direction else width, np.float32)
        return cls(np.zeros((length, width), np.float32), apart, np.int32(0), np.int32(0))

    def ages(self) -> Int32[Array, " length"]:
        """How many events ago each was learned: 0 for the last one."""
        length = self.events.shape[0]
        return (self.oldest - 1 - namespace(self.events).arange(length, dtype=np.int32)) % length

    def squared_distances(self, x: Float32[Array, " d"]) -> Float32[Array, " length"]:
        """Squared distances of an event from each.

        From lengths and a product, which is four times as quick as from differences; what rounding leaves of a distance
        of zero is some 1e-7 of the squared lengths.
        """
        xp = namespace(self.events)
        return xp.maximum(self.lengths + (x * x).sum() - 2.0 * (self.events @ x), 0.0)

    def turned(self, x: Float32[Array, " d"], usable: Bool[Array, ""]) -> "Ring":
        """The ring with the event in place of the oldest one, if it is usable."""
        xp, length = namespace(self.events), self.events.shape[0]
        return Ring(
            _replaced(self.events, self.oldest, x, usable),
            xp.where((xp.arange(length) == self.oldest) & usable, (x * x).sum(), self.lengths),
            where(usable, (self.oldest + 1) % length, self.oldest),
            saturating_add(self.seen, usable),
        )

    def describe(self) -> dict[str, Any]:
        """How many events are remembered, and the bytes that takes, now and always."""
        return {"remembered": int(min(self.seen, len(self.events))), "bytes": int(self.events.nbytes)}


class Recent(NamedTuple):
    """What `Neighbours` keeps."""

    ring: Ring
    doubts: Float32[Array, " length"]  # by which the squared distance from each event is multiplied
    mean: Float32[Array, " d"]  # direction of the last events, where events are compared by direction
    weights: Float32[Array, " windows"]  # trust in each window; they sum to 1
    near: Any  # what the clip of distances learned


@register("Neighbours")
@pytree
class Neighbours:
    """How far are the nearest of the last events, over several memories at once?

    With r the distance of the k-th nearest of the last L events, the event's surprise under a window (L, k) is that of
    a nearest-neighbour density of `dimension` dimensions, -log p = dimension log r - log(k / L). The score mixes the
    windows' surprises by weights that follow exponential weights with fixed share, as in `Experts`. An event that is
    far under every window, beyond a running quantile `heard` of these distances, has no say in the weights: the clip
    of this model. It takes a place in the ring, as every event does, but squared distances from it count `doubt` times.

    An event is compared with all L of the longest window: 512 of 196 features take 40 us, and 400 kB a slice.

    common: with `direction`, the share of the mean direction that is taken from every event; see this module.
    """

    features: int = static()
    windows: tuple[tuple[int, int], ...] = static(default=WINDOWS)
    direction: bool = static(default=True)  # compare by direction alone
    dimension: Float[Array, ""] = 16.0
    share: Float[Array, ""] = 0.01
    heard: Float[Array, ""] = HEARD
    doubt: Float[Array, ""] = DOUBT
    common: Float[Array, ""] = COMMON

    def init(self) -> Recent:
        """No event yet; all windows are trusted alike."""
        count = len(self.windows)
        ring = Ring.empty(max(length for length, _ in self.windows), self.features, self.direction)
        return Recent(
            ring,
            np.ones(len(ring.lengths), np.float32),
            np.zeros(self.features, np.float32),
            np.full(count, 1 / count, np.float32),
            Adaptive(self.heard).init(),
        )

    def score(self, state: Recent, x: Float32[Array, " d"]) -> Score:
        """The surprise of an event, NaN if nothing in it is usable; nothing is learned."""
        event, usable = _compared(x, self.direction)
        score = (state.weights * self._surprises(state, self._own(state, event))).sum()
        return where(usable, score, np.nan * score)

    def step(self, state: Recent, x: Float32[Array, " d"]) -> tuple[Recent, Score]:
        """Score the event, then keep it in place of the oldest; one with nothing usable changes nothing."""
        xp = namespace(state.weights)
        event, usable = _compared(x, self.direction)
        own = self._own(state, event)
        nats = self._surprises(state, own)
        score = (state.weights * nats).sum()
        least = nats.min()
        near = xp.exp(least / self.dimension)
        limit, clip = Adaptive(self.heard).observe(state.near, near, (0.0, np.inf))
        odd = near > limit
        trust = state.weights * xp.exp(where(odd, 0.0 * nats, least - nats))
        doubt = where(odd, strong(self.doubt), strong(1.0))
        here = (xp.arange(state.doubts.shape[0]) == state.ring.oldest) & usable
        weights = (1.0 - self.share) * trust / trust.sum() + self.share / len(self.windows)
        learned = Recent(
            state.ring.turned(own, usable),
            xp.where(here, doubt, state.doubts),
            choose(usable, self._mean(state, event), state.mean),
            choose(usable, strong(weights), state.weights),
            choose(usable, clip, state.near),
        )
        return learned, where(usable, score, np.nan * score)

    def describe(self, state: Recent) -> dict[str, Any]:
        """What is remembered, and how far each window is trusted, by its length."""
        lengths = [length for length, _ in self.windows]
        trust = np.asarray(state.weights).tolist()
        return {**state.ring.describe(), "trust": dict(zip(lengths, trust, strict=True))}

    def _own(self, state: Recent, event: Float32[Array, " d"]) -> Float32[Array, " d"]:
        """The event without what it shares with all, as it is remembered."""
        return unit(event - self.common * state.mean).astype(np.float32) if self.direction else event

    def _mean(self, state: Recent, event: Float32[Array, " d"]) -> Float32[Array, " d"]:
        """The mean direction after an event; it forgets as the ring does."""
        rate = larger(strong(1.0 / state.ring.events.shape[0]), 1.0 / (to_float(state.ring.seen) + 1.0))
        return (state.mean + rate * (event - state.mean)).astype(np.float32)

    def _surprises(self, state: Recent, event: Float32[Array, " d"]) -> Float32[Array, " windows"]:
        xp = namespace(state.weights)
        squares, ages = state.ring.squared_distances(event) * state.doubts, state.ring.ages()
        nats = []
        for length, k in self.windows:
            square = nearest(xp.where(ages < length, squares, np.inf), k)[0]
            nats.append(0.5 * self.dimension * xp.log(xp.maximum(square, NEAREST)) - float(np.log(k / length)))
        return xp.stack(nats)


@register("Fitness")
@pytree
class Fitness:
    """Fine-tune on the `k` most similar of the last `length` events, here by averaging them; score the distance.

    Source: FITNESS, Sankararaman et al., ICML 2022, in our reading for a location model.
    """

    features: int = static()
    length: int = static(default=256)
    k: int = static(default=5)
    direction: bool = static(default=True)  # compare by direction alone

    def init(self) -> Ring:
        """No event yet."""
        return Ring.empty(self.length, self.features, self.direction)

    def score(self, state: Ring, x: Float32[Array, " d"]) -> Score:
        """The distance of an event, NaN if nothing in it is usable; nothing is learned."""
        event, usable = _compared(x, self.direction)
        gap = event - state.events[nearest(state.squared_distances(event), self.k)[1]].mean(0)
        distance = namespace(event).sqrt((gap * gap).sum())
        return where(usable, distance, np.nan * distance)

    def step(self, state: Ring, x: Float32[Array, " d"]) -> tuple[Ring, Score]:
        """Score the event, then keep it in place of the oldest; one with nothing usable changes nothing."""
        event, usable = _compared(x, self.direction)
        return state.turned(event, usable), self.score(state, x)

    def describe(self, state: Ring) -> dict[str, Any]:
        """What is remembered."""
        return state.describe()


def nearest(squares: Float32[Array, " n"], k: int) -> tuple[Float32[Array, ""], Int[Array, " k"]]:
    """The k-th smallest of some numbers, and the places of the k smallest, the first ones at a tie."""
    if namespace(squares) is np:
        places = np.argsort(squares, kind="stable")[:k]
        return squares[places[-1]], places
    smallest, places = jax.lax.top_k(-squares, k)
    return -smallest[-1], places


def _replaced(
    rows: Float32[Array, "length d"], at: Int32[Array, ""], row: Float32[Array, " d"], usable: Bool[Array, ""]
) -> Float32[Array, "length d"]:
    """The rows with one replaced, if there is something usable to put there."""
    if namespace(rows) is np:
        if not usable:
            return rows
        rows = rows.copy()
        rows[at] = row
        return rows
    kept = jax.lax.dynamic_index_in_dim(rows, at, keepdims=False)
    return jax.lax.dynamic_update_index_in_dim(rows, where(usable, row, kept), at, 0)


def _compared(x: Float32[Array, " d"], direction: bool) -> tuple[Float32[Array, " d"], Bool[Array, ""]]:
    """An event as it is compared, and whether there is anything in it."""
    xp = namespace(x)
    present = xp.isfinite(x)
    event = xp.where(present, capped(x), 0.0)
    if direction:
        event = unit(event)
    return event.astype(np.float32), present.any()


def unit(x: Float[Array, "*lead d"]) -> Float[Array, "*lead d"]:
    """Events at Euclidean length 1; an empty one stays empty.

    Scaled by the largest feature first, so that no square overflows.
    """
    xp = namespace(x)
    peak = xp.maximum(abs(x).max(-1, keepdims=True), BLANK)
    scaled = x / peak
    return scaled / xp.maximum(xp.sqrt((scaled * scaled).sum(-1, keepdims=True)), BLANK)
