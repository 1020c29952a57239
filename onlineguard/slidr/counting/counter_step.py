"""Clicks into the rows of their entities, in order, compiled: what the counters of `counters` are made of.

A batch lies in one array of int32, its *memory*, since each array that a compiled program is given takes it as long as
a part of a click: the rows of the entities that the clicks belong to, what is known of each click, and the numbers that
each sees. The program steps the rows in place; the store reads them from the memory and writes them back.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32

from onlineguard.core.protocols import Array
from onlineguard.engine.batches import aligned
from onlineguard.programs import Program
from onlineguard.slidr.counting.windows import (
    BUCKET_MS,
    CAP,
    COLUMNS,
    ENTITIES,
    FIRST,
    LASTING,
    OCTAVE,
    OF_AD,
    OF_EACH,
    PAUSE_MS,
    PAUSES,
    PRIOR_PAUSES,
    PRIOR_SPREAD,
    RINGS,
)

jax.config.update(
    "jax_cpu_enable_async_dispatch", False
)  # halves a call with one click; see `onlineguard.engine.table`

# A row of one entity: the counts of all buckets of all rings, each ring turned so that bucket b is at b modulo its
# length; then the head, as its shortest bucket and the milliseconds within; then of its pauses the number, and the sums
# of their logarithms and of the squares of these. A row of zeros is an entity never seen: times are moved on by two
# days, so that a head of 0 is always too old to matter.
LANES = 64
HEAD, _HEAD_MS, _PAUSES, _PAUSE_SUM, _PAUSE_SQUARES = range(54, 59)
DAY = 23  # where the ring of 24 h begins
MOVED_ON = 2 * 24 * 360
_IP = ENTITIES.index("ip")
# Where the numbers of the entities begin in `COLUMNS`, those of their weeks, of the ip's members, and of the ad.
_WEEKS = len(OF_EACH) * len(ENTITIES)
_PARTS = (*range(0, _WEEKS, len(OF_EACH)), _WEEKS, _WEEKS + len(LASTING), len(COLUMNS) - len(OF_AD))
_FLOAT_SHIFT, _FLOAT_ONE = 23 - (OCTAVE.bit_length() - 1), 127 * OCTAVE  # a float's bits as a logarithm

# What an ip has besides: rings of the distinct users and sessions by their newest click, and of the 1 h numbers' peaks.
GATEWAY_LANES = 128
_GATEWAY_RINGS = (2, 2, 3, 3, 3, 3)  # 1 h users, sessions; 24 h; peaks

# A row of an ad: the rings of the three counts, and the head as its shortest bucket.
_AD_RINGS = (3,) * len(OF_AD)
AD_DAY, AD_HEAD = 0, sum(RINGS[ring][1] for ring in _AD_RINGS)  # where that of all clicks begins, and the head
AD_LANES = AD_HEAD + 1


class _Lanes:
    """Which ring each lane of a row is of, given the numbers of the lanes, and of each part of the row the ring."""

    def __init__(self, number: Array, rings: Sequence[int]):
        self.number, self.rings = number, rings
        lengths = [RINGS[ring][1] for ring in rings]
        self.ends = [*itertools.accumulate(lengths)]
        self.starts = [end - length for end, length in zip(self.ends, lengths, strict=True)]
        self.place = self.number - self.each(self.starts, -(10**6))  # within its ring; far outside where there is none
        self.slots = self.each(lengths, 0)

    def each(self, values: Sequence[Any], other: Any) -> Array:
        """By lane what belongs to its ring; `other` where it is of none."""
        lanes = jnp.full(self.number.shape, other)
        for end, value in zip(reversed(self.ends), reversed(values), strict=True):
            if isinstance(value, jax.Array):
                value = jax.lax.optimization_barrier(value)  # else XLA works it out anew for each lane
            lanes = jnp.where(self.number < end, value, lanes)
        return lanes

    def of(self, *parts: int) -> Array:
        """Whether a lane is of one of these parts, which follow each other."""
        return (self.number >= self.starts[parts[0]]) & (self.number < self.ends[parts[-1]])

    def ages(self, end: Array, head: Array) -> tuple[Array, Array]:
        """How many buckets before that of `end` its bucket is, and how many buckets have passed since `head`."""
        steps = [_div(end, length) for length, _ in RINGS]
        turned = [jax.lax.rem(step, jnp.full_like(end, n)) for step, (_, n) in zip(steps, RINGS, strict=True)]
        passed = [step - _div(head, length) for step, (length, _) in zip(steps, RINGS, strict=True)]
        at = self.each([turned[ring] for ring in self.rings], 0)
        ages = at - self.place + jnp.where(self.place > at, self.slots, 0)
        return ages, self.each([passed[ring] for ring in self.rings], 0)


# What an event says of its click: where in the memory the rows of its user, session, ip, prefix and ad begin, and where
# the newest click of its user there and of its session there lies; its time as shortest bucket and milliseconds within;
# 1 or 0 for whether its user, its session, and it at all are counted, and for whether its visitor is signed in.
FIELDS = 13
WIDTHS = (LANES, LANES, LANES + GATEWAY_LANES, LANES, AD_LANES)  # of a row of user, session, ip, prefix and ad
_TABLES = len(WIDTHS)


class Sheet:
    """Where the parts of a batch of at most `size` clicks begin in its memory, each after the one before it.

    tables: the rows of users, sessions, ips, prefixes and ads, and the newest clicks of the pairs.
    events: (size, FIELDS).
    counts: (size, 34), what each click sees, in the order of `COLUMNS`.
    clicks: the number of clicks that `advance` takes.
    """

    def __init__(self, size: int):
        self.size = size
        widths = (*WIDTHS, 2)
        *tables, self.events = itertools.accumulate(widths, lambda start, width: start + width * size, initial=0)
        self.tables = tuple(tables)
        self.counts = self.events + FIELDS * size
        self.clicks = self.counts + len(COLUMNS) * size
        self.length = self.clicks + 1


class BatchMemory:
    """A batch of at most `size` clicks as the compiled loop takes it: one array, and views of its parts.

    numbers: the array, where it is to be longer than the `Sheet`: for a caller who does more in the loop than to count.
    """

    def __init__(self, size: int, numbers: Int32[np.ndarray, " numbers"] | None = None):
        self.sheet = Sheet(size)
        self.numbers = aligned(1, self.sheet.length)[0].view(np.int32) if numbers is None else numbers
        self.numbers[: self.sheet.length] = 0
        self.events = self.numbers[self.sheet.events : self.sheet.counts].reshape(size, FIELDS)

    def starts(self, click: int) -> Sequence[int]:
        """Where the rows of user, session, ip, prefix and ad of a click begin, and its pairs."""
        if not click:
            return self.sheet.tables
        return [start + width * click for start, width in zip(self.sheet.tables, (*WIDTHS, 2), strict=True)]

    def counts(self, numbers: Int32[np.ndarray, " numbers"]) -> Int32[np.ndarray, "size 34"]:
        """What each click sees, in an array such as this."""
        return numbers[self.sheet.counts : self.sheet.clicks].reshape(-1, len(COLUMNS))


@functools.lru_cache
def advance(size: int) -> Program:
    """The compiled loop for batches of at most `size`: from a memory to that after its clicks, in order."""
    sheet = Sheet(size)

    def run(memory: Array) -> Array:
        return jax.lax.fori_loop(0, memory[sheet.clicks], lambda i, memory: counted(sheet, memory, i), memory)

    return Program(run, of=(size,))


def counted(sheet: Sheet, memory: Array, i: Array) -> Array:
    """The memory after click i, within a compiled loop: its entities' rows are renewed, and its counts are filled in.

    Whatever is put together here is written part by part into the memory: XLA would work out each number of a
    concatenation by asking which part it is of, which takes five times as long.
    """
    # Of each array of constants XLA makes a buffer in every call, and thirty of them took longer than all the counting:
    # here they are made of the numbers of the lanes, and those together with what differs from click to click, since
    # else they would be made before the loop, in parts for which XLA would ask a pool of threads.
    *lanes, memory = jax.lax.optimization_barrier(
        (*(jax.lax.iota(np.int32, n) for n in (LANES, GATEWAY_LANES, AD_LANES)), memory)
    )
    # Without the barriers what is read is read once per use, and XLA must copy the memory to keep the old one alive.
    event = jax.lax.optimization_barrier(
        [number_at(memory, sheet.events + FIELDS * i + field) for field in range(FIELDS)]
    )
    at, pairs = event[:_TABLES], event[_TABLES : _TABLES + 2]
    rows, last = jax.lax.optimization_barrier(
        (
            [jax.lax.dynamic_slice(memory, (start,), (width,)) for start, width in zip(at, WIDTHS, strict=True)],
            [number_at(memory, pair) for pair in pairs],
        )
    )
    *rows, ad = rows
    after = _step(lanes, [row[:LANES] for row in rows], rows[_IP][LANES:], ad, last, event[_TABLES + 2 :])
    for start, row in zip(at, after.rows, strict=True):
        memory = put(memory, row, start)
    memory = put(memory, after.there, at[_IP] + LANES)
    for pair, newest in zip(pairs, after.newest, strict=True):
        memory = put(memory, newest[None], pair)
    for start, part in zip(_PARTS, after.numbers, strict=True):
        memory = put(memory, part, sheet.counts + len(COLUMNS) * i + start)
    return memory


class _After(NamedTuple):
    """What a click leaves, and the numbers that it sees, in the parts that begin at `_PARTS`."""

    rows: list[Array]
    there: Array
    newest: list[Array]
    numbers: list[Array]


def _step(
    lanes: list[Array], rows: list[Array], there: Array, ad: Array, last: list[Array], event: Sequence[Array]
) -> _After:
    """The rows of user, session, ip, prefix and ad, what the ip has besides, and the newest clicks of the two pairs,
    after a click; its numbers.

    The lanes are those of an entity's row, of what an ip has besides, and of an ad's row, by number. The event is what
    follows the places in the memory, as `FIELDS` says.
    """
    time, ms, user, session, any_, signed = event
    newest = [jnp.maximum(last[k], jnp.where(event[2 + k] > 0, _div(time, 30), 0)) for k in range(2)]
    gateway, distinct = count_distinct(lanes[1], rows[_IP][HEAD], there, time, (user, session, any_), last, newest)
    counted = zip(rows, (user, session, any_, any_), strict=True)
    after, numbers, weeks = zip(*(count_click(lanes[0], row, time, ms, count) for row, count in counted), strict=True)
    lasting = jnp.stack([week for entity, week in zip(ENTITIES, weeks, strict=True) if entity in LASTING])
    ad, of_ad = count_visitors(lanes[2], ad, time, [any_, signed * any_, any_ - user])
    return _After([*after, ad], gateway, newest, [*numbers, lasting, distinct, of_ad])


def count_click(number: Array, row: Array, time: Array, ms: Array, counted: Array) -> tuple[Array, Array, Array]:
    """An entity's row after the click; its numbers, named by `OF_EACH`; and its count of the week."""
    lanes = _Lanes(number, range(len(RINGS)))
    head, head_ms = row[HEAD], row[_HEAD_MS]
    end = jnp.maximum(head, time)  # the bucket that the windows end with
    ages, passed = lanes.ages(end, head)
    late = lanes.each([_div(end, length) - _div(time, length) for length, _ in RINGS], -1)
    rings = jnp.where(ages >= passed, row, 0) + jnp.where(ages == late, counted, 0)
    *sums, week = [jnp.sum(rings[start:stop]) for start, stop in zip(lanes.starts, lanes.ends, strict=True)]
    gap = (time - head) * BUCKET_MS + ms - head_ms
    silent = _div(end, 360) - _div(head, 360) >= 24
    since = jnp.where(silent, FIRST, jnp.clip(gap, 0, FIRST))
    later = (time > head) | ((time == head) & (ms > head_ms))
    known = jnp.where(silent, 0, row[_PAUSES : _PAUSE_SQUARES + 1])
    pauses = _pauses([known[0], known[1], known[2]], gap, (counted > 0) & ~silent & (gap >= 0) & (gap < PAUSE_MS))
    head_after = (end, jnp.where(later, ms, head_ms))
    for lane, value in zip(range(HEAD, _PAUSE_SQUARES + 1), (*head_after, *pauses), strict=True):
        rings = jnp.where(lanes.number == lane, value, rings)
    return jnp.where(counted > 0, rings, row), jnp.stack([*sums, since, _spread(*pauses)]), week


