"""Clicks to judgements in one compiled program: counters, features, network, and the engine that watches their slices.

A call into a compiled program takes 10 to 20 us for its own sake, several times that in caches gone cold, and so does
each step between two of them: taken together, a click costs a third of what it costs step by step. The program takes
clicks in order, one after the other: a click alone is a batch of one, and its answer is the same to the last bit.

On an accelerator each operation of such a loop would be launched by itself. So there clicks are counted on the CPU, and
one program takes up to WHOLE of them at once: features, network, and the engine's kernel. Its answers differ from those
of the loop by a few ulps.
"""

import math
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int32

from onlineguard.core.protocols import Array
from onlineguard.engine.arrays import placed
from onlineguard.engine.engine import Engine
from onlineguard.engine.table import Layout
from onlineguard.engine.verdicts import Verdicts
from onlineguard.slidr.clicks.categories import category
from onlineguard.slidr.clicks.clicks import Click, prefix
from onlineguard.slidr.counting.counter_step import BatchMemory, Sheet, counted
from onlineguard.slidr.counting.counters import FEW, ClickKeys, ProcessStore
from onlineguard.slidr.counting.windows import COLUMNS
from onlineguard.slidr.features import LOOKED_UP, WIDTH, Featuriser, assembled
from onlineguard.slidr.learning.network import CATEGORIES, p_robot, p_robots
from onlineguard.slidr.learning.scorer import Scorer
from onlineguard.slidr.learning.train import Network

MOST = FEW  # clicks at once
_SIZES = (1, MOST)  # that batches are padded to
WHOLE = 4_096  # clicks at once on an accelerator, where a call takes as long for few
_LOOKED_UP = 3 + CATEGORIES  # where, among what is known of a click, the bits of what was looked up begin
# Of a click beside its counts: minute, weekday, logged in; its categories; what was looked up.
_KNOWN = _LOOKED_UP + len(LOOKED_UP)
_ROWS = 4_096  # that `scored_singly` takes at once
_KEY = attrgetter("click_id", "ts", "user_id", "session_id", "ip", "ad_id", "logged_in")  # `ClickKey` of a click
_SMALL = 1_024  # numbers of an array that is given together with others


class JudgedClicks(NamedTuple):
    """What the models say of n clicks."""

    features: Float32[np.ndarray, "n features"]
    p_robot: Float32[np.ndarray, " n"]
    watched: Float32[np.ndarray, "n d"]  # the features that the engine was given
    verdicts: Verdicts


class ClickFront(NamedTuple):
    """The part of the program that comes before the engine; a `Front`.

    network: the layout of the weights of a network; None for any other scorer, which judges the features afterwards.
    counting: whether clicks are counted in the program; else their counts are given.
    """

    size: int
    network: Layout | None
    embedding: bool
    counting: bool
    watched: tuple[int, ...]
    at_once: bool = False

    @property
    def counts(self) -> int:
        """Where the counts that clicks see begin, (size, 34)."""
        return Sheet(self.size).counts if self.counting else 0

    @property
    def known(self) -> int:
        """Where what else is known of them begins, (size, _KNOWN)."""
        return self.counts + len(COLUMNS) * self.size

    @property
    def features(self) -> int:
        """Where the bits of their features are left, (size, WIDTH)."""
        return self.known + _KNOWN * self.size

    @property
    def said(self) -> int:
        """Where the bits of p_robot and of the watched features are left, (size, 1 + d)."""
        return self.features + WIDTH * self.size

    @property
    def length(self) -> int:
        """Numbers in all."""
        return self.said + (1 + len(self.watched)) * self.size

    def step(self, weights: list[Array], memory: Array, i: Array) -> tuple[Array, Array]:
        """See `Front`."""
        if self.counting:
            memory = counted(Sheet(self.size), memory, i)
        numbers, known, memory = jax.lax.optimization_barrier(
            (_part(memory, self.counts, len(COLUMNS), i), _part(memory, self.known, _KNOWN, i), memory)
        )
        x = assembled(numbers, known[0], known[1], known[2], known[_LOOKED_UP:].view(np.float32))
        memory = _put(memory, x, self.features + WIDTH * i)
        at = self.said + (1 + len(self.watched)) * i
        if self.network is not None:
            # With the memory, which is another each time: what follows of the weights alone would else be moved out of
            # the loop, in parts that count; see `advance_from`.
            small, memory = jax.lax.optimization_barrier((weights[0], memory))
            params, mean, scale = _taken_apart([small, *weights[1:]], self.network)
            codes = known[3:_LOOKED_UP].view(np.uint32) if self.embedding else None
            memory = _put(memory, p_robot(params, mean, scale, x, codes)[None], at)
        seen = jnp.stack([x[j] for j in self.watched])
        return _put(memory, seen, at + 1), seen

    def all(self, weights: list[Array], memory: Array) -> tuple[Array, Array]:
        """See `Front`; clicks were counted before."""
        known = memory[self.known : self.features].reshape(self.size, -1)
        counts = memory[self.counts : self.known].reshape(self.size, -1)
        x = assembled(counts, known[:, 0], known[:, 1], known[:, 2], known[:, _LOOKED_UP:].view(np.float32))
        p = jnp.zeros(self.size, jnp.float32)
        if self.network is not None:
            codes = known[:, 3:_LOOKED_UP].view(np.uint32) if self.embedding else None
            params, mean, scale = _taken_apart(weights, self.network)
            p = p_robots(params, mean, scale, x, codes)
        seen = x[:, np.array(self.watched)]
        left = jnp.concatenate([x.ravel(), jnp.column_stack([p, seen]).ravel()])
        return jax.lax.dynamic_update_slice(memory, left.view(np.int32), (self.features,)), seen


