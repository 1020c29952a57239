"""Having the folder of a history to oneself: whoever wrote it before has ended, and what it wrote fits the journal."""

import fcntl
import logging
import os
import time
from pathlib import Path

from onlineguard.slidr.history.keeping import ASIDE
from onlineguard.slidr.history.layout import KINDS, parts

_log = logging.getLogger("onlineguard.history")


def locked(path: Path, patience: float) -> int:
    """The descriptor that holds the lock until it is closed here and in every process that inherited it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
    given_up = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError as error:
            if time.monotonic() > given_up:
                os.close(lock)
                raise OSError(error.errno, "another process writes it") from error
            time.sleep(0.02)


def forget(root: Path, source: str, after: int, newest: int) -> None:
    """Remove the files of entries after the snapshot, which the replay brings again. Those of entries that the journal
    no longer has are set aside."""
    for unfinished in root.glob(f"*/day=*/.*{source}.parquet.*.tmp"):
        unfinished.unlink()
    for kind in KINDS:
        for part in parts(root, kind):
            if part.source != source or part.last <= after:
                continue
            if part.last <= newest:
                part.path.unlink()
                continue
            aside = root / ASIDE / kind / part.path.parent.name
            aside.mkdir(parents=True, exist_ok=True)
            os.replace(part.path, aside / part.path.name)
            _log.warning(
                "the journal has lost entries up to %d, which the history has: %s is set aside", part.last, part.path
            )
