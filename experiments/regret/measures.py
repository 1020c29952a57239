"""The regret of every method on a stream, how it grows with the stream, and what it is relative to another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import Interval, interval, rng
from experiments.regret.methods import CONSTANT, WARM, estimators, scan_rates
from experiments.regret.streams import STREAMS, Source, Stream
from onlineguard.core.protocols import Array
from onlineguard.engine.schedules import scan_lanes

CHUNK = 1000  # events made and learned at a time, so that no stream is ever whole in memory
ORDER, SLACK = 2 / 3, 0.05  # of the derived rate, and what an interval of a measured slope may differ by


@dataclass(frozen=True)
class Cell:
    """What one process works on at a time."""

    row: int  # of STREAMS
    length: int
    seeds: int


@dataclass(frozen=True)
class Regrets:
    """Of one stream at one length, one number a seed."""

    constant: Array  # (rates, seeds)
    warm: Array  # (rates, seeds)
    methods: dict[str, Array]  # each (seeds,)


def repeated(tree: Any, count: int) -> Any:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(jnp.asarray(leaf), (count, *jnp.shape(leaf))), tree)


def distances(stream: Stream, sources: Sequence[Source], length: int) -> Any:
    """Chunk by chunk: of the fixed rates, (rates, seeds, events), and of every other method, (seeds, events)."""
    seeds = len(sources)
    fixed, others = estimators(stream)
    many = repeated(repeated(fixed.init(), seeds), len(CONSTANT) + len(WARM) + 1)
    states = {name: repeated(params.init(), seeds) for name, params in others.items()}
    mask = np.ones((seeds, CHUNK), bool)
    for _ in range(length // CHUNK):
        events = jax.tree.map(lambda *parts: np.stack(parts), *(source.chunk(CHUNK) for source in sources))
        many, far = scan_rates(fixed, many, events, mask)
        result = {}
        for name, params in others.items():
            states[name], result[name] = scan_lanes(params, states[name], events, mask)
        yield np.asarray(far, np.float64), {name: np.asarray(score, np.float64) for name, score in result.items()}


def measure(cell: Cell) -> Regrets:
    stream = STREAMS[cell.row]
    sources = [Source(stream, cell.length, rng(cell.row, cell.length, seed)) for seed in range(cell.seeds)]
    fixed, methods = np.zeros(()), {}
    for far, others in distances(stream, sources, cell.length):
        fixed = fixed + far.sum(-1)
        methods = {name: methods.get(name, 0.0) + score.sum(-1) for name, score in others.items()}
    constant, warm, decay = np.split(fixed, [len(CONSTANT), len(CONSTANT) + len(WARM)])
    rates = {"1/t": decay[0], "1/8": constant[3], "1/128": constant[7], "1/2048": constant[11]}
    return Regrets(constant, np.concatenate([warm, decay]), methods | rates)


def slope(lengths: Sequence[int], regrets: Sequence[Array]) -> Interval:
    """Exponent of T, fitted to each seed's regrets by least squares on log axes; the interval is over seeds."""
    x = np.log(np.asarray(lengths, np.float64))
    x = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    return interval(x @ np.log(np.stack(regrets)))


def ratio(ours: Array, best: Array) -> Interval:
    """Of two means over the same seeds, with the interval of the delta method."""
    value = float(ours.mean() / best.mean())
    spread = interval(ours - value * best)
    return Interval(value, value + spread.low / best.mean(), value + spread.high / best.mean())
