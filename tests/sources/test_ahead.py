"""Reading ahead: the same batches and the same errors, one of them ready, and no thread left behind."""

import threading
import time
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlineguard.errors import SourceError
from onlineguard.sources import read_ahead


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "onlineguard reader"]


def batches(n, failure=None, closed=None):
    try:
        yield from range(n)
        if failure is not None:
            raise failure
    finally:
        if closed is not None:
            closed.append(True)


@given(st.integers(0, 5), st.integers(0, 5), st.booleans())
def test_batches_errors_and_the_end_come_as_without_it(n, used, fails):
    closed, found = [], []
    ahead = read_ahead(batches(n, SourceError("breaks off") if fails else None, closed))
    if used > n:
        with pytest.raises(SourceError, match="breaks off") if fails else nullcontext():
            found.extend(ahead)
        assert found == list(range(n))
    else:
        found = [next(ahead) for _ in range(used)]
        assert found == list(range(used))
    ahead.close()
    assert readers() == []
    assert closed == [True] * (used > 0)  # what was never asked for a batch has not begun


def test_one_batch_is_read_while_another_is_in_work():
    begun = []

    def slow():
        for i in range(3):
            begun.append(i)
            yield i

    ahead = read_ahead(slow())
    assert next(ahead) == 0
    for _ in range(200):
        if len(begun) > 1:
            break
        time.sleep(0.01)
    assert 1 in begun
    assert list(ahead) == [1, 2]


def test_a_reader_that_waits_for_ever_holds_up_nobody(monkeypatch):
    monkeypatch.setattr("onlineguard.sources.ahead.GRACE", 0.05)
    more = threading.Event()

    def pipe():
        yield 0
        more.wait()

    ahead = read_ahead(pipe())
    assert next(ahead) == 0
    start = time.monotonic()
    ahead.close()
    assert time.monotonic() - start < 5.0
    more.set()
    for thread in readers():
        thread.join(5.0)
    assert readers() == []


def test_an_interrupt_goes_through_to_the_caller():
    more = threading.Event()

    def pipe():
        yield 0
        more.wait()

    ahead = read_ahead(pipe())
    assert next(ahead) == 0
    with pytest.raises(KeyboardInterrupt):
        ahead.throw(KeyboardInterrupt)
    more.set()
