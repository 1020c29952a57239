"""Times: ISO 8601 and Unix times as microseconds since 1970 in UTC."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Int

from onlineguard.sources.fields import MISSING, to_texts
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


class TimeParser:
    """Reads times, and begins with the format that the last ones had: the next will most likely look the same."""

    def __init__(self) -> None:
        self._formats = list(_FORMATS)

    def parse(self, column: pl.Series | list[Any]) -> tuple[Int[np.ndarray, " n"], dict[int, str]]:
        """Microseconds since 1970, and the text of those that are no time, by position."""
        texts = column if isinstance(column, pl.Series) else to_texts(column)
        if texts.dtype.is_temporal():
            return _microseconds(texts), {}
        if texts.dtype.is_numeric():
            times, failed = _unix_times(texts)
            return times, {int(i): str(texts[int(i)]) for i in np.flatnonzero(failed)}
        texts = texts.cast(pl.String)
        times = np.full(len(texts), NO_TIME)
        left = np.flatnonzero((texts.fill_null("") != "").to_numpy())
        for time_format in list(self._formats):
            if len(left) == 0:
                return times, {}
            some = texts if len(left) == len(texts) else texts.gather(left)
            zone = "UTC" if time_format.endswith("z") else None
            some = some.str.to_datetime(time_format, time_unit="us", strict=False, time_zone=zone)
            times[left] = _microseconds(some)
            if some.null_count() < len(left):
                self._formats.remove(time_format)
                self._formats.insert(0, time_format)  # the next block will most likely look the same
            left = left[some.is_null().to_numpy()]
        some = texts.gather(left).str.strip_chars()
        times[left], failed = _unix_times(some)
        wrong: dict[int, str] = {}
        for i in np.flatnonzero(failed):
            if some[int(i)].lower() in MISSING:
                continue
            try:
                moment = datetime.fromisoformat(some[int(i)])
                moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
                times[left[i]] = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
            except (ValueError, OverflowError):
                wrong[int(left[i])] = shortened(texts[int(left[i])], 100)
        return times, wrong


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
