"""Files of a history, written so that a crash leaves each whole or not at all.

It imports neither JAX nor the features: a process of its own does it beside the service, and must start quickly.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from onlineguard import atomic
from onlineguard.slidr.history.layout import DAY, FORMAT, GROUP, ROWS, Kind, day_of, path_of


def write_part(
    root: Path, kind: Kind, frame: pl.DataFrame, first: int, last: int, source: str, about: Mapping[str, str]
) -> list[Path]:
    """Write what came of the entries `first` to `last`, in the columns of `layout`, as files that are synced.

    The rows are in order. A file holds one day of arrival and at most `ROWS` rows, unless one entry has more.

    about: the metadata beside the format, e.g. {"features": "3"}.

    Returns the files, none where there are no rows. Raises OSError.
    """
    written: list[Path] = []
    for part, start, end, day in _cut(frame, first, last):
        path = path_of(root, kind, day, start, end, source)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, part, about)
        written.append(path)
    return written


def write_file(path: Path, frame: pl.DataFrame, about: Mapping[str, str]) -> None:
    """Write one file, or replace it. Raises OSError."""
    with atomic.replacing(path) as temporary:
        frame.write_parquet(temporary, row_group_size=GROUP, metadata={**about, "format": str(FORMAT)})


def _cut(frame: pl.DataFrame, first: int, last: int) -> Iterator[tuple[pl.DataFrame, int, int, str]]:
    """The rows of each file, its first and last entry, and its day. All entries from `first` to `last` belong to one.

    A clock that is set back over midnight does not go back to the day before.
    """
    if not frame.height:
        return
    sequence = frame["sequence"].to_numpy()
    day = (frame["t"].cum_max() // DAY).to_numpy()
    start, begins = 0, first
    while start < frame.height:
        end = min(start + ROWS, int(day.searchsorted(day[start], side="right")))
        if end < frame.height:  # an entry is in one file
            end = int(sequence.searchsorted(sequence[end - 1], side="right"))
        ends = last if end == frame.height else int(sequence[end - 1])
        yield frame[start:end], begins, ends, day_of(int(day[start]) * DAY)
        start, begins = end, ends + 1
