"""One kind of entity counted by itself, for a log that is cut by entity; `counter_step` counts all kinds at once.

What a click sees of its user depends on no click of other users, and so for sessions, ips, prefixes and ads. So each
kind can be counted alone, and of each kind some entities after the others, with the arithmetic of `counter_step` and so
with its bits. Whoever does it says when each click counts (`click_clock`) and which ones are duplicates: these depend
on all clicks.

An ip is counted with the pairs of its users and sessions, whose newest click there tells how many are distinct.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int32, Int64

from onlineguard.core.protocols import Array
from onlineguard.engine.batches import aligned
from onlineguard.slidr.counting.counter_step import (
    AD_LANES,
    GATEWAY_LANES,
    HEAD,
    LANES,
    MOVED_ON,
    count_click,
    count_distinct,
    count_visitors,
    number_at,
    put,
)
from onlineguard.slidr.counting.windows import (
    BUCKET_MS,
    COLUMNS,
    ENTITIES,
    FIRST,
    LASTING,
    OF_AD,
    OF_EACH,
    PRIOR_SPREAD,
)

Kind = Literal["user", "session", "ip", "prefix", "ad"]
KINDS: tuple[Kind, ...] = get_args(Kind)

WIDTH: dict[Kind, int] = {  # of a row
    **{"user": LANES, "session": LANES, "prefix": LANES},
    **{"ip": LANES + GATEWAY_LANES, "ad": AD_LANES},
}
BATCH = 2_048  # clicks of a call: their rows fit into the cache of a core
# What a click sees of an entity that it does not name, or that was never seen and is not counted now.
NEVER = (0,) * (len(OF_EACH) - 2) + (FIRST, PRIOR_SPREAD)

_DISTINCT = len(OF_EACH) * len(ENTITIES) + len(LASTING)  # where an ip's distinct users and sessions begin in `COLUMNS`
_FLAGS = ("user", "session", "any", "signed")
_FIELDS = 3 + 2 + len(_FLAGS)  # of a click: its rows, its time in buckets and milliseconds within, and the flags


def columns_of(kind: Kind) -> list[int]:
    """Which of `COLUMNS` a kind gives, in the order in which `Tally.count` gives them."""
    if kind == "ad":
        return [*range(len(COLUMNS) - len(OF_AD), len(COLUMNS))]
    start = len(OF_EACH) * ENTITIES.index(kind)
    own = [*range(start, start + len(OF_EACH))]
    if kind != "ip":
        return own
    return [*own, _DISTINCT - 1, *range(_DISTINCT, len(COLUMNS) - len(OF_AD))]


class Tally:
    """The rows of some entities of a kind, and of an ip's pairs; all zeros are entities never seen.

    entities, pairs: how many there are.
    """

    def __init__(self, kind: Kind, entities: int, pairs: int = 0):
        self.kind: Kind = kind
        self.table: Int32[np.ndarray, "entities lanes"] = np.zeros((entities, WIDTH[kind]), np.int32)
        self.newest: Int32[np.ndarray, " pairs"] = np.zeros(pairs + 1, np.int32)  # of pairs; the last stands for none
        self._places, self._pair_places = np.zeros(entities, np.int32), np.zeros(pairs + 1, np.int32)
        self._sheet = _Sheet(kind)
        self._memory: Int32[np.ndarray, " numbers"] = aligned(1, self._sheet.length)[0].view(np.int32)

    def forget(self) -> None:
        """Forget all that was counted."""
        self.table[:], self.newest[:] = 0, 0

    def count(
        self,
        rows: Int32[np.ndarray, " n"],
        times: Int64[np.ndarray, " n"],
        flags: Sequence[Bool[np.ndarray, " n"]],
        pairs: Int32[np.ndarray, "2 n"] | None = None,
    ) -> Int32[np.ndarray, "n numbers"]:
        """Count n clicks in their order; what each sees, in the columns `columns_of(kind)`.

        rows: the entity of each. times: ms since 1970 at which they count.
        flags: whether the user is known and counts, and so for the session, whether the click counts, and whether it is
            signed in. pairs: those of its user and its session at its ip; -1 for none.
        """
        out = np.empty((len(rows), len(columns_of(self.kind))), np.int32)
        for start in range(0, len(rows), BATCH):
            part = slice(start, start + BATCH)
            its_pairs = None if pairs is None else pairs[:, part]
            self._batch(rows[part], times[part], [flag[part] for flag in flags], its_pairs, out[part])
        return out

    def _batch(self, rows: Any, times: Any, flags: Any, pairs: Any, out: Any) -> None:
        n, sheet, memory, width = len(rows), self._sheet, self._memory, WIDTH[self.kind]
        held = memory[: n * width].reshape(n, width)
        self.table.take(rows, 0, held, "clip")
        order = np.arange(n, dtype=np.int32)
        self._places[rows] = order  # of an entity that is there several times, the last place is the one in use
        events = memory[sheet.events : sheet.counts].reshape(BATCH, _FIELDS)[:n]
        events[:, 0] = self._places[rows] * width
        both = None if pairs is None else pairs.T.ravel()
        if both is not None:
            self._pair_places[both] = np.arange(2 * n, dtype=np.int32)
            memory[sheet.pairs : sheet.pairs + 2 * n] = self.newest[both]
            events[:, 1:3] = (sheet.pairs + self._pair_places[both]).reshape(n, 2)
        events[:, 3], events[:, 4] = times // BUCKET_MS + MOVED_ON, times % BUCKET_MS
        for field, flag in enumerate(flags, 5):
            events[:, field] = flag
        memory[sheet.clicks] = n
        after = np.asarray(_advance(self.kind)(memory))
        self.table[rows] = after[: n * width].reshape(n, width)
        if both is not None:
            self.newest[both] = after[sheet.pairs : sheet.pairs + 2 * n]
            self.newest[-1] = 0
        out[:] = after[sheet.counts : sheet.clicks].reshape(BATCH, -1)[:n]


class _Sheet:
    """Where the parts of a memory begin: rows, pairs, clicks, what they see, and the number of clicks."""

    def __init__(self, kind: Kind):
        self.pairs = BATCH * WIDTH[kind]
        self.events = self.pairs + 2 * BATCH * (kind == "ip")
        self.counts = self.events + BATCH * _FIELDS
        self.numbers = len(columns_of(kind))
        self.clicks = self.counts + BATCH * self.numbers
        self.length = self.clicks + 1


@functools.cache
def _advance(kind: Kind) -> Callable[[Array], Array]:
    """The compiled loop: from a memory to that after its clicks, in order."""
    sheet = _Sheet(kind)

    @jax.jit
    def run(memory: Array) -> Array:
        return jax.lax.fori_loop(0, memory[sheet.clicks], lambda i, memory: _counted(kind, sheet, memory, i), memory)

    return run


def _counted(kind: Kind, sheet: _Sheet, memory: Array, i: Array) -> Array:
    """The memory after click i. The barriers are those of `counter_step.counted`, for its reasons."""
    *lanes, memory = jax.lax.optimization_barrier(
        (*(jax.lax.iota(np.int32, n) for n in (LANES, GATEWAY_LANES, AD_LANES)), memory)
    )
    at, *pairs, time, ms, user, session, any_, signed = jax.lax.optimization_barrier(
        [number_at(memory, sheet.events + _FIELDS * i + field) for field in range(_FIELDS)]
    )
    pairs = pairs if kind == "ip" else []
    row, last = jax.lax.optimization_barrier(
        (jax.lax.dynamic_slice(memory, (at,), (WIDTH[kind],)), [number_at(memory, pair) for pair in pairs])
    )
    seen = sheet.counts + sheet.numbers * i
    if kind == "ad":
        row, numbers = count_visitors(lanes[2], row, time, [any_, signed * any_, any_ - user])
        return put(put(memory, row, at), numbers, seen)
    counts = {"user": user, "session": session}.get(kind, any_)
    after, numbers, week = count_click(lanes[0], row[:LANES], time, ms, counts)
    if kind == "ip":
        newest = [
            jnp.maximum(last[k], jnp.where((user, session)[k] > 0, jax.lax.div(time, jnp.full_like(time, 30)), 0))
            for k in range(2)
        ]
        there, distinct = count_distinct(lanes[1], row[HEAD], row[LANES:], time, (user, session, any_), last, newest)
        memory = put(memory, there, at + LANES)
        for pair, value in zip(pairs, newest, strict=True):
            memory = put(memory, value[None], pair)
        memory = put(memory, week[None], seen + len(OF_EACH))
        memory = put(memory, distinct, seen + len(OF_EACH) + 1)
    return put(put(memory, after, at), numbers, seen)
