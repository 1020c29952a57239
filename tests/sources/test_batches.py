"""Batches: as the engine takes them, and each but the last full."""

import numpy as np
import polars as pl
import pytest

from onlineguard.sources import Batch
from tests.support.reading import full, internals, rows, source, write


def test_types_are_what_the_engine_takes(tmp_path):
    (batch,) = full(write(tmp_path / "e.csv"))
    assert isinstance(batch, Batch)
    assert batch.slices.dtype == pl.String
    assert (batch.X.dtype, batch.X.shape, batch.times.dtype) == (np.float32, (3, 1), np.int64)
    assert (batch.labels.dtype, batch.line_numbers.dtype) == (np.int8, np.int64)
    (batch,) = source(tmp_path / "e.csv")
    assert (batch.times, batch.labels) == (None, None)


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 7, 1_000])
def test_every_batch_but_the_last_has_batch_rows_rows(tmp_path, batch_rows):
    path = tmp_path / "e.csv"
    path.write_bytes(b"host,cpu\n" + b"".join(b"h%d,%d\n" % (i % 3, i) for i in range(50)))
    with internals({"blocks.BLOCK_BYTES": 64}):
        batches = list(source(path, batch_rows=batch_rows))
    assert {len(batch) for batch in batches[:-1]} <= {batch_rows}
    assert [event[1][0] for event in rows(batches)] == list(range(50))
