"""Places: where the bytes of a source are: files, folders, patterns, members of an archive, URLs, a pipe."""

import glob
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import urlsplit

from onlineguard.errors import MissingExtra, SourceError
from onlineguard.sources import archives
from onlineguard.sources.archives import TAR, ZIP, Archive
from onlineguard.sources.unpacking import PACKED
from onlineguard.sources.web import content_names, opened_url, shown

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}  # of text, unless it says otherwise
TEXTS = {*DELIMITERS, ".txt", ".dat", ".psv", ".log"}
JSON_LINES = {".ndjson", ".jsonl"}
PARQUET = {".parquet", ".pq"}
EXCEL = {".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"}
WHOLE = {*PARQUET, *EXCEL}  # read from their end, so never from a stream, nor packed
SUFFIXES = {*TEXTS, *JSON_LINES, *WHOLE}
TARS = {".tgz", ".tbz2", ".txz", ".tzst"}  # short for .tar.gz and so on
CLOUDS = {  # scheme: extra and package
    **dict.fromkeys(("s3", "s3a"), ("s3", "s3fs")),
    **dict.fromkeys(("gs", "gcs"), ("gcs", "gcsfs")),
    **dict.fromkeys(("az", "abfs", "abfss"), ("azure", "adlfs")),
}


@dataclass(frozen=True)
class Place:
    """One file of a source."""

    name: str  # for people
    suffix: str  # that of its format, in small letters; "" where the content tells
    size: int | None  # bytes as they lie there, None where nobody knows
    opened: Callable[[], AbstractContextManager[BinaryIO]]
    path: Path | None = None  # where it is a local file

    @contextmanager
    def local(self) -> Generator[Path]:
        """A path to its bytes on this machine; a copy of what lies elsewhere is removed afterwards."""
        if self.path is not None:
            yield self.path
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / f"copy{self.suffix}"
            with self.opened() as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            yield copy


def found_places(source: str) -> list[Place]:
    """The files that a name stands for, in the order of their names. Raises SourceError where there is none.

    The name is that of a file, even if it has a star in it; of a folder, all files below it that can be read, but for
    those whose names begin with a dot or an underscore; a pattern, such as logs/**/*.csv; a URL of any scheme that
    fsspec knows, each with a pattern or of a folder; http and https need no fsspec; or -, standard input. Of a zip
    or tar file it is all members that can be read.
    """
    if source == "-":
        return [Place("stdin", "", None, _stdin)]
    scheme = source.split("://")[0].lower() if "://" in source else ""
    if scheme in ("http", "https"):
        places = [_of_web(source)]
    elif scheme and scheme != "file":
        places = _of_store(source, scheme)
    else:
        places = [_of_disk(path) for path in _paths(Path(urlsplit(source).path) if scheme else Path(source))]
    return [member for place in places for member in (_members(place) if place.suffix in (ZIP, TAR) else [place])]


def shown_name(source: str) -> str:
    """The name of a source for people: of a URL without what nobody else should see."""
    return shown(source) if source.lower().startswith(("http://", "https://")) else source


def _stdin() -> AbstractContextManager[BinaryIO]:
    # A thread that waits for a buffered stdin would keep the interpreter from ending; the raw one does not.
    return nullcontext(getattr(sys.stdin.buffer, "raw", sys.stdin.buffer))


def _paths(path: Path) -> list[Path]:
    if path.is_dir():
        found = [file for file in path.rglob("*") if file.is_file() and _wanted(file.relative_to(path).as_posix())]
        if not found:
            raise SourceError(f"source {path} is a directory without a file that can be read; {_KNOWN}")
        return sorted(found)
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    found = [Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file()]
    if not found:
        raise SourceError(f"source {path} is a pattern that no file fits; name one, e.g. 'logs/*.csv', in quotes")
    return sorted(found)


def _of_disk(path: Path) -> Place:
    try:
        found = path.stat()
    except OSError as error:
        raise SourceError(f"source {path} cannot be read: {error.strerror or error}") from error
    size = found.st_size if stat.S_ISREG(found.st_mode) else None  # a named pipe has none
    return Place(str(path), _suffix(str(path)), size, lambda: path.open("rb", buffering=0), path)


def _of_web(url: str) -> Place:
    suffix = _suffix(urlsplit(url).path, content_tells=True)
    for name in content_names(url) if not suffix else ():
        suffix = suffix or _suffix(name, content_tells=True)
    return Place(shown(url), suffix, None, lambda: opened_url(url))


def _of_store(url: str, scheme: str) -> list[Place]:
    extra, package = CLOUDS.get(scheme, ("registry", "fsspec"))
    if missing := [name for name in dict.fromkeys(("fsspec", package)) if find_spec(name) is None]:
        raise MissingExtra(f"source {url}", missing, extra)
    from onlineguard.sources.stores import files_of, opened_file

    try:
        system, sizes = files_of(url, _wanted)
    except (OSError, ValueError, ImportError) as error:
        raise SourceError(f"source {url} cannot be read: {error}") from error
    if not sizes:
        raise SourceError(f"source {url} holds no file that can be read; {_KNOWN}")
    return [
        Place(f"{scheme}://{name.lstrip('/')}", _suffix(name), size, lambda name=name: opened_file(system, name))
        for name, size in sorted(sizes.items())
    ]


def _members(place: Place) -> list[Place]:
    """The members of an archive, each a place of its own."""
    try:
        archive = Archive(place.suffix, place.name, place.path, place.opened)
        members = {name: size for name, size in archive.members().items() if _wanted(name)}
    except archives.UNREADABLE as error:
        raise SourceError(f"source {place.name} cannot be read: {error}") from error
    if not members:
        raise SourceError(f"source {place.name} has no member that can be read; {_KNOWN}")
    return [
        Place(f"{place.name}/{name}", _suffix(name), size, lambda name=name: archive.opened(name))
        for name, size in sorted(members.items())
    ]


def _suffix(name: str, content_tells: bool = False) -> str:
    """That of the format, in small letters; raises SourceError where nothing that ends so can be read."""
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes]
    if suffixes[-1:] == [TAR] or (suffixes[-2:-1] == [TAR] and suffixes[-1] in PACKED) or {*suffixes[-1:]} & TARS:
        return TAR
    packed = suffixes[-1:] and suffixes[-1] in PACKED
    suffix = "".join(suffixes[:-1][-1:] if packed else suffixes[-1:])
    if suffix in (SUFFIXES - WHOLE if packed else SUFFIXES | {ZIP}):
        return suffix
    if content_tells:
        return ""
    raise SourceError(f"source {name} has the unknown extension {PurePosixPath(name).suffix!r}; {_KNOWN}")


def _wanted(name: str) -> bool:
    """Whether a file of a folder, or a member of a zip file, is one to be read."""
    if name.endswith("/") or any(part.startswith((".", "_")) for part in PurePosixPath(name).parts if part != "/"):
        return False
    if name.endswith(".rejects.ndjson"):
        return False
    try:
        return _suffix(name) not in (ZIP, TAR)
    except SourceError:
        return False


_KNOWN = (
    "it must end in .csv, .tsv, .txt, .ndjson or .jsonl (each also with .gz, .bz2, .xz, .zst or .lz4), .parquet, "
    ".xlsx, .zip, .tar or .tar.gz; or pipe the text in and name the source -"
)
