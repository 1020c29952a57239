"""A state packed by a fork of this process, which has it as it was at that moment, while this one goes on.

Packed here, a state of a million entities would keep the interpreter from all requests for a second, each minute. A
fork takes 10 ms at 600 MB of memory; then the two share it, page by page, until this process writes to a page.

The fork touches nothing but the state, in Python and NumPy, and memory of its own: threads do not exist in it, so what
only threads could finish (JAX's programs, the journal's syncs) must be finished before. It lets go of every file and
socket at once, so that a service killed and started again finds its lock and its port free.
"""

import mmap
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NoReturn

import msgspec

from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.journal.packing import pack

LONGEST = 600.0  # seconds until a fork that has not finished is given up
LOOK_EVERY = 0.01  # seconds
AVAILABLE = sys.platform == "linux"  # elsewhere a fork of a process with threads is not safe, or there is none

_END = 8  # bytes, the last ones: the length of the table before them


class Forked(Mapping[str, memoryview]):
    """The parts of a state, packed. The first look at any of them waits for the fork, so do that in a thread.

    Raises OSError if the process cannot be forked; a look raises JournalUnavailable if the fork did not finish.
    """

    def __init__(self, state: Callable[[], Mapping[str, Any]]):
        self._parts: dict[str, memoryview] | None = None
        self._file, self._pid, self._status = -1, 0, 0  # for `__del__`, should one of the next two fail
        self._file = os.memfd_create("onlineguard-state")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of forks beside threads, which this one does without
            self._pid = os.fork()
        if not self._pid:
            _pack_and_exit(state, self._file)

    def __getitem__(self, name: str) -> memoryview:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __del__(self) -> None:
        if self._pid:  # nobody looked
            with suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
        if self._parts is None and self._file >= 0:
            os.close(self._file)

    def _all(self) -> dict[str, memoryview]:
        if self._parts is None:
            self._wait()
            contents = memoryview(mmap.mmap(self._file, 0, prot=mmap.PROT_READ))
            os.close(self._file)
            end = len(contents) - _END
            start = end - int.from_bytes(contents[end:])
            at, self._parts = 0, {}
            for name, size in msgspec.msgpack.decode(contents[start:end]):
                self._parts[name] = contents[at : at + size]
                at += size
        return self._parts

    def _wait(self) -> None:
        given_up = time.monotonic() + LONGEST
        while self._pid:
            pid, self._status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._pid = 0
                break
            if time.monotonic() > given_up:
                os.kill(self._pid, signal.SIGKILL)
            time.sleep(LOOK_EVERY)
        if self._status:
            raise JournalUnavailable(f"the state could not be packed: its fork ended with status {self._status}")


def _pack_and_exit(state: Callable[[], Mapping[str, Any]], file: int) -> NoReturn:
    """What the fork does. It never returns to the event loop that it has a copy of."""
    code = 1
    try:
        with suppress(OSError):
            os.nice(19)  # requests come first
        signal.set_wakeup_fd(-1)
        for name in (signal.SIGINT, signal.SIGTERM):  # meant for the service, which waits for this
            signal.signal(name, signal.SIG_IGN)
        os.closerange(3, file)
        os.closerange(file + 1, os.sysconf("SC_OPEN_MAX"))
        table: list[tuple[str, int]] = []
        with open(file, "wb", buffering=0, closefd=False) as out:
            for name, value in state().items():
                left = memoryview(pack(value))
                table.append((name, len(left)))
                while left:
                    left = left[out.write(left) :]
            encoded = msgspec.msgpack.encode(table)
            out.write(encoded + len(encoded).to_bytes(_END))
        code = 0
    finally:
        os._exit(code)
