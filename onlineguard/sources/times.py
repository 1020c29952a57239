"""Times as microseconds since 1970 in UTC: ISO 8601, Unix times, and those of one more format, with named zones."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Int

from onlineguard.sources.fields import MISSING, to_texts
from onlineguard.sources.formats import in_zone, read, split_zones, told_format
from onlineguard.sources.rejects import shortened

NO_TIME = np.iinfo(np.int64).min  # NumPy's NaT: `times.view("datetime64[us]")` shows it as such

_FORMATS = (  # no value fits two of them, so the order is only one of speed
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d",
)


_COMPACT = r"^(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])(?:\d{6})?$"  # a day, perhaps with a time, in digits alone


def told_time_format(cells: pl.Series, decimal: str = ".") -> str | None:
    """The format that the times of a column have, None where they are ISO 8601 or Unix times, or none at all."""
    cells = cells.filter(cells.fill_null("").str.strip_chars() != "")
    compact = bool(len(cells)) and cells.str.strip_chars().str.contains(_COMPACT).all()
    if not compact and 2 * len(TimeParser().parse(cells)[1]) < max(len(cells), 1):
        return None
    return told_format(cells, decimal)


class TimeParser:
    """Reads times, and begins with the format that the last ones had: the next will most likely look the same.

    told: a format that was told from the first of them, in which they may be beside ISO 8601 and Unix times.
    chosen: the one format that they must have, if the user named one.
    zone: of times without a zone; without it UTC.
    missing: texts, in small letters, that stand for no time.
    """

    def __init__(
        self,
        told: str | None = None,
        chosen: str | None = None,
        zone: str | None = None,
        missing: Collection[str] = MISSING,
    ) -> None:
        self._formats: list[str] = list(_FORMATS) if chosen is None else [chosen]
        if chosen is None and told is not None:
            self._formats = [told, *(known for known in _FORMATS if known != told)]
        self._chosen, self._zone, self._missing = chosen, zone, missing

    @property
    def rule(self) -> str:
        """What a time must be, for messages."""
        told = [f for f in self._formats if f not in _FORMATS]
        if self._chosen is not None:
            return f"not of the format {self._chosen}; another one can be named (--time-format)"
        return f"neither ISO 8601 nor a Unix time{f' nor {told[0]}' if told else ''}"

    def parse(self, column: pl.Series | list[Any]) -> tuple[Int[np.ndarray, " n"], dict[int, str]]:
        """Microseconds since 1970, and the text of those that are no time, by position."""
        texts = column if isinstance(column, pl.Series) else to_texts(column)
        if texts.dtype.is_temporal():
            naive = texts.dtype == pl.Date or getattr(texts.dtype, "time_zone", None) is None
            return _microseconds(self._localised(texts.cast(pl.Datetime("us"))) if naive else texts), {}
        if texts.dtype.is_numeric() and self._chosen is None and self._formats[0] not in ("%Y%m%d", "%Y%m%d%H%M%S"):
            times, failed = _unix_times(texts)
            return times, {int(i): str(texts[int(i)]) for i in np.flatnonzero(failed)}
        texts = texts.cast(pl.String)
        times = np.full(len(texts), NO_TIME)
        left = np.flatnonzero((texts.fill_null("") != "").to_numpy())
        left = self._read(texts, left, times)
        if len(left) == 0:
            return times, {}
        some = texts.gather(left).str.strip_chars()
        words = some.str.to_lowercase().is_in(list(self._missing)).to_numpy()
        some, left = some.filter(~words), left[~words]
        bare, zones = split_zones(some)
        times[left] = self._read_zoned(bare, zones)
        some, left = some.filter(times[left] == NO_TIME), left[times[left] == NO_TIME]
        if self._chosen is not None:
            return times, {int(at): shortened(texts[int(at)], 100) for at in left}
        times[left], failed = _unix_times(some)
        wrong: dict[int, str] = {}
        for i in np.flatnonzero(failed):
            try:
                moment = datetime.fromisoformat(some[int(i)])
                moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
                times[left[i]] = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
            except (ValueError, OverflowError):
                wrong[int(left[i])] = shortened(texts[int(left[i])], 100)
        return times, wrong

    def _read(self, texts: pl.Series, left: Int[np.ndarray, " m"], times: Int[np.ndarray, " n"]) -> np.ndarray:
        """Put in the times of the texts at these positions that have one of the formats; returns the others."""
        for time_format in list(self._formats):
            if len(left) == 0:
                break
            some = texts if len(left) == len(texts) else texts.gather(left)
            some = read(some, time_format)
            zoned = getattr(some.dtype, "time_zone", None) is not None
            times[left] = _microseconds(some if zoned else self._localised(some))
            if some.null_count() < len(left):
                self._formats.remove(time_format)
                self._formats.insert(0, time_format)  # the next block will most likely look the same
            left = left[some.is_null().to_numpy()]
        return left

    def _read_zoned(self, texts: pl.Series, zones: pl.Series) -> Int[np.ndarray, " n"]:
        """The times of texts whose zones were named behind them; none where no zone was, but the text had blanks."""
        times = np.full(len(texts), NO_TIME)
        for zone in zones.unique().to_list():
            here = np.flatnonzero((zones.is_null() if zone is None else (zones == zone).fill_null(False)).to_numpy())
            parser = TimeParser(self._formats[0], self._chosen, zone or self._zone)
            some = texts.gather(here).str.strip_chars()
            found = np.full(len(here), NO_TIME)
            parser._read(some, np.arange(len(here)), found)
            times[here] = found
        return times

    def _localised(self, times: pl.Series) -> pl.Series:
        return times if self._zone is None else in_zone(times, self._zone)


def _microseconds(times: pl.Series) -> Int[np.ndarray, " n"]:
    return times.cast(pl.Datetime("us")).to_physical().fill_null(NO_TIME).to_numpy().astype(np.int64)


def _unix_times(values: pl.Series) -> tuple[Int[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Microseconds from Unix times in s, ms, us or ns, told by size: in each unit 1973 to 5138 is one range.

    Also which are no number, or one beyond what 64 bits hold; a missing, NaN or infinite one is `NO_TIME`.
    """
    times = np.full(len(values), NO_TIME)
    whole = values.cast(pl.Int64, strict=False) if not values.dtype.is_float() else pl.Series([None] * len(values))
    exact = whole.is_not_null().to_numpy()  # floats hold a time in ns to 256 ns only
    integers = whole.cast(pl.Int64).fill_null(0).to_numpy()
    numbers = values.cast(pl.Float64, strict=False)
    reals = np.array(numbers.to_numpy(), np.float64)
    size = np.abs(reals)
    for low, high, factor in ((0, 1e11, 1_000_000), (1e11, 1e14, 1_000), (1e14, 1e17, 1), (1e17, 9.2e18, 0)):
        here = (size >= low) & (size < high)
        times[here & exact] = integers[here & exact] * factor if factor else integers[here & exact] // 1_000
        times[here & ~exact] = np.floor(reals[here & ~exact] * (factor or 1e-3)).astype(np.int64)
    return times, (values.is_not_null() & numbers.is_null()).to_numpy() | (np.isfinite(reals) & (size >= 9.2e18))
