"""The one way to write a file or a folder: after a crash the old one is there or the new one, whole, never a part.

The new one is written beside its place under a temporary name and synced to the disk. Then it is renamed, and the
folder is synced, which makes the new name durable. Where any of this fails before the rename, the temporary one is
removed and the old one stays; the OSError is the caller's to explain.
"""

import errno
import os
import shutil
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)  # a file system that has no sync for folders


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Generator[Path]:
    """A temporary path, in the folder of `path`, where the block makes a file or a folder; then that becomes `path`.

    A file replaces a file; for a folder there must be none at `path`, or an empty one. Raises OSError. Where the block
    raises, `path` stays as it was.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        _remove(temporary)  # what an earlier process of the same number left when it was killed
        yield temporary
        move(temporary, target)
    except BaseException:
        _remove(temporary)
        raise


def write(path: str | os.PathLike[str], contents: bytes) -> None:
    """Replace the file at `path` by one with these contents. Raises OSError."""
    with replacing(path) as temporary:
        temporary.write_bytes(contents)


def create(path: str | os.PathLike[str], contents: bytes) -> bool:
    """Write a file that is not there yet, whole and durably. False, with nothing changed, if it is there.

    Of several who create it at once one does. Raises OSError.
    """
    target = Path(path)
    if target.exists():
        return False
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        sync_folder(target.parent)
        return True
    finally:
        _remove(temporary)


def move(finished: Path, path: str | os.PathLike[str]) -> None:
    """Sync a finished file, or a folder with all that is in it, and rename it to `path`. Raises OSError."""
    _sync(finished)
    os.replace(finished, path)
    sync_folder(Path(path).parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder as durable as its files are, where the operating system can.

    Windows opens no folder, and some file systems sync none: nothing more can be done there, so this is no error.
    Raises OSError where the disk fails.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    """Sync a file, or every file in a folder and the folder last."""
    if path.is_dir():
        for each in path.iterdir():
            _sync(each)
        sync_folder(path)
        return
    with open(path, "rb+" if os.name == "nt" else "rb") as opened:  # Windows syncs only what may be written
        os.fsync(opened.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()
