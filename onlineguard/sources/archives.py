"""Archives: the members of a zip or tar file, each of which is read like a file of its own."""

import shutil
import tarfile
import tempfile
import weakref
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from onlineguard.sources import blocks
from onlineguard.sources.unpacking import unpacked

ZIP, TAR = ".zip", ".tar"
UNREADABLE = (*blocks.UNREADABLE, zipfile.BadZipFile, tarfile.TarError)


class Archive:
    """The members of an archive.

    It is read from a file on this machine. What lies elsewhere or is packed as a whole, such as a .tar.gz, is copied
    to a temporary file once, which is removed with this object or when Python ends. Raises what is in `UNREADABLE`.
    """

    def __init__(self, kind: str, name: str, path: Path | None, opened: Callable[[], AbstractContextManager[BinaryIO]]):
        self._kind = kind
        whole = path is not None and (kind == ZIP or name.lower().endswith(TAR))
        self._path = path if path is not None and whole else self._copied(name, opened)

    def members(self) -> dict[str, int]:
        """The sizes of all files in it, by name."""
        if self._kind == ZIP:
            with zipfile.ZipFile(self._path) as archive:
                return {entry.filename: entry.file_size for entry in archive.infolist() if not entry.is_dir()}
        with tarfile.open(self._path, "r:") as archive:
            return {member.name: member.size for member in archive if member.isfile()}

    @contextmanager
    def opened(self, member: str) -> Generator[BinaryIO]:
        """The bytes of a member."""
        if self._kind == ZIP:
            with zipfile.ZipFile(self._path) as archive, archive.open(member) as stream:
                yield cast(BinaryIO, stream)
            return
        with tarfile.open(self._path, "r:") as archive:
            stream = archive.extractfile(member)
            assert stream is not None
            with stream:
                yield cast(BinaryIO, stream)

    def _copied(self, name: str, opened: Callable[[], AbstractContextManager[BinaryIO]]) -> Path:
        folder = tempfile.mkdtemp()
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        path = Path(folder) / f"copy{self._kind}"
        with opened() as source, path.open("wb") as target:
            target.writelines(unpacked(_blocks(source), name) if self._kind == TAR else _blocks(source))
        return path


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: blocks.read_block(stream), b"")
