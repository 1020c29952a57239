"""Parquet: columns of the right type are read, as far as the file is whole."""

import numpy as np
import polars as pl
import pytest

from onlineguard.errors import SourceError
from onlineguard.sources import Batch, Source
from tests.support.reading import rows, source


def test_a_broken_parquet_file_is_one_error_after_its_good_rows(tmp_path):
    path = tmp_path / "e.parquet"
    pl.DataFrame({"host": ["a"] * 9_000, "cpu": np.arange(9_000)}).write_parquet(path, row_group_size=3_000)
    data = bytearray(path.read_bytes())
    last_group = len(data) * 2 // 3  # roughly; the schema at the end stays whole
    data[last_group - 60 : last_group + 400] = b"\xff" * 460
    path.write_bytes(data)
    batches: list[Batch] = []
    with pytest.raises(SourceError, match="breaks off after the rows read so far"):
        batches.extend(source(path, batch_rows=1_000))
    events = rows(batches)
    assert [event[1][0] for event in events] == list(range(len(events)))
    assert 0 < len(events) < 9_000


def test_a_parquet_column_of_the_wrong_type_is_one_clear_error(tmp_path):
    path = tmp_path / "e.parquet"
    pl.DataFrame({"host": ["a"], "cpu": [[1.0]]}).write_parquet(path)
    with pytest.raises(
        SourceError, match=r"feature column 'cpu' of .* is of type List\(Float64\), which is no number; cast it"
    ):
        rows(source(path))


def test_a_field_of_a_struct_is_a_column_whose_name_has_a_dot(tmp_path):
    frame = pl.DataFrame({"at": [{"host": {"name": "a"}, "n": 1}, {"host": {"name": "b"}, "n": 2}], "at.n": [5.0, 6.0]})
    frame.write_parquet(tmp_path / "e.parquet")
    (batch,) = Source(tmp_path / "e.parquet", ["at.host.name"], None)
    assert (batch.slices.to_list(), batch.X.tolist()) == (["a", "b"], [[5.0], [6.0]])