def _pauses(known: list[Array], gap: Array, is_one: Array) -> list[Array]:
    """Number of pauses, sum of their logarithms, and of the squares, with the gap in milliseconds where it is one.

    After `PAUSES` of them the sums fade: each new pause takes a sixteenth of what they were.
    """
    bits = (jnp.clip(gap, 0, PAUSE_MS) + 1).astype(np.float32).view(np.int32)
    log = (bits >> _FLOAT_SHIFT) - _FLOAT_ONE
    fades = known[0] >= PAUSES
    added = [1, log, log * log]
    faded = [fades.astype(np.int32), *(jnp.where(fades, _div(total, PAUSES), 0) for total in known[1:])]
    return [total + jnp.where(is_one, more - less, 0) for total, more, less in zip(known, added, faded, strict=True)]


def _spread(n: Array, total: Array, squares: Array) -> Array:
    """The variance of the pauses' logarithms, with what is thought beforehand; see `windows`."""
    about = jnp.maximum(squares - _quotient(total * total, jnp.maximum(n, 1)), 0)  # fading may round it below zero
    return _quotient(about + PRIOR_PAUSES * PRIOR_SPREAD, n + PRIOR_PAUSES)


def count_distinct(
    number: Array,
    head: Array,
    there: Array,
    time: Array,
    counted: tuple[Array, Array, Array],
    last: list[Array],
    newest: list[Array],
) -> tuple[Array, Array]:
    """What an ip has besides its counts, after the click, and its six numbers; `head` is the ip's before it.

    `last` and `newest` are the 5 min buckets of the newest click of this user, and of this session, at this ip, before
    the click and with it: each is counted in one bucket of each ring, and moves from the one to the other.
    """
    lanes = _Lanes(number, _GATEWAY_RINGS)
    end = jnp.maximum(head, time)
    ages, passed = lanes.ages(end, head)
    five, hour = _div(end, 30), _div(end, 360)
    was = [five - last[0], five - last[1], hour - _div(last[0], 12), hour - _div(last[1], 12)]
    now = [five - newest[0], five - newest[1], hour - _div(newest[0], 12), hour - _div(newest[1], 12)]
    moves = lanes.each([counted[0], counted[1], counted[0], counted[1], 0, 0], 0)
    gained = (ages == lanes.each([*now, 0, 0], 0)).astype(jnp.int32) - (ages == lanes.each([*was, 0, 0], 0))
    after = jnp.where(ages >= passed, there, 0) + gained * moves
    sums = [jnp.minimum(jnp.sum(after[lanes.starts[k] : lanes.ends[k]]), CAP) for k in range(4)]
    peak = lanes.each([0, 0, 0, 0, sums[0], sums[1]], 0) * counted[2]
    after = jnp.where(lanes.of(4, 5) & (ages == 0), jnp.maximum(after, peak), after)
    largest = [jnp.max(after[lanes.starts[k] : lanes.ends[k]]) for k in (4, 5)]
    numbers = jnp.stack([sums[0], sums[2], sums[1], sums[3], *largest])
    return jnp.where(counted[2] > 0, after, there), numbers