class ClickJudge:
    """Judges clicks, each with the state that all before it left in the store and the engine, and learns them.

    store: where clicks are counted; None where they were counted elsewhere, and `judge` is given what they see.
    watched: which features the engine takes, by their number.
    """

    def __init__(
        self,
        scorer: Scorer,
        featuriser: Featuriser,
        engine: Engine,
        store: ProcessStore | None,
        watched: Sequence[int],
    ):
        self._scorer, self._featuriser, self._engine, self._store = scorer, featuriser, engine, store
        weights: list[Array] = []
        layout, self._embedding = None, False
        if isinstance(scorer, Network):
            tree = (scorer.params, scorer.mean, scorer.scale)
            layout, weights = Layout.of(tree), _gathered(tree)
            self._embedding = scorer.config.kind == "embedding"
        fronts = [ClickFront(n, layout, self._embedding, store is not None, tuple(watched)) for n in _SIZES]
        if engine.runs_at_once(WHOLE):
            fronts.append(ClickFront(WHOLE, layout, self._embedding, False, tuple(watched), at_once=True))
        self._batches = [_Batch(front, engine, weights) for front in fronts]

    @property
    def most(self) -> int:
        """Clicks that `judge` takes at once."""
        return self._batches[-1].front.size

    def warmup(self, engine: Engine | None = None) -> None:
        """Compile, for the table of an engine like this one's as it is now; by default for this one's."""
        for batch in self._batches:
            (engine or self._engine).warmup_from(batch.front, batch.weights)

    def judge(
        self,
        clicks: Sequence[Click],
        slices: Sequence[str],
        counts: Int32[np.ndarray, "n 34"] | None = None,
        looked_up: Float32[np.ndarray, "n columns"] | None = None,
    ) -> JudgedClicks:
        """Count, judge and learn at most `most` clicks, in order.

        counts: what the clicks see, where there is no store.
        looked_up: what the lookups have of them; None: nothing.
        """
        n = len(clicks)
        batch = self._batches[-1 if n > MOST or self._engine.runs_at_once(n) else n > 1]
        if self._store is not None and batch.front.at_once:
            counts = self._store.count(ClickKeys.of(clicks))
        if batch.front.counting and self._store is not None:
            self._store.begin(map(_KEY, clicks), batch.counting)
        else:
            batch.counts[:n] = counts
        batch.known[:n, :3] = [
            (*self._featuriser.local_time(click.marketplace, click.ts), click.logged_in) for click in clicks
        ]
        batch.looked_up[:n] = 0.0 if looked_up is None else looked_up
        if self._embedding:
            batch.codes[:n] = _codes(clicks)
        after, verdicts = self._engine.update_from(batch.front, batch.weights, slices, batch.memory)
        if batch.front.counting and self._store is not None:
            self._store.end(after, batch.counting)
        said = after[batch.said].view(np.float32).reshape(batch.front.size, -1)[:n]
        features = after[batch.features].view(np.float32).reshape(-1, WIDTH)[:n]
        p_robot = said[:, 0] if batch.front.network is not None else self._scorer.p_robot(features)
        return JudgedClicks(features, p_robot, said[:, 1:], verdicts)


