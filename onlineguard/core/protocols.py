"""Array aliases, and the protocols that estimands, clips, rates and estimators follow.

Every method takes its array namespace from the arrays it is given (`core.arrays.namespace`), so the same code
runs at once on NumPy for one event and traced by JAX for many.
"""

from typing import Any, NamedTuple, Protocol

from onlineguard.core.shapes import Bool, Float, Int32

Array = Any  # a NumPy array or scalar, a jax.Array or a tracer; floats are float32 and counts int32; see `core.shapes`
Theta = Any  # an array, or a named tuple of arrays; leading axes are copies, trailing axes are features
Event = Any  # an array, or a tuple such as (x, y)
Score = Float[Array, "*lead"]  # higher is odder; NaN if the event could not be scored


class Observation(NamedTuple):
    """What an estimand sees in one event, with the estimate from before it."""

    gradient: Theta  # which way the estimate is wrong; zero where the event says nothing
    norm: Float[Array, "*lead"]  # the gradient's length, in the unit of its clip
    usable: Bool[Array, "*lead"]  # the event says something; if false the gradient is zero
    score: Score
    curvature: Float[Array, "*lead"] = 0.0  # of the loss along the gradient, where a step must not overshoot it


class Estimand(Protocol):
    """What is wanted, and which way an estimate of it is wrong.

    What an estimand can do besides, it says in attributes that are false where they are missing: `supervised` (an event
    is a pair (x, y)), `takes_number` (an event is one number), `decides` (a score above zero is an anomaly),
    `shiftable` (there is `moved(theta, by)`), `predicts` (there is `prediction(theta, x)`) and `measures` (the score is
    how far y lies from the prediction). An estimator has the same attributes, with `moved(states, by)` and
    `predict(state, x)`.
    """

    @property
    def clip_range(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Bounds of an adaptive clip, for gradients that have a natural size; (0, inf) for all others."""
        ...

    def init(self) -> Theta: ...

    def observe(self, theta: Theta, event: Event) -> Observation: ...

    def residual(self, theta: Theta, event: Event, seen: Observation) -> Array:
        """What the next stage of a Chain takes as its event; `seen` is what `observe` returned."""
        ...

    def move(self, theta: Theta, gradient: Theta, rate: Float[Array, "*#lead"], shrink: Float[Array, "*lead"]) -> Theta:
        """Theta moved against `rate` times the gradient, shortened to the share `shrink` of its length."""
        ...

    def surprise(self, theta: Theta, event: Event, limit: Float[Array, ""]) -> Float[Array, "*lead"]:
        """A robust loss in nats, by which Experts weigh their copies; `limit` is a usual length of the residual."""
        ...


class Clip(Protocol):
    """How long a gradient may be."""

    def init(self) -> Any: ...

    def observe(
        self, state: Any, norm: Float[Array, "*lead"], bounds: tuple[Float[Array, ""], Float[Array, ""]]
    ) -> tuple[Float[Array, "*#lead"], Any]:
        """The longest gradient to be used whole, from before this norm, and the state that has learned the norm."""
        ...


class Rate(Protocol):
    """How far one step goes."""

    def __call__(self, seen: Int32[Array, "*lead"]) -> Float[Array, "*#lead"]:
        """Step size after `seen` events, in theta's unit per unit of gradient."""
        ...


class Estimator(Protocol):
    """An estimand with a way to learn it: `score` and `learn` both start from the state before the event."""

    def init(self) -> Any: ...

    def score(self, state: Any, event: Event) -> Score: ...

    def learn(self, state: Any, event: Event) -> Any: ...

    def step(self, state: Any, event: Event) -> tuple[Any, Score]:
        """`learn` and `score` together, sharing what they have in common."""
        ...

    def judge(self, state: Any, event: Event) -> tuple[Score, Array]:
        """The score, and the residual that the next stage of a Chain takes as its event; nothing is learned."""
        ...

    def trace(self, state: Any, event: Event) -> tuple[Any, Score, Array]:
        """`step`, and the residual that the next stage of a Chain takes as its event."""
        ...
