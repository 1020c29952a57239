"""Locks: a file that one process holds at a time, until it closes it or ends in whatever way."""

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

EVERY = 0.02  # seconds between two tries


def hold(path: Path, patience: float) -> int:
    """The descriptor that holds the lock, until it is closed here and in every process that inherited it.

    patience: seconds to wait for another process; math.inf for ever. Raises BlockingIOError when they are over.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
    try:
        given_up = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            except BlockingIOError as error:
                if time.monotonic() >= given_up:
                    raise BlockingIOError(error.errno, "another process holds it", str(path)) from None
            time.sleep(EVERY)
    except BaseException:
        os.close(lock)
        raise


@contextmanager
def held(path: Path, patience: float) -> Generator[None]:
    """The same for a block."""
    lock = hold(path, patience)
    try:
        yield
    finally:
        os.close(lock)
