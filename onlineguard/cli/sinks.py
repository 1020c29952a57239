"""Verdicts to a file: Parquet, CSV or NDJSON, batch by batch in bounded memory, whole or not at all; or as lines."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl

from onlineguard import atomic
from onlineguard.cli.alarms import NONE
from onlineguard.engine.verdicts import Verdicts
from onlineguard.errors import InvalidArgument
from onlineguard.sources import Batch

PART_ROWS = 262_144  # Parquet: rows held before they are written, and then a row group
_FORMATS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}
_JUDGED = ("score", "threshold", "p_value", "anomalous", "ready")
_COLUMNS = ("time", "file", "line", *_JUDGED, "alarm", "driver", "driver_share")
_ISO = "%Y-%m-%dT%H:%M:%S%.fZ"


@dataclass(frozen=True)
class Drivers:
    """For each event of a batch the feature that made it odd, None where it is usual, and that feature's share."""

    feature: list[str | None]
    share: np.ndarray


class VerdictLines:
    """Writes each batch at once to standard output, a JSON object an event, with the columns of `VerdictWriter`."""

    def __init__(
        self, slice_columns: list[str], drivers: bool = False, alarms: bool = False, stream: BinaryIO | None = None
    ):
        self.drivers, self.alarms, self._slice_columns = drivers, alarms, slice_columns
        self._stream = stream or sys.stdout.buffer

    def add(
        self, batch: Batch, verdicts: Verdicts, alarms: np.ndarray | None = None, drivers: Drivers | None = None
    ) -> None:
        """Write the verdicts of a batch. If their reader has gone, the stream ends as by Ctrl-C."""
        frame = _frame(batch, verdicts, self._slice_columns, alarms, drivers)
        try:
            self._stream.write(_as_texts(frame).write_ndjson().encode())
            self._stream.flush()
        except BrokenPipeError:
            raise KeyboardInterrupt from None


class VerdictWriter:
    """Writes one row an event to `path`, by its ending as Parquet, CSV or NDJSON.

    Columns: the slice columns under their own names; `time` in UTC, where there is one; `file`, where there are
    several, and `line` of the source; `score`, `threshold`, `p_value`, `anomalous`, `ready` as in `Verdicts`; with
    `alarms`, `alarm`, the number of the alarm that an anomalous event belongs to; with `drivers`, `driver` and
    `driver_share`; and what was kept of the source. What has no score has no p-value.

    Everything goes into a folder beside `path` first; `commit` moves it there in one step, `discard` removes it, and
    until then an earlier file stays as it was. Raises InvalidArgument where nothing can be written.
    """

    def __init__(
        self, path: str | os.PathLike[str], slice_columns: list[str], drivers: bool = False, alarms: bool = False
    ):
        self.path, self.drivers, self.alarms = Path(path), drivers, alarms
        if self.path.suffix.lower() not in _FORMATS:
            raise InvalidArgument("out", f"is {self.path}; it must end in {', '.join(_FORMATS)}, e.g. verdicts.parquet")
        for column in slice_columns:
            if column in _COLUMNS:
                raise InvalidArgument(
                    "slice",
                    f"column {column!r} has the name of another column of the verdicts; rename it in the source",
                )
        self._format = _FORMATS[self.path.suffix.lower()]
        self._slice_columns = slice_columns
        self._folder = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        self._held: list[pl.DataFrame] = []
        self._parts: list[Path] = []
        try:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir()
        except OSError as error:
            raise self._cannot(error) from error

    def add(
        self, batch: Batch, verdicts: Verdicts, alarms: np.ndarray | None = None, drivers: Drivers | None = None
    ) -> None:
        """Write the verdicts of a batch."""
        self._held.append(_frame(batch, verdicts, self._slice_columns, alarms, drivers))
        if self._format != "parquet" or sum(map(len, self._held)) >= PART_ROWS:
            self._flush()

    def commit(self) -> None:
        """Put the file in its place."""
        try:
            if self._held:
                self._flush()
            whole = self._folder / "whole"
            if len(self._parts) == 1:
                whole = self._parts[0]
            elif self._parts:  # streamed: a few row groups at a time
                pl.scan_parquet(self._parts, glob=False).sink_parquet(whole)
            else:
                raise InvalidArgument("out", f"{self.path} is not written, since there was no event")
            atomic.move(whole, self.path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise self._cannot(error) from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what is not in its place."""
        self._held = []
        shutil.rmtree(self._folder, ignore_errors=True)

    def _flush(self) -> None:
        frame = pl.concat(self._held, rechunk=False)
        self._held = []
        try:
            if self._format == "parquet":
                self._parts.append(self._folder / f"{len(self._parts):08}.parquet")
                frame.write_parquet(self._parts[-1])
                return
            with (self._folder / "text").open("ab") as file:
                if self._format == "csv":
                    frame.write_csv(file, include_header=not self._parts, datetime_format=_ISO)
                else:
                    _as_texts(frame).write_ndjson(file)
            self._parts = [self._folder / "text"]
        except (OSError, pl.exceptions.PolarsError) as error:
            raise self._cannot(error) from error

    def _cannot(self, error: Exception) -> InvalidArgument:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        return InvalidArgument("out", f"is {self.path}, which cannot be written ({reason}); name another file")


def _frame(
    batch: Batch, verdicts: Verdicts, slice_columns: list[str], alarms: np.ndarray | None, drivers: Drivers | None
) -> pl.DataFrame:
    slices = batch.slices if isinstance(batch.slices, pl.DataFrame) else batch.slices.to_frame()
    columns = dict(zip(slice_columns, slices.get_columns(), strict=False))  # none where all are one slice
    if batch.times is not None:
        columns["time"] = pl.Series(batch.times.view("datetime64[us]")).dt.replace_time_zone("UTC")
    if batch.files is not None:
        columns["file"] = batch.files
    columns["line"] = pl.Series(batch.line_numbers)
    for name in _JUDGED:
        columns[name] = pl.Series(getattr(verdicts, name), nan_to_null=True)
    columns["p_value"] = columns["p_value"].cast(pl.Float32)  # no p-value is known to more than seven digits
    if alarms is not None:
        columns["alarm"] = pl.Series(alarms).set(pl.Series(alarms == NONE), None)
    if drivers is not None:
        columns["driver"] = pl.Series(drivers.feature, dtype=pl.String)
        columns["driver_share"] = pl.Series(drivers.share, dtype=pl.Float32, nan_to_null=True)
    for name in batch.kept.columns if batch.kept is not None else ():
        if name in _COLUMNS:
            raise InvalidArgument(
                "keep", f"names {name!r}, which is another column of the verdicts; rename it in the source"
            )
        assert batch.kept is not None
        columns.setdefault(name, batch.kept.get_column(name))
    return pl.DataFrame(columns)


def _as_texts(frame: pl.DataFrame) -> pl.DataFrame:
    """With times as texts of ISO 8601, which JSON has no other form for."""
    return frame.with_columns(pl.col(pl.Datetime).dt.to_string(_ISO))
