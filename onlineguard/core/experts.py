"""One estimand at several rates at once, so that nobody has to choose one.

K copies of clipped SGD, each with its own constant rate, are mixed by exponential weights on a robust loss, with a
share that lets a copy come back. A copy that has lost too much to the mixture starts again from the best copy, and is
a running mean from there until its own memory is full: so slow copies need not crawl to where fast ones already are,
and a copy whose rate is too long for the stream cannot run away.

Sources: the share, Mark Herbster and Manfred K. Warmuth, Tracking the best expert, Machine Learning 32, 1998; that it
falls as 1 / t, Dmitry Adamskiy, Wouter M. Koolen, Alexey Chernov and Vladimir Vovk, A closer look at adaptive regret,
JMLR 17, 2016; the count of losses, E. S. Page, Continuous inspection schemes, Biometrika 41, 1954. Starting again is
ours, and so are the loss and the rates: the loss is in nats, so neither the weights nor the count need a constant.
"""

from typing import Any, NamedTuple

import numpy as np

from onlineguard.core.arrays import choose, lengthen, namespace, saturating_add, strong, to_float, where
from onlineguard.core.clipped_sgd import ClippedSGD, OfEstimand, State
from onlineguard.core.clips import Adaptive
from onlineguard.core.protocols import Array, Clip, Estimand, Event, Observation, Score, Theta
from onlineguard.core.pytree import pytree, static
from onlineguard.core.rates import Decay
from onlineguard.core.registry import register
from onlineguard.core.shapes import Float, Float32, Float64, Int, Int32

USUAL = 1.5  # running medians of the residual's length are the usual length that the loss is told: a normal sigma
ABSURD = 1e5  # nats; beyond, copies differ by rounding alone, and the event says nothing about which is best
LEAST = 2.0**-30  # a rate below this remembers more events than int32 counts


class Mixture(NamedTuple):
    """What the stream taught."""

    copies: State  # theta, clip and counts of the K copies, on a leading axis; `seen` is what the memory holds
    weights: Float[Array, " copies"]  # how far each copy is trusted; they sum to 1
    lost: Float[Array, " copies"]  # nats that each copy lost to the mixture, since it was last no worse
    scale: Any  # the running median of the residual's length, under the mixture
    seen: Int32[Array, ""]  # events learned; saturates, never wraps


@register("Experts")
@pytree
class Experts(OfEstimand):
    """Clipped SGD at several rates, predicting with the weighted mean of their thetas.

    The weights forget: event number t moves the share 1 / (t + 1) of them back to all copies alike, or `share` if that
    is more.
    """

    estimand: Estimand
    # The default's memories are of 1 to 262,144 events.
    rates: tuple[Float[Array, ""], ...] | Float[Array, " copies"] = tuple(4.0**-k for k in range(10))
    clip: Clip = Adaptive()
    share: Float[Array, ""] = 0.0
    # With (a, b) every copy begins at the rate a / (n + b), as long as that is more than its own: a slow one need not
    # crawl from where it starts. It is for estimands whose steps cannot overshoot.
    early: tuple[float, int] | None = static(default=None)

    def init(self) -> Mixture:
        """K copies of the state before the first event, all trusted alike."""
        rates = self._rates(np)
        count = len(rates)
        state = _repeat(ClippedSGD(self.estimand, clip=self.clip).init(), count)
        return Mixture(
            state._replace(seen=_memory(rates) if self.early is None else np.full(count, self.early[1] - 1, np.int32)),
            np.full(count, 1 / count, np.float32),
            np.zeros(count, np.float32),
            Adaptive().init(),
            np.int32(0),
        )

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

    def moved(self, states: Mixture, by: Float64[np.ndarray, "slices d"]) -> Mixture:
        """Stacked states (slices, ...) when events are counted from `by` more, in NumPy."""
        estimand: Any = self.estimand
        theta = estimand.moved(states.copies.theta, by[:, None])
        return states._replace(copies=states.copies._replace(theta=theta))

    def predict(self, state: Mixture, x: Float[Array, "*#lead d"]) -> Float[Array, "*lead"]:
        """What the target of x is expected to be."""
        estimand: Any = self.estimand
        return estimand.prediction(self.theta(state), x)

    def describe(self, state: Mixture) -> dict[str, Any]:
        """The estimate by its names, and how far each rate is trusted."""
        estimand: Any = self.estimand
        return {**estimand.describe(self.theta(state)), "trust": state.weights}

    def _advance(self, state: Mixture, event: Event, seen: Observation) -> Mixture:
        xp = namespace(state.weights)
        rates = self._rates(xp)
        every = _lifted(event)
        begin = 1.0 if self.early is None else self.early[0]
        sgd = ClippedSGD(self.estimand, Decay(begin, floor=rates), self.clip)
        copies = sgd.learn(state.copies, every)
        limit, scale = Adaptive().observe(state.scale, abs(seen.score), (0.0, np.inf))
        nats = self.estimand.surprise(state.copies.theta, every, USUAL * limit)
        least = nats.min()
        known = seen.usable & (least < ABSURD)
        excess = xp.maximum(nats - least, 0.0)  # XLA may round the two nats differently
        trust = state.weights * xp.exp(-excess)
        total = trust.sum()
        share = 1.0 / (to_float(state.seen) + 2.0)
        share = strong(where(share > self.share, share, self.share))
        weights = (1.0 - share) * trust / total + share / len(rates)
        lost = xp.maximum(state.lost + excess + xp.log(total), 0.0)
        again = known & (lost > xp.log(len(rates) / share))  # what the share would cost a switch to this copy
        if xp is not np or again.any():  # NumPy can see that there is nothing to do
            best = weights.argmax()
            memory = _memory(sgd.rate(copies.seen) / begin)[best]
            source = _pick(copies, best)._replace(seen=xp.full_like(copies.seen, memory))
            copies = choose(again, source, copies)
        return Mixture(
            copies,
            choose(known, weights, state.weights),
            choose(known, where(again, 0.0 * lost, lost), state.lost),
            choose(known, scale, state.scale),
            saturating_add(state.seen, known),
        )

    def _rates(self, xp: Any) -> Float32[Array, " copies"]:
        return xp.stack([xp.asarray(r, dtype=np.float32) for r in self.rates])


def _mean(weights: Float[Array, " copies"], theta: Float[Array, " copies *shape"]) -> Float[Array, "*shape"]:
    return (lengthen(weights, theta) * theta).sum(0)


def _memory(rates: Float32[Array, " copies"]) -> Int32[Array, " copies"]:
    """How many events a running mean has seen whose next step is `rates`; none for rates above 1."""
    xp = namespace(rates)
    return xp.maximum(1.0 / xp.maximum(rates, LEAST), 1.0).astype(np.int32) - 1


def _pick(tree: Any, copy: Int[Array, ""]) -> Any:
    """One copy of a named tuple of arrays, its leading axis kept."""
    if isinstance(tree, tuple):
        return type(tree)(*(_pick(leaf, copy) for leaf in tree)) if tree else tree
    return tree[copy][None]


def _lifted(event: Event) -> Event:
    """The event with a unit leading axis: it meets every copy."""
    return tuple(_lifted(part) for part in event) if isinstance(event, tuple) else strong(event)[None]


def _repeat(tree: Any, copies: int) -> Any:
    """A named tuple of arrays with every array repeated on a new leading axis."""
    if isinstance(tree, tuple):
        return type(tree)(*(_repeat(leaf, copies) for leaf in tree)) if tree else tree
    return namespace(tree).stack([tree] * copies)
