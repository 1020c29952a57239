"""Batches: a given number of events, in the form that the engine takes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from onlineguard.engine.keys import SliceKeys, as_keys
from onlineguard.errors import SourceError


@dataclass(frozen=True)
class Batch:
    """Consecutive events of a source.

    `slices` is a polars Series for one slice column (strings; integers where a Parquet column is of integers) and a
    frame for several. An empty or missing key is "". Without a slice column every event belongs to "all". `keys` are
    the same as the engine takes them.
    `X` has NaN where a feature is missing. `times` are microseconds since 1970 in UTC, `NO_TIME` where missing, a time
    without a zone being taken as UTC. `labels` are 1 inside a label and 0 elsewhere, an empty one included.
    `line_numbers` count from 1 in each file and include a header; in Parquet they are row numbers. `files` are the
    names of the files, where a source is of several. `kept` are the columns that are carried along, as they are.
    """

    slices: pl.Series | pl.DataFrame
    keys: SliceKeys
    X: Float[np.ndarray, "n d"]
    times: Int[np.ndarray, " n"] | None
    labels: Int[np.ndarray, " n"] | None
    line_numbers: Int[np.ndarray, " n"]
    files: pl.Series | None = None
    kept: pl.DataFrame | None = None

    def __len__(self) -> int:
        return len(self.X)


def in_batches(frames: Iterator[pl.DataFrame], n: int, at_once: bool = False) -> Iterator[Batch]:
    """The events of all frames in batches of n; the last may be shorter, and comes also when the source breaks off.

    at_once: no event waits for others that may never come.
    """
    held: list[pl.DataFrame] = []
    missing = n
    failure: SourceError | None = None
    try:
        for frame in frames:
            while len(frame) >= missing:
                yield _batch([*held, frame.head(missing)])
                held, missing, frame = [], n, frame.slice(missing)
            if len(frame):
                held.append(frame)
                missing -= len(frame)
            if at_once and held:
                yield _batch(held)
                held, missing = [], n
    except SourceError as error:
        failure = error
    if held:
        yield _batch(held)
    if failure is not None:
        raise failure


def _batch(frames: list[pl.DataFrame]) -> Batch:
    frame = pl.concat(frames)
    slices = frame.select(pl.col("^slice .*$"))
    slices = slices.to_series() if slices.width == 1 else slices
    kept = frame.select(pl.col("^kept (?s:.)*$"))
    return Batch(
        slices,
        as_keys(slices, len(frame)),
        frame.select(pl.col("^x .*$")).to_numpy(order="c", writable=True),
        frame.get_column("time").to_numpy(writable=True) if "time" in frame.columns else None,
        frame.get_column("label").to_numpy(writable=True) if "label" in frame.columns else None,
        frame.get_column("line").to_numpy(writable=True),
        frame.get_column("file") if "file" in frame.columns else None,
        kept.rename(lambda name: name.removeprefix("kept ")) if kept.width else None,
    )
