"""Where a registry keeps its files: a local folder, or whatever fsspec opens.

A store needs one thing beyond reading and listing: `create`, which writes a file whole and durably, or not at all where
one of that name is there already. Everything that must happen once rests on it, so no lock is held and none can be
left behind.

- A local folder: the contents are synced under a temporary name, which `os.link` then gives the final name. A link to
  a name that is taken fails, on every POSIX system and on NTFS.
- fsspec: `pipe_file(..., mode="create")`, which S3, Google and Azure answer with a conditional write of the server
  (If-None-Match, ifGenerationMatch=0), and the memory file system within its process. A file system of fsspec that
  only looks first and writes then is no place for two promoters at once.
"""

import os
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from onlineguard import atomic
from onlineguard.errors import CheckpointError, InvalidArgument, MissingExtra

EXTRAS = {  # extra and package of each scheme
    **dict.fromkeys(("s3", "s3a"), ("s3", "s3fs")),
    **dict.fromkeys(("gs", "gcs"), ("gcs", "gcsfs")),
    **dict.fromkeys(("az", "abfs", "abfss"), ("azure", "adlfs")),
}


class Store(Protocol):
    """Files by names such as "changes/00000001.json"."""

    def create(self, name: str, contents: bytes) -> bool:
        """Write a file that is not there yet, whole and durably. False, with nothing changed, if it is there."""
        ...

    def read(self, name: str) -> bytes:
        """The contents of a file. Raises FileNotFoundError."""
        ...

    def names(self, folder: str) -> list[str]:
        """The sorted names of what a folder holds; none if there is no such folder."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if it is there. A registry never does."""
        ...


class Folder:
    """A `Store` on a local disk."""

    def __init__(self, path: Path):
        self.path = path

    def create(self, name: str, contents: bytes) -> bool:
        target = self.path / name
        if target.exists():
            return False
        _make_folder(target.parent)
        return atomic.create(target, contents)

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(each.name for each in (self.path / folder).iterdir() if not each.name.startswith("."))
        except FileNotFoundError:
            return []

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)


class Remote:
    """A `Store` in a file system of fsspec."""

    def __init__(self, files: Any, root: str):
        self._files, self._root = files, root.rstrip("/")

    def create(self, name: str, contents: bytes) -> bool:
        path = f"{self._root}/{name}"
        try:
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            self._files.pipe_file(path, contents, mode="create")
        except FileExistsError:
            return False
        return True

    def read(self, name: str) -> bytes:
        return self._files.cat_file(f"{self._root}/{name}")

    def names(self, folder: str) -> list[str]:
        try:
            paths = self._files.ls(f"{self._root}/{folder}", detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._files.rm_file(f"{self._root}/{name}")


def opened(url: str | os.PathLike[str]) -> Store:
    """The store at a local path, or at a URL that fsspec knows, e.g. s3://bucket/models.

    Raises MissingExtra where the packages for the scheme are not installed, InvalidArgument for an unknown one.
    """
    text = os.fspath(url)
    scheme, separator, _ = text.partition("://")
    if not separator:
        return Folder(Path(text))
    if scheme == "file":
        return Folder(Path(text.removeprefix("file://")))
    extra, package = EXTRAS.get(scheme, ("registry", "fsspec"))
    for needed in ("fsspec", package):
        if find_spec(needed) is None:
            raise MissingExtra(f"a registry at {scheme}://", [needed], extra)
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(text)
    except (ValueError, ImportError) as error:
        raise InvalidArgument(
            "registry",
            f"is {text!r}; it must be a folder, or a URL that fsspec opens, e.g. s3://bucket/models ({error})",
        ) from error
    return Remote(files, root)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each durable."""
    if folder.is_dir():
        return
    try:
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        atomic.sync_folder(folder.parent)
    except OSError as error:
        raise CheckpointError(f"cannot make the folder {folder}: {error.strerror or error}") from error
