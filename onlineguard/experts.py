"""One estimand at several rates at once, so that nobody has to choose one.

K copies of clipped SGD, each with its own rate, are mixed by exponential weights on a robust loss, with a fixed share
that lets a copy come back. Sources: Mark Herbster and Manfred K. Warmuth, Tracking the best expert, Machine Learning
32, 1998. The loss, the rates and the constants are ours: the loss is in nats, so the weights have no learning rate.
"""

from typing import Any, NamedTuple

import numpy as np

from onlineguard.arrays import choose, lengthen, namespace, strong
from onlineguard.clipped_sgd import ClippedSGD, State
from onlineguard.clips import Adaptive
from onlineguard.pytree import pytree
from onlineguard.rates import Decay
from onlineguard.types import Array, Clip, Estimand, Event, Observation, Score, Theta

CORNER = 1.5  # Huber's loss turns linear at so many running medians of the residual's length
ABSURD = 1e5  # nats; beyond, copies differ by rounding alone, and the event says nothing about which is best


class Mixture(NamedTuple):
    """What the stream taught."""

    copies: State  # theta, clip and counts of the K copies, on a leading axis
    weights: Array  # how far each copy is trusted; they sum to 1
    scale: Any  # the running median of the residual's length, under the mixture


@pytree
class Experts:
    """Clipped SGD at several rates, predicting with the weighted mean of their thetas.

    A copy is a running mean until its memory of 1 / rate events is full. The weights forget: every event moves the
    share `share` of them back to all copies alike.
    """

    estimand: Estimand
    rates: tuple[Array, ...] | Array = tuple(2.0**-k for k in range(1, 12))
    clip: Clip = Adaptive()
    share: Array = 1 / 200

    def init(self) -> Mixture:
        """K copies of the state before the first event, all trusted alike."""
        rates = self._rates(np)
        state = ClippedSGD(self.estimand, Decay(floor=rates), self.clip).init()
        return Mixture(_repeat(state, len(rates)), np.full(len(rates), 1 / len(rates), np.float32), Adaptive().init())

    def theta(self, state: Mixture) -> Theta:
        """The estimate: the weighted mean of the copies' thetas."""
        if isinstance(state.copies.theta, tuple):
            return type(state.copies.theta)(*(_mean(state.weights, t) for t in state.copies.theta))
        return _mean(state.weights, state.copies.theta)

    def score(self, state: Mixture, event: Event) -> Score:
        """How odd the event is under the mixture; NaN if nothing in it is usable."""
        return self.estimand.observe(self.theta(state), event).score

    def judge(self, state: Mixture, event: Event) -> tuple[Score, Array]:
        """The score, and the residual that the next stage of a Chain takes as its event."""
        theta = self.theta(state)
        seen = self.estimand.observe(theta, event)
        return seen.score, self.estimand.residual(theta, event, seen)

    def learn(self, state: Mixture, event: Event) -> Mixture:
        """Move every copy, then trust those more that the event surprised less."""
        return self._advance(state, event, self.estimand.observe(self.theta(state), event))

    def step(self, state: Mixture, event: Event) -> tuple[Mixture, Score]:
        """`learn` and `score` from one look at the event."""
        seen = self.estimand.observe(self.theta(state), event)
        return self._advance(state, event, seen), seen.score

    def trace(self, state: Mixture, event: Event) -> tuple[Mixture, Score, Array]:
        """`step`, and the residual that the next stage of a Chain takes as its event."""
        theta = self.theta(state)
        seen = self.estimand.observe(theta, event)
        return self._advance(state, event, seen), seen.score, self.estimand.residual(theta, event, seen)

    def _advance(self, state: Mixture, event: Event, seen: Observation) -> Mixture:
        xp = namespace(state.weights)
        rates = self._rates(xp)
        every = _lifted(event)
        copies = ClippedSGD(self.estimand, Decay(floor=rates), self.clip).learn(state.copies, every)
        limit, scale = Adaptive().observe(state.scale, abs(seen.score), (0.0, np.inf))
        nats = self.estimand.surprise(state.copies.theta, every, CORNER * limit)
        least = nats.min()
        known = seen.usable & (least < ABSURD)
        excess = xp.maximum(nats - least, 0.0)  # XLA may round the two nats differently
        trust = state.weights * xp.exp(-excess)
        weights = (1.0 - self.share) * trust / trust.sum() + self.share / len(rates)
        return Mixture(copies, choose(known, weights, state.weights), choose(known, scale, state.scale))

    def _rates(self, xp: Any) -> Array:
        return xp.stack([xp.asarray(r, dtype=np.float32) for r in self.rates])


def _mean(weights: Array, theta: Array) -> Array:
    return (lengthen(weights, theta) * theta).sum(0)


def _lifted(event: Event) -> Event:
    """The event with a unit leading axis: it meets every copy."""
    return tuple(_lifted(part) for part in event) if isinstance(event, tuple) else strong(event)[None]


def _repeat(tree: Any, copies: int) -> Any:
    """A named tuple of arrays with every array repeated on a new leading axis."""
    if isinstance(tree, tuple):
        return type(tree)(*(_repeat(leaf, copies) for leaf in tree)) if tree else tree
    return namespace(tree).stack([tree] * copies)
