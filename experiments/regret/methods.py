"""The methods that are compared, each of which scores an event by how far its estimate was from the truth."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.regret.streams import Stream
from onlineguard.core.clipped_sgd import ClippedSGD
from onlineguard.core.clips import Adaptive
from onlineguard.core.estimands import Linear, LinearRegression, LogisticRegression, Mean
from onlineguard.core.experts import Experts
from onlineguard.core.protocols import Array, Event, Theta
from onlineguard.core.pytree import pytree
from onlineguard.core.rates import Decay, Derived, epoch
from onlineguard.engine.schedules import scan_lanes

CONSTANT = tuple(2.0**-k for k in range(15))  # the fixed rates to choose from in hindsight
WARM = tuple(4.0**-k for k in range(8))  # and those that begin as a running mean, until their memory is full
DOMAIN = 10.0  # the diameter that the theory's clip is told, twice what the truths need
CURVATURE = 0.15  # of the logistic loss at a truth of that length, under standard normal features


class Grown(NamedTuple):
    """What the theory's clip remembers."""

    seen: Array


@pytree
class Growing:
    """The clip that our derivation asks for: max(least, scale n^(1/3)) through an epoch of n = 1, 2, 4, ... events."""

    least: Array
    scale: Array

    def init(self) -> Grown:
        return Grown(np.int32(0))

    def observe(self, state: Grown, norm: Array, bounds: tuple[Array, Array]) -> tuple[Array, Grown]:
        limit = self.scale * jnp.cbrt(epoch(state.seen).astype(jnp.float32))
        return jnp.maximum(limit, self.least), Grown(state.seen + 1)


@pytree
class Distance:
    """An estimator that scores an event by how far its estimate was from the truth, which comes with the event."""

    estimator: Any

    def init(self) -> Any:
        return self.estimator.init()

    def step(self, state: Any, event: tuple[Event, Array]) -> tuple[Any, Array]:
        event, truth = event
        theta = self.estimator.theta(state) if isinstance(self.estimator, Experts) else state.theta
        return self.estimator.learn(state, event), distance(theta, truth)


def distance(theta: Theta, truth: Array) -> Array:
    """Euclidean; a regression's intercept counts, and its truth is zero."""
    square = theta.b**2 if isinstance(theta, Linear) else 0.0
    w = theta.w if isinstance(theta, Linear) else theta
    return jnp.sqrt(((w - truth) ** 2).sum(-1) + square)


# Clipped SGD at many rates at once: the rates differ, all else and the events are shared.
scan_rates = jax.jit(jax.vmap(scan_lanes, in_axes=(Distance(ClippedSGD(None, 0, None)), 0, None, None)))  # type: ignore


def fixed_rates() -> Decay:
    """The grid in hindsight, the same begun as running means, and 1/t, on one axis."""
    rows = [(eta, 0.0, 0.0) for eta in CONSTANT] + [(1.0, 1.0, eta) for eta in WARM] + [(1.0, 1.0, 0.0)]
    return Decay(*jnp.asarray(rows, jnp.float32).T)


def estimators(stream: Stream) -> tuple[Distance, dict[str, Distance]]:
    """Clipped SGD at all fixed rates, and each other method by its name.

    All clip at the running median, logistic regression at the 99th percentile, as its docstring asks for; but "derived"
    clips as the theory does.
    """
    estimand = {"mean": Mean, "linear": LinearRegression, "logistic": LogisticRegression}[stream.model](stream.d)
    clip = Adaptive(0.99) if stream.model == "logistic" else Adaptive()
    rate = Derived(m=CURVATURE if stream.model == "logistic" else 1.0)
    others = {
        "default": Experts(estimand, clip=clip),
        "derived": ClippedSGD(estimand, rate, Growing(2 * DOMAIN, math.sqrt(stream.d))),
        "derived, median clip": ClippedSGD(estimand, rate, clip),
    }
    return Distance(ClippedSGD(estimand, fixed_rates(), clip)), {name: Distance(e) for name, e in others.items()}
