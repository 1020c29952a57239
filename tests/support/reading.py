"""Sources to read, and what is read of them."""

import gzip
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from onlineguard.sources import Source

HEADER = b"time,host,cpu,odd\n"
ROWS = b"2024-01-01 00:00:00,a,1.5,0\n2024-01-01 00:00:01,b,,1\n2024-01-01 00:00:02,a,-3e2,0\n"


def source(path: Path, **options) -> Source:
    options = {"slice_columns": ["host"], "feature_columns": ["cpu"]} | options
    return Source(path, **options)


def full(path: Path, **options) -> Source:
    return source(path, **{"time_column": "time", "label_column": "odd"} | options)


def rows(batches) -> list[tuple]:
    """Every event as one tuple, NaN written as None so that equality is equality."""
    events: list[tuple] = []
    for batch in batches:
        keys = batch.slices.to_list() if isinstance(batch.slices, pl.Series) else batch.slices.rows()
        X = [[None if np.isnan(x) else float(x) for x in row] for row in batch.X]
        times = [None] * len(batch) if batch.times is None else batch.times.tolist()
        labels = [None] * len(batch) if batch.labels is None else batch.labels.tolist()
        events += zip(keys, map(tuple, X), times, labels, batch.line_numbers.tolist(), strict=True)
    return events


def set_aside(read: Source) -> list[dict]:
    return [json.loads(line) for line in read.rejects.read_text().splitlines()] if read.rejects.exists() else []


@contextmanager
def internals(values: Mapping[str, object]) -> Generator[None]:
    """Other values of names in `onlineguard.sources`; a fixture would live through all examples of a property test."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setattr(f"onlineguard.sources.{name}", value)
        yield


def frame() -> pl.DataFrame:
    return pl.read_csv(HEADER + ROWS, try_parse_dates=True)


def write(path: Path) -> Path:
    """The three rows in the format that the name of `path` tells."""
    text = HEADER + ROWS
    if path.name.removesuffix(".gz").endswith(("ndjson", "jsonl")):
        text = frame().with_columns(pl.col("time").cast(pl.String)).write_ndjson().encode()
    if ".tsv" in path.name:
        text = text.replace(b",", b"\t")
    if path.suffix == ".parquet":
        frame().write_parquet(path)
    else:
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path
