"""Forked: the state of the moment of the fork, whatever happens after; nothing is left behind."""

import fcntl
import os
import socket
import time

import numpy as np
import pytest
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.journal import forked
from onlineguard_service.journal.forked import Forked
from onlineguard_service.journal.packing import pack, unpack

pytestmark = pytest.mark.skipif(not forked.AVAILABLE, reason="forks are used on Linux only")


def children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


def test_it_has_the_state_as_it_was_and_packs_it_as_it_would_be_packed_here():
    before = set(children())
    numbers, names = np.arange(100_000), [f"name {i}" for i in range(1_000)]
    state = {"numbers": numbers, "names": names, "nothing": None, "nested": {"a": [b"1", 2.5]}}
    expected = {name: pack(value) for name, value in state.items()}
    parts = Forked(lambda: state)
    numbers[:] = 0
    names.clear()
    assert list(parts) == list(expected)
    assert {name: bytes(part) for name, part in parts.items()} == expected
    assert unpack(bytes(parts["numbers"]))[-1] == 99_999
    assert set(children()) == before


def test_a_state_that_cannot_be_packed_is_said_to_be_so(capfd):
    def state():
        raise RuntimeError("broken")

    parts = Forked(state)
    for _ in range(2):
        with pytest.raises(JournalUnavailable, match="could not be packed: its fork ended with status"):
            dict(parts)


def test_one_that_does_not_end_is_given_up(monkeypatch):
    monkeypatch.setattr(forked, "LONGEST", 0.2)
    with pytest.raises(JournalUnavailable, match="status 9"):
        dict(Forked(lambda: {"a": time.sleep(60)}))


def test_one_that_nobody_looks_at_leaves_no_process_and_no_file():
    before, files = set(children()), len(os.listdir("/proc/self/fd"))
    parts = Forked(lambda: {"a": time.sleep(60)})
    assert set(children()) - before
    del parts
    assert set(children()) == before
    assert len(os.listdir("/proc/self/fd")) == files


def test_it_holds_no_lock_and_no_port_of_this_process(tmp_path):
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        told, tell = os.pipe()

        def state():
            time.sleep(60)
            return {}

        parts = Forked(state)
        os.close(tell)
        assert os.read(told, 1) == b""  # the end, once the fork has closed its copy too
    os.close(told)
    os.close(lock)
    again = os.open(tmp_path / "lock", os.O_RDWR)
    fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with socket.create_server(address):
        pass
    os.close(again)
    del parts
