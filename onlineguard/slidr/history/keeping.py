"""What is done to the files of a history later: closed days become few files, old ones go, a person is erased.

Whoever changes files holds the folder's lock (`locked`), so that the service and an operator do not do so at once.
"""

import itertools
import math
import shutil
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import polars as pl

from onlineguard import locks
from onlineguard.errors import Conflict, SourceError
from onlineguard.slidr.history.layout import KINDS, ROWS, Kind, Part, parts, path_of, standing
from onlineguard.slidr.history.pseudonyms import Pseudonyms
from onlineguard.slidr.history.writing import write_file

LOCK = ".lock"
ASIDE = "set-aside"  # folder of files whose entries the journal has lost, laid out as the history is
FEW = 8  # files of a day that are not worth being made fewer


@contextmanager
def locked(root: Path) -> Generator[None]:
    """Hold the lock of the folder, waited for where another process changes files."""
    with locks.held(root / LOCK, math.inf):
        yield


@contextmanager
def alone(folder: Path, doing: str) -> Generator[None]:
    """Hold the lock of a work folder. Raises Conflict if another process holds it; `doing` says what for."""
    with ExitStack() as opened:
        try:
            opened.enter_context(locks.held(folder / "lock", 0.0))
        except BlockingIOError:
            raise Conflict(f"{doing} {folder}; wait until it is done, or name another folder") from None
        yield


def drop_before(root: Path, day: str) -> None:
    """Remove the days that are older. Raises OSError."""
    for kind in KINDS:
        for folder in (*(root / kind).glob("day=*"), *(root / ASIDE / kind).glob("day=*")):
            if folder.name < f"day={day}":
                shutil.rmtree(folder)


def compact(root: Path, source: str, until: int, before: str) -> int:
    """Make the files of a source's past days fewer, and return how many went.

    until: entries that may be put together: no crash can take the service back before it.
    before: the day that is not yet over.

    A crash leaves a file beside those it was made of, which readers pass over; the next call removes them.
    """
    gone = 0
    for kind in KINDS:
        found = [part for part in parts(root, kind) if part.source == source and part.day < before]
        kept = set(standing(found))
        for part in set(found) - kept:
            part.path.unlink()
        days = itertools.groupby((part for part in found if part in kept and part.last <= until), lambda p: p.day)
        for _, group in days:
            day = list(group)
            if len(day) > FEW:
                gone += sum(_joined(root, kind, some) for some in _filled(day))
    return gone


class Erased(NamedTuple):
    """What was removed of a person."""

    clicks: int
    labels: int


def erase(root: Path, user_id: str, pseudonyms: Pseudonyms | None) -> Erased:
    """Remove the clicks of a user, the labels of these clicks, and later decisions about them.

    Raises SourceError where a key is needed."""
    ids: set[str] = set()
    clicks = labels = 0

    def everywhere(kind: Kind) -> list[Part]:
        return [*parts(root, kind), *parts(root / ASIDE, kind)]

    def of_user(part: Part) -> pl.Expr:
        mark = pl.read_parquet_metadata(part.path).get("pseudonyms", "no")
        if mark == "no":
            return pl.col("user_id") == user_id
        if pseudonyms is None or pseudonyms.mark != mark:
            raise SourceError(f"{part.path} has names in place of users, made with a key that was not given (--key)")
        return pl.col("user_id") == pseudonyms.user(user_id)

    with locked(root):
        tests = [(part, of_user(part)) for part in everywhere("clicks")]  # before anything is changed
        for part, test in tests:
            found = pl.scan_parquet(part.path, hive_partitioning=False).filter(test).select("click_id").collect()
            ids.update(found["click_id"])
        if ids:
            of_them = pl.col("click_id").is_in(list(ids))
            labels = sum(_without(part, of_them) for part in everywhere("labels"))
            for part in everywhere("decisions"):
                _without(part, of_them)
            clicks = sum(_without(part, test) for part, test in tests)
    return Erased(clicks, labels)


def _without(part: Part, test: pl.Expr) -> int:
    """Remove the rows of a file that pass, and return how many did. A file without any left stays."""
    frame = pl.read_parquet(part.path, hive_partitioning=False)
    left = frame.filter(~test.fill_null(False))
    if left.height < frame.height:
        write_file(part.path, left, _about(part.path))
    return frame.height - left.height


def _filled(day: Sequence[Part]) -> list[list[Part]]:
    """The files of a day in groups that make one file each."""
    groups: list[list[Part]] = []
    rows = ROWS
    last: dict[str, str] | None = None
    for part in day:
        about = _about(part.path)
        height = int(pl.scan_parquet(part.path, hive_partitioning=False).select(pl.len()).collect().item())
        if rows + height > ROWS or about != last:
            groups.append([])
            rows = 0
        groups[-1].append(part)
        rows, last = rows + height, about
    return [group for group in groups if len(group) > 1]


def _joined(root: Path, kind: Kind, some: Sequence[Part]) -> int:
    whole = pl.concat([pl.read_parquet(part.path, hive_partitioning=False) for part in some])
    first, last = some[0], some[-1]
    write_file(path_of(root, kind, first.day, first.first, last.last, first.source), whole, _about(first.path))
    for part in some:
        part.path.unlink()
    return len(some) - 1


def _about(path: Path) -> dict[str, str]:
    """What was said of a file when it was written, without what every writer adds."""
    metadata = pl.read_parquet_metadata(path)
    return {name: metadata[name] for name in ("features", "pseudonyms") if name in metadata}