def count_visitors(number: Array, row: Array, time: Array, counted: list[Array]) -> tuple[Array, Array]:
    """An ad's row after the click, and its three counts; `counted` is 1 or 0 for each of them."""
    lanes = _Lanes(number, _AD_RINGS)
    head = row[AD_HEAD]
    end = jnp.maximum(head, time)
    ages, passed = lanes.ages(end, head)
    late = _div(end, 360) - _div(time, 360)
    after = jnp.where(ages >= passed, row, 0) + jnp.where(ages == late, lanes.each(counted, 0), 0)
    sums = [jnp.sum(after[start:stop]) for start, stop in zip(lanes.starts, lanes.ends, strict=True)]
    after = jnp.where(number == AD_HEAD, end, after)
    return jnp.where(counted[0] > 0, after, row), jnp.stack(sums)


def put(memory: Array, part: Array, at: Array) -> Array:
    """The memory with a part of it replaced, from the place `at` on."""
    return jax.lax.dynamic_update_slice(memory, part, (at,))


def number_at(memory: Array, at: Array) -> Array:
    """One number of the memory."""
    return jax.lax.dynamic_index_in_dim(memory, at, keepdims=False)


def _quotient(number: Array, by: Array) -> Array:
    """number // by of numbers that are not negative, and positive ones."""
    return jax.lax.div(number, by)


def _div(number: Array, by: int) -> Array:
    """number // by of numbers that are not negative, which takes half the time of `//`."""
    return jax.lax.div(number, jnp.full_like(number, by))
