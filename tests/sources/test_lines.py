"""Lines: no length of one costs memory."""

import gzip
import tracemalloc

import pytest

from tests.support.reading import rows, set_aside, source


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz", "e.ndjson"])
def test_one_endless_line_costs_no_memory(tmp_path, name):
    path = tmp_path / name
    opener = gzip.open if name.endswith("gz") else open
    start, good, end = (b'{"host":"', b'{"host":"a","cpu":1}\n', b"\n") if "json" in name else (b"", b"a,1\n", b'",2\n')
    with opener(path, "wb") as file:
        file.write((b"" if "json" in name else b"host,cpu\n") + good + start)
        for _ in range(64):
            file.write(b"x" * (1 << 20))
        file.write(end + good)
    tracemalloc.start()
    read = source(path)
    events = rows(read)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [event[:2] for event in events] == [("a", (1.0,))] * 2
    (record,) = set_aside(read)
    assert record["reason"] == "longer than 1,048,576 bytes"
    assert len(record["text"]) <= 2_000
    assert peak < 32 << 20
