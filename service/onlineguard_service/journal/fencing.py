"""A folder that can be taken away from the process that writes to it, whatever that process is doing.

A process that is stopped in the middle of a write goes on with it when it wakes up, so nothing that it looks at
beforehand can hold it back. Instead the folder itself is taken away. Who takes over makes a new folder beside it and
has the two exchange their names, which is one step of the file system. From then on

- the old writer, which has its folder open and names every file through it, writes to a folder that nobody reads;
- it sees, by the number of the folder under the name, that its own was taken away. It looks after an entry is durable
  and before it is answered. If it still had the name then, its entry was there before the exchange, and whoever takes
  over reads the folder after the exchange. So every entry that was answered is taken over.

The new folder names the old one in a file, `previous`, until everything of it is in the new one: files that are
complete as links, the last segment as a copy, since the old writer may still write to it. A crash in between is
completed by the next process that opens the folder.

All of it needs a file system that all processes see alike at once, as one of the same machine is: where two folders
cannot exchange their names (NFS), `check` refuses.
"""

import ctypes
import os
import secrets
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from onlineguard import atomic
from onlineguard.errors import InvalidArgument
from onlineguard_service.journal import segments, snapshots

AVAILABLE = sys.platform == "linux"  # elsewhere two names cannot be exchanged, nor a folder be named by its descriptor
PREVIOUS = "previous"

_EXCHANGE = 2  # RENAME_EXCHANGE of renameat2
_HERE = -100  # AT_FDCWD


class Pinned:
    """A folder as it was when this was made, wherever its name leads later."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._number = _number(os.fstat(self._descriptor))
        self.path = Path(f"/proc/self/fd/{self._descriptor}") if AVAILABLE else folder

    @property
    def taken_away(self) -> bool:
        """Whether its name leads elsewhere now. Takes a microsecond."""
        try:
            return _number(os.stat(self._folder)) != self._number
        except FileNotFoundError:
            return True

    def close(self) -> None:
        """A second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def check(folder: Path) -> None:
    """Raises InvalidArgument where `take_away` could not work on a folder's file system."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    two = [folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp") for _ in range(2)]
    try:
        for each in two:
            each.mkdir()
        _exchange(*two)
    except OSError as error:
        raise InvalidArgument(
            f"standby is 'on', but folders beside {folder} cannot exchange their names ({error.strerror or error}), so "
            "the service that writes there could not be kept from writing; put the state on a disk of this machine "
            "or a cluster's file system that can, or keep the journal in Redis"
        ) from error
    finally:
        for each in two:
            with suppress(OSError):
                each.rmdir()


def take_away(folder: Path) -> Path:
    """Take a journal's folder from whoever writes to it, and return where that one is now. Raises OSError.

    Opening it then brings the journal along, and removes the old folder.
    """
    new = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    new.mkdir()
    shutil.copymode(folder, new)
    atomic.write(new / PREVIOUS, new.name.encode())
    _exchange(new, folder)
    atomic.sync_folder(folder.parent)
    return new


def complete(folder: Path, beside: Path) -> None:
    """Bring along what the folder before this one has, if that was not finished. Raises OSError.

    folder: as its owner names it; beside: the folder in which the one before lies.
    """
    marker = folder / PREVIOUS
    if not marker.exists():
        return
    old = beside / marker.read_text()
    complete(old, beside)
    there = segments.found(old)
    for path in [snapshots.path_of(old, n) for n in snapshots.found(old)] + [each.path for each in there[:-1]]:
        with suppress(FileExistsError):
            os.link(path, folder / path.name)
    for last in there[-1:]:
        with atomic.replacing(folder / last.path.name) as temporary:
            shutil.copyfile(last.path, temporary)
            temporary.chmod(0o640)
    atomic.sync_folder(folder)
    marker.unlink()
    atomic.sync_folder(folder)
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> None:
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, TypeError, OSError):  # neither Linux nor a C library of this decade
        raise OSError(0, "this system has no renameat2") from None
    if renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _number(about: os.stat_result) -> tuple[int, int]:
    return about.st_dev, about.st_ino
