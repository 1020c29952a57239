"""One click in one compiled program: counters, features, network, and the engine that watches its slice.

A call into a compiled program takes 10 to 20 us for its own sake, several times that in caches gone cold, and so
does each step between two of them. Taken together, a click costs a third of what it costs step by step. The rows of
the counters and the engine are the same to the last bit as those that `ProcessStore.count`, `features.assembled` and
`Engine.update` make; p_robot is to a few ulps.

For a CPU; on a GPU each operation in it would be launched by itself, and clicks are better taken many at a time.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from onlineguard.core.protocols import Array
from onlineguard.engine.engine import Engine, aligned
from onlineguard.engine.table import FIELDS, Layout, stepped
from onlineguard.slidr.clicks.click import Click
from onlineguard.slidr.counting.counter_step import NUMBERS, ROWS, after_one
from onlineguard.slidr.counting.counters import ProcessStore
from onlineguard.slidr.counting.windows import COLUMNS
from onlineguard.slidr.features import Featuriser, assembled
from onlineguard.slidr.learning.network import apply, standardise
from onlineguard.slidr.learning.scorer import Scorer
from onlineguard.slidr.learning.train import Network

_SMALL = 1_024  # numbers of an array that is given together with others
_AFTER = 4  # what follows the counters' part of the inputs: minute, weekday, logged_in, the engine's row


class Judged(NamedTuple):
    """What the models say of a click: the network, and the engine, whose numbers are those of a `Judgement`."""

    p_robot: float
    score: float
    threshold: float
    median: float
    fifth: float
    twentieth: float
    ready: float
    watched: np.ndarray  # the features that the engine was given, float32


class OneClick:
    """Takes clicks one at a time, each with the state that all before it left in the store and the engine.

    store: where the click is counted; None where it was counted elsewhere, and `take` is given what it sees.
    watched: which features the engine takes, by their number.
    """

    def __init__(
        self, network: Network, featuriser: Featuriser, engine: Engine, store: ProcessStore | None, watched: list[int]
    ):
        self._featuriser, self._engine, self._store = featuriser, engine, store
        weights = (network.params, network.mean, network.scale, engine.params)
        program = _program(Layout.of(weights), tuple(watched), store is not None, engine.layout)
        self._program = functools.partial(program, _gathered(weights))
        self._watched = len(watched)
        self._front = len(COLUMNS) + 1 if store is None else NUMBERS
        rows = 0 if store is None else ROWS
        self._inputs = aligned(1, max(self._front + _AFTER, rows + 1 + FIELDS + len(watched)))[0].view(np.int32)
        self._inputs[:] = 0

    @classmethod
    def of(
        cls, scorer: Scorer, featuriser: Featuriser, engine: Engine, store: ProcessStore | None, watched: list[int]
    ) -> Self | None:
        """None for a model that is no network of numbers alone, and where JAX runs on no CPU."""
        if jax.default_backend() != "cpu" or not isinstance(scorer, Network) or scorer.config.kind == "embedding":
            return None
        return cls(scorer, featuriser, engine, store, watched)

    def warmup(self) -> None:
        """Compile."""
        self._engine.compile(self._program, np.zeros_like(self._inputs))

    def take(self, click: Click, slice_: str, counts: np.ndarray | None = None) -> Judged | None:
        """Count, judge and learn the click; None, with nothing done, for the first click of a slice.

        counts: (26,) int32, what the click sees, where there is no store.
        """
        if not self._engine.takes(slice_):
            return None
        inputs, front, places = self._inputs, self._front, None
        if self._store is not None:
            key = (click.click_id, click.ts, click.user_id, click.session_id, click.ip)
            places = self._store.begin_one(key, inputs)
        else:
            assert counts is not None
            inputs[: front - 1], inputs[front - 1] = counts, 1
        inputs[front : front + 2] = self._featuriser.local_time(click.marketplace, click.ts)
        inputs[front + 2] = click.logged_in
        after = self._engine.through(self._program, slice_, inputs)
        if self._store is not None and places is not None:
            self._store.end_one(places, after)
            after = after[ROWS:]
        floats = after[: 1 + FIELDS + self._watched].view(np.float32)
        p_robot, score, threshold, median, fifth, twentieth, ready = floats[: 1 + FIELDS].tolist()
        return Judged(p_robot, score, threshold, median, fifth, twentieth, ready, floats[1 + FIELDS :])


def _gathered(tree: Any) -> list[Array]:
    """The leaves of a tree, the small ones together in one: each array that a call is given takes it 0.4 us."""
    leaves = jax.tree.leaves(tree)
    small = np.concatenate([np.ravel(leaf) for leaf in leaves if leaf.size < _SMALL])
    return [jnp.asarray(leaf) for leaf in (small, *(leaf for leaf in leaves if leaf.size >= _SMALL))]


def _taken_apart(gathered: list[Array], layout: Layout) -> Any:
    """The tree that was gathered, in a compiled program."""
    small, *large = gathered
    leaves: list[Array] = []
    start = 0
    for shape in layout.shapes:
        size = math.prod(shape)
        if size < _SMALL:
            leaves.append(small[start : start + size].reshape(shape))
            start += size
        else:
            leaves.append(large.pop(0))
    return jax.tree.unflatten(layout.structure, leaves)


@functools.lru_cache  # models of one shape share a program
def _program(tree: Layout, watched: tuple[int, ...], counting: bool, layout: Layout) -> Callable[..., Any]:
    """What takes the weights, the table, and the inputs; the four arguments are the same in every call, and what is
    given to a compiled program, JAX compares in every call."""
    front, start = (NUMBERS, ROWS) if counting else (len(COLUMNS) + 1, 0)

    @functools.partial(jax.jit, donate_argnums=(1,))
    def judge(weights: list[Array], table: Array, inputs: Array) -> tuple[Array, Array]:
        """The table, and in one array the counters' rows, if there are any, and the bits of what is in `Judged`."""

        def body(_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            table, inputs = carry
            # With the inputs, which are others each time: what follows of the weights alone would else be moved out of
            # the loop, in parts that count; see below.
            small, inputs = jax.lax.optimization_barrier((weights[0], inputs))
            params, mean, scale, estimator = _taken_apart([small, *weights[1:]], tree)
            numbers, after = inputs[: len(COLUMNS)], inputs
            if counting:
                after, parts = after_one(inputs)
                numbers = jax.lax.optimization_barrier(jnp.concatenate(parts))
            x = assembled(numbers, inputs[front], inputs[front + 1], inputs[front + 2])
            p_robot = jax.nn.sigmoid(-apply(params, standardise(x, mean, scale)))
            seen = jnp.stack([x[i] for i in watched])
            table, judgement = stepped(estimator, layout, table, (inputs[-1], inputs[-1]), seen)
            judged = jnp.concatenate([p_robot[None], judgement, seen]).view(np.int32)
            return table, jax.lax.dynamic_update_slice(after, judged, (start,))

        # What is not in the loop, such as making zeros or a copy of the inputs, would be a part of the program by
        # itself, and with more than a few parts XLA hands them to a pool of threads, which takes ten times as long.
        return jax.lax.fori_loop(0, inputs[front - 1], body, (table, inputs))

    return judge
