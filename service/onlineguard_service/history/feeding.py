"""A process of its own, `history.closing`, is fed with blocks, and makes files of them."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import NamedTuple

import msgspec

from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.history.blocks import LENGTH, Header

TOGETHER = 128  # pieces of one write, half of them lengths: some 2 MB at most


class Sealed(NamedTuple):
    """Blocks that become files, and the header that goes before them."""

    header: Header
    blocks: list[bytes]
    size: int


def feed(sealed: Sealed, lock: int) -> None:
    """Have a process of its own write the files; raises JournalUnavailable unless it has.

    It inherits the lock, so that a service that is started after this one was killed waits until it has ended too. What
    asks a service to stop may be sent to all its processes: this one finishes, since the last snapshot waits for it.
    """
    header = msgspec.json.encode(sealed.header)
    pieces: list[bytes] = []
    for each in (header, *sealed.blocks):
        pieces += (len(each).to_bytes(LENGTH, "little"), each)
    pieces.append(bytes(LENGTH))
    command = [sys.executable, "-m", "onlineguard_service.history.closing"]
    try:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))  # it inherits that too
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(lock,))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        with process:
            assert process.stdin is not None
            assert process.stderr is not None
            with suppress(BrokenPipeError):
                for start in range(0, len(pieces), TOGETHER):
                    _written(process.stdin.fileno(), pieces[start : start + TOGETHER])
            with suppress(BrokenPipeError):
                process.stdin.close()
            said = process.stderr.read().decode(errors="replace").strip()
    except OSError as error:
        raise JournalUnavailable(f"the history cannot be written: {error.strerror or error}") from error
    if process.returncode:
        why = said.splitlines()[-1] if said else "killed"
        raise JournalUnavailable(
            f"the history in {sealed.header.root} cannot be written: {why}; make room on its disk if that is full: it "
            "is tried again with the next snapshot"
        )


def _written(file: int, pieces: list[bytes]) -> None:
    """Write all of them."""
    left = sum(map(len, pieces)) - os.writev(file, pieces)
    if left:  # a pipe takes 64 kB at a time, when it takes any
        rest = memoryview(b"".join(pieces))[-left:]
        while rest:
            rest = rest[os.write(file, rest) :]