class FeatureJudge:
    """Scores clicks whose features a `ClickJudge` has made, to the bits that one with this scorer would give.

    engine: that of the judge. Where it judges clicks all at once, on an accelerator, bits may differ by a few ulps.
    """

    def __init__(self, scorer: Scorer, engine: Engine):
        self._scorer, self._engine = scorer, engine
        self._sizes = [MOST, WHOLE] if engine.runs_at_once(WHOLE) else [MOST]
        self._weights: list[Any] = []  # for each size
        self._embedding = False
        if isinstance(scorer, Network):
            tree = (scorer.params, scorer.mean, scorer.scale)
            self._weights = [jax.device_put(tree, jax.devices("cpu")[0]), jax.device_put(tree)][: len(self._sizes)]
            self._embedding = scorer.config.kind == "embedding"

    def warmup(self) -> None:
        """Compile."""
        for at in range(len(self._weights)):
            self._scored(at, np.empty((0, WIDTH), np.float32), np.empty((0, CATEGORIES), np.uint32))

    def p_robot(
        self, clicks: Sequence[Click], features: Float32[np.ndarray, "n features"]
    ) -> Float32[np.ndarray, " n"]:
        """Of n clicks that were judged together."""
        if not self._weights:
            return self._scorer.p_robot(features)
        at = -1 if len(clicks) > MOST or self._engine.runs_at_once(len(clicks)) else 0
        return self._scored(at, features, _codes(clicks) if self._embedding else [])

    def _scored(self, at: int, features: np.ndarray, codes: Any) -> Float32[np.ndarray, " n"]:
        n, size = len(features), self._sizes[at]
        X = np.zeros((size, WIDTH), np.float32)
        X[:n] = features
        padded = np.zeros((size, CATEGORIES), np.uint32) if self._embedding else None
        if padded is not None:
            padded[:n] = codes
        if size == WHOLE:
            return np.asarray(_together(*self._weights[at], X, padded))[:n]
        return np.asarray(_in_turn(*self._weights[at], X, padded, np.int32(n)))[:n]


@jax.jit
def _together(params: Any, mean: Array, scale: Array, X: Array, codes: Any) -> Array:
    return p_robots(params, mean, scale, X, codes)


@jax.jit
def _in_turn(params: Any, mean: Array, scale: Array, X: Array, codes: Any, n: Array) -> Array:
    """p_robot of the first n rows, one after the other."""

    def one(i: Array, out: Array) -> Array:
        return out.at[i].set(p_robot(params, mean, scale, X[i], None if codes is None else codes[i]))

    return jax.lax.fori_loop(0, n, one, jnp.zeros(len(X), jnp.float32))


def scored_singly(scorer: Scorer, X: Float32[np.ndarray, "n features"], codes: Any) -> Float32[np.ndarray, " n"]:
    """p_robot (n,) of the features of n clicks, to the bits that a `ClickJudge` gives for each; learns nothing.

    codes: (n, 3) uint32 of `categories.categories` for a network of the kind "embedding", else None. A product of
    matrices adds up in another order than one of a row and a matrix, so all clicks at once would differ by rounding.
    """
    if not isinstance(scorer, Network):
        return np.concatenate([scorer.p_robot(X[i : i + MOST]) for i in range(0, len(X), MOST)])
    out = np.empty(len(X), np.float32)
    for start in range(0, len(X), _ROWS):
        cut = slice(start, start + _ROWS)
        n = len(out[cut])
        parts = [None if each is None else np.zeros((_ROWS, each.shape[1]), each.dtype) for each in (X, codes)]
        for whole, part in zip((X, codes), parts, strict=True):
            if part is not None:
                part[:n] = whole[cut]
        out[cut] = np.asarray(_in_turn(scorer.params, scorer.mean, scorer.scale, *parts, np.int32(n)))[:n]
    return out


class _Batch:
    """A front with its memory, and views of what a batch writes there."""

    def __init__(self, front: ClickFront, engine: Engine, weights: list[Array]):
        self.front, self.memory = front, engine.memory_for(front)
        self.weights = engine.brought(front, weights)
        self.counts = self.memory[front.counts : front.known].reshape(front.size, -1)
        self.known = self.memory[front.known : front.features].reshape(front.size, -1)
        self.codes = self.known.view(np.uint32)[:, 3:_LOOKED_UP]
        self.looked_up = self.known.view(np.float32)[:, _LOOKED_UP:]
        self.features, self.said = slice(front.features, front.said), slice(front.said, front.length)
        if front.counting:
            self.counting = BatchMemory(front.size, self.memory)


def _codes(clicks: Sequence[Click]) -> list[tuple[int, int, int]]:
    """What an embedding looks up for each click."""
    return [(category(click.user_agent), category(prefix(click.ip)), category(click.ad_id)) for click in clicks]


def _part(memory: Array, start: int, width: int, i: Array) -> Array:
    return jax.lax.dynamic_slice(memory, (start + width * i,), (width,))


def _put(memory: Array, floats: Array, at: Array) -> Array:
    return jax.lax.dynamic_update_slice(memory, floats.view(np.int32), (at,))


def _gathered(tree: Any) -> list[Array]:
    """The leaves of a tree, the small ones together in one: each array that a call is given takes it 0.4 us."""
    leaves = jax.tree.leaves(tree)
    small = np.concatenate([np.ravel(leaf) for leaf in leaves if leaf.size < _SMALL])
    return [placed(np.asarray(leaf)) for leaf in (small, *(leaf for leaf in leaves if leaf.size >= _SMALL))]


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
