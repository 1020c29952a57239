"""Blocks: gzip in any number of members, whole or cut off."""

import gzip
import io

import numpy as np
import pytest

from onlineguard.errors import SourceError
from tests.support.reading import internals, rows, source


def test_a_truncated_gzip_file_is_one_error_after_its_good_rows(tmp_path):
    path = tmp_path / "e.csv.gz"
    random = np.random.default_rng(0)
    text = b"host,cpu\n" + b"".join(b"a,%.6f\n" % x for x in random.normal(size=5_000))
    path.write_bytes(gzip.compress(text)[:-2_000])
    read, batches = source(path, batch_rows=1_000), []
    with pytest.raises(SourceError, match="breaks off after the rows read so far: the gzip file ends before"):
        batches.extend(read)
    values = [event[1][0] for event in rows(batches)]
    expected = np.loadtxt(io.BytesIO(text), delimiter=",", skiprows=1, usecols=1, dtype=np.float32)
    assert 3_000 < len(values) < 5_000
    assert values == expected[: len(values)].tolist()
    assert read.rejected == 0


def test_gzip_members_in_a_row_are_one_file(tmp_path):
    path = tmp_path / "e.csv.gz"
    path.write_bytes(gzip.compress(b"host,cpu\na,1") + gzip.compress(b"2\nb,3\n") + b"\0" * 100)
    with internals({"blocks.BLOCK_BYTES": 5}):
        assert [event[:2] for event in rows(source(path))] == [("a", (12.0,)), ("b", (3.0,))]


def test_a_gzip_file_that_is_cut_off_before_its_first_row_cannot_be_read(tmp_path):
    path = tmp_path / "e.csv.gz"
    path.write_bytes(gzip.compress(b"host,cpu\na,1\n")[:-12])
    with internals({"blocks.BLOCK_BYTES": 9}), pytest.raises(SourceError, match="cannot be read: the gzip file ends"):
        rows(source(path))
