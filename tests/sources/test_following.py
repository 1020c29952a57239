"""A file that is followed is read on when it was rotated: renamed and made anew, or cut in place."""

import json
import os

import pytest

from onlineguard.errors import SourceError
from onlineguard.sources import Source


def renamed(file, text):
    file.rename(file.with_suffix(".1"))
    file.write_text(text, encoding="utf-8")


def cut(file, text):
    with file.open("r+", encoding="utf-8") as same:
        same.truncate(0)
        same.write(text)


def added(file, text):
    with file.open("a", encoding="utf-8") as same:
        same.write(text)


def events_as_they_come(read, n, do):
    """So many events as (slice, value); `do[i]` is called once i of them were read."""
    found, batches = [], iter(read)
    while len(found) < n:
        if len(found) in do:
            do.pop(len(found))()
        batch = next(batches)
        found += [(key, float(x[0])) for key, x in zip(batch.slices.to_list(), batch.X, strict=True)]
    batches.close()
    return found


@pytest.mark.parametrize("rotate", [renamed, cut])
@pytest.mark.parametrize("header", ["host;x\n", ""], ids=["with a header", "without one"])
def test_events_go_on_after_a_rotation(tmp_path, rotate, header):
    file = tmp_path / "log.csv"
    file.write_text("host;x\na;1,5\nb;2,5\n", encoding="utf-8")
    read = Source(file, ["host"], ["x"], follow=True)
    steps = {
        2: lambda: rotate(file, f"{header}c;3\n"),
        3: lambda: added(file, "d;4\n"),
        4: lambda: rotate(file, f"{header}e;5,5\n"),
    }
    assert events_as_they_come(read, 5, steps) == [("a", 1.5), ("b", 2.5), ("c", 3.0), ("d", 4.0), ("e", 5.5)]
    assert (read.rejected, dict(read.bad_fields)) == (0, {})


def test_what_is_left_of_the_old_file_comes_first_and_half_a_line_is_one(tmp_path):
    file = tmp_path / "log.ndjson"
    file.write_text("", encoding="utf-8")
    lines = [json.dumps({"host": "a", "x": i}) for i in range(5)]
    added(file, lines[0] + "\n")

    def left_behind():
        added(file, f"{lines[1]}\n{lines[2]}")
        renamed(file, f"{lines[3]}\n{lines[4]}\n")

    read = Source(file, ["host"], ["x"], follow=True)
    assert events_as_they_come(read, 5, {1: left_behind}) == [("a", float(i)) for i in range(5)]


def test_a_file_without_a_name_for_a_while_is_waited_for(tmp_path):
    file, old = tmp_path / "log.csv", tmp_path / "log.1"
    file.write_text("host,x\na,1\n", encoding="utf-8")
    steps = {1: lambda: (file.rename(old), added(old, "b,2\n")), 2: lambda: file.write_text("host,x\nc,3\n")}
    read = Source(file, ["host"], ["x"], follow=True)
    assert events_as_they_come(read, 3, steps) == [("a", 1.0), ("b", 2.0), ("c", 3.0)]


def test_what_is_neither_a_file_nor_the_standard_input_cannot_be_followed(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(SourceError, match="cannot be followed; pipe it in"):
        Source(tmp_path / "pipe.csv", ["host"], ["x"], follow=True)
