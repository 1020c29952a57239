"""Any estimator of the core as a model of a slice: its score, judged by what the slice's scores usually are.

    Engine(n_features=4, estimator=ClippedSGD(Covariance(4)))    wraps the estimator in a `Judged` by itself

The estimator scores an event in a unit of its own: a distance, a probability, a Mahalanobis distance. A `OneSided`
detector of that score, one for every slice, gives it a unit that all slices share and a threshold that an attack cannot
lift over itself: 1 is a usual score, and above it one more is one more of the slice's scales.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onlineguard.core.arrays import namespace, where
from onlineguard.core.protocols import Array, Event
from onlineguard.core.pytree import pytree
from onlineguard.core.registry import register
from onlineguard.core.shapes import Float, Float32, Float64, Int32
from onlineguard.errors import InvalidArgument
from onlineguard.models.base import Judgement, SliceModel
from onlineguard.models.one_sided import OneSided, OneSidedState

LARGEST = 3e38  # an infinite score counts as this: it is the oddest there is, not a missing one


class JudgedState(NamedTuple):
    """What the stream taught one slice."""

    estimator: Any  # the estimator's own state
    scores: OneSidedState  # what is usual of its scores


@register("Judged")
@pytree
class Judged(SliceModel):
    """An estimator, and what makes verdicts of its scores.

    estimator: anything with `init()` and `step(state, event) -> (state, score)`, such as ClippedSGD, Experts, Chain.
    target_rate: share of usual events to be flagged, in (0, 0.2].
    patience: events that a new regime of scores must last before it counts as usual; see `Detector`.

    An estimator that decides by itself (`decides` is true: a score above zero is an anomaly, as of a Chain that ends in
    a Quantile, or of a ChangePoint) keeps its own threshold, and the target rate shapes p-values only.

    The estimator is given x as it is, or the only number of x where it takes a number and there is one feature; a
    supervised one is given (x, y).
    """

    estimator: Any
    target_rate: Float[Array, ""] = 0.01
    patience: Float[Array, ""] = 5_000.0

    @property
    def supervised(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the estimator takes pairs (x, y)."""
        return getattr(self.estimator, "supervised", False)

    @property
    def predicts(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the estimator has a `predict`."""
        return hasattr(self.estimator, "predict") and getattr(self.estimator, "predicts", True)

    @property
    def shiftable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the estimator can be told that events are counted from elsewhere."""
        return getattr(self.estimator, "shiftable", False)

    @property
    def decides(self) -> bool:
        """Whether the estimator's own zero is the threshold."""
        return getattr(self.estimator, "decides", False)

    def init(self, n_features: int, width: int | None = None) -> JudgedState:
        """The state before any event. Raises InvalidArgument if the estimator does not take so many columns."""
        start = JudgedState(jax.tree.map(np.asarray, self.estimator.init()), self._verdicts().init(1))
        _check(self.estimator, start.estimator, width or n_features, self.supervised)
        return start

    def step(self, state: JudgedState, event: Event) -> tuple[JudgedState, Judgement]:
        """Let the estimator score the event and learn it, then judge the score among those of before."""
        x = event[0] if self.supervised else event
        xp = namespace(x)
        given = _given(self.estimator, event, self.supervised)
        learned, score = self.estimator.step(state.estimator, given)
        if isinstance(score, jax.Array):  # computed once before what follows; see `barrier`
            learned, score = jax.lax.optimization_barrier((learned, score))
        there = xp.any(xp.isfinite(x))
        number = where(there, xp.minimum(xp.maximum(score, -LARGEST), LARGEST), np.nan)
        scores, judged = self._verdicts().step(state.scores, xp.reshape(number, (1,)))
        if not self.decides:
            return JudgedState(learned, scores), judged
        own = self._verdicts().height(state.scores, 0.0 * number)
        return JudgedState(learned, scores), judged._replace(threshold=where(own == own, own, judged.threshold))

    def predict(self, state: JudgedState, x: Float32[Array, " d"]) -> Float32[Array, ""]:
        """The estimator's prediction of the target of x."""
        return self.estimator.predict(state.estimator, x)

    def seen(self, states: JudgedState) -> Int32[np.ndarray, " slices"]:
        """Events that were scored."""
        return states.scores.seen

    def moved(self, states: JudgedState, by: Float64[np.ndarray, "slices d"]) -> JudgedState:
        """See `SliceModel.moved`; scores do not depend on the origin."""
        return states._replace(estimator=self.estimator.moved(states.estimator, by))

    def describe(self, state: JudgedState) -> dict[str, Any]:
        """What the estimator says of itself, and the threshold in the unit of its own score."""
        own = self.estimator.describe(state.estimator) if hasattr(self.estimator, "describe") else {}
        verdicts = self._verdicts()
        threshold = 0.0 if self.decides else float(verdicts.number(state.scores, verdicts.threshold(state.scores)))
        return {**own, "threshold": threshold, "events": int(state.scores.seen)}

    def _verdicts(self) -> OneSided:
        return OneSided(self.target_rate, self.patience)


def _given(estimator: Any, event: Event, supervised: bool) -> Event:
    """The event as the estimator takes it."""
    if supervised or not getattr(estimator, "takes_number", False):
        return event
    return event[0]


def _check(estimator: Any, state: Any, n_features: int, supervised: bool) -> None:
    """Raises InvalidArgument unless the estimator steps an event of so many features, to a score that is a number."""
    x = jax.ShapeDtypeStruct((n_features,), jnp.float32)
    event = (x, jax.ShapeDtypeStruct((), jnp.float32)) if supervised else x
    name = type(estimator).__name__
    way_out = f"give the estimator {n_features} feature(s), or the Engine as many as the estimator has"
    if getattr(estimator, "takes_number", False) and n_features != 1:
        raise InvalidArgument(f"estimator is a {name}, which takes one number, and events have {n_features}; {way_out}")
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), state)
    try:
        after, score = jax.eval_shape(lambda s, e: estimator.step(s, _given(estimator, e, supervised)), like, event)
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        raise InvalidArgument(
            f"estimator is a {name}, which does not take events of {n_features} feature(s): {reason}; {way_out}"
        ) from error
    if score.shape != ():
        raise InvalidArgument(
            f"estimator is a {name}, whose score of an event has shape {score.shape}; it must be one number: "
            "put a last stage behind it that makes one, e.g. Chain((..., ClippedSGD(LogScale())))"
        )
    kept = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(like)]
    made = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(after)]
    if kept != made:
        raise InvalidArgument(
            f"estimator is a {name}, whose state changes from {kept} to {made} in a step; every leaf must keep its "
            f"shape and type; {way_out}"
        )
