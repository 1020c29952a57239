"""Formats of times: which one a column has, told from some of its cells, and the zones that are named in it.

Formats are those of `strptime`, as polars reads them. ISO 8601 and Unix times are read anyhow, see `times`.
"""

from datetime import timedelta
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

_DATES = (  # of two that fit alike, the one whose times ascend more often counts; after that, their order here
    *("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d"),
    *("%d.%m.%y", "%m/%d/%y", "%d/%m/%y"),
    *("%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d/%b/%Y", "%b %d, %Y", "%b %d %Y", "%B %d, %Y", "%d %B %Y", "%Y-%m-%d"),
    *("%a, %d %b %Y", "%a %b %d %Y", "%d. %m. %Y"),
)
_CLOCKS = (
    *(" %H:%M:%S%.f", " %H:%M", " %I:%M:%S %p", " %I:%M %p", " %I:%M:%S%.f %p", " %I:%M:%S%p", " %I:%M%p"),
    *(", %H:%M:%S", ", %H:%M", ", %I:%M:%S %p", ", %I:%M %p", ":%H:%M:%S", "T%H:%M:%S%.f", " %H.%M.%S", " %H%M%S"),
    *("-%H.%M.%S%.f", ""),
)
FORMATS = (
    *(date + clock + zone for date in _DATES for clock in _CLOCKS for zone in ("", " %#z", "%#z")),
    *("%a %b %d %H:%M:%S %Y", "%Y-%m-%d %I:%M:%S %p", "%Y-%m-%d %I:%M %p", "%Y%m%d%H%M%S"),
)
MONTH_FIRST, DAY_FIRST = ("%m/%d", "%m-%d"), ("%d/%m", "%d-%m")
_YEARS = (1900, 2200)  # two digits read as a year of four give one before

_ZONE = r"^(.*?\d(?:\s*[AaPp]\.?[Mm]\.?)?)\s*\(?([A-Z][A-Za-z]{1,4}|[A-Z][A-Za-z]+(?:/[A-Za-z_+\-0-9]+)+)\)?$"
_HALVES = ("AM", "PM")  # of a day, and no zones
_HOURS = {  # east of Greenwich; CST, IST and the like are those of the larger number of servers
    **dict.fromkeys(("UTC", "GMT", "WET", "UT"), 0.0),
    **dict.fromkeys(("CET", "MEZ", "WEST", "BST"), 1.0),
    **dict.fromkeys(("CEST", "MESZ", "EET", "SAST"), 2.0),
    **dict.fromkeys(("EEST", "MSK"), 3.0),
    **{"IST": 5.5, "SGT": 8.0, "HKT": 8.0, "AWST": 8.0, "JST": 9.0, "KST": 9.0, "AEST": 10.0, "AEDT": 11.0},
    **{"NZST": 12.0, "NZDT": 13.0, "BRT": -3.0, "ART": -3.0, "EDT": -4.0, "EST": -5.0, "CDT": -5.0, "CST": -6.0},
    **{"MDT": -6.0, "MST": -7.0, "PDT": -7.0, "PST": -8.0, "AKDT": -8.0, "AKST": -9.0, "HST": -10.0},
}


def told_format(cells: pl.Series, decimal: str = ".") -> str | None:
    """The format that most of the cells have, None where no format of `FORMATS` fits more than half of them.

    Whether 3/4 is in March or in April is told by a day beyond 12, else by the order of the times, else by their span,
    since more series are of minutes and days than of months. In the end the decimal comma goes with 3 April.
    """
    cells, _ = split_zones(cells.filter(cells.str.contains(r"\d")).str.strip_chars())
    if not len(cells):
        return None
    found: list[tuple[int, int, float, int, str]] = []
    for place, time_format in enumerate(_likely(cells[0])):
        if read(cells.head(3), time_format).null_count() == min(len(cells), 3):
            continue
        times = read(cells, time_format)
        fits = len(times) - times.null_count()
        ascending = int((times.drop_nulls().diff().drop_nulls() >= timedelta(0)).sum())
        disliked = MONTH_FIRST if decimal == "," else DAY_FIRST
        span = float(np.ptp(times.drop_nulls().dt.timestamp("ms").to_numpy()))
        place += len(FORMATS) * time_format.startswith(disliked)
        found.append((-fits, -ascending, span, place, time_format))
    best = min(found, default=(0, 0, 0.0, 0, ""))
    return best[-1] if -best[0] * 2 > len(cells) else None


def _likely(cell: str) -> list[str]:
    """The formats that a cell may have, by the signs that stand in it."""
    half = any(
        f"{number}{space}{half}" in cell.lower() for half in ("am", "pm") for space in ("", " ") for number in range(10)
    )
    letters = sum(character.isalpha() for character in cell) > 2 * half + cell.count("T")
    zoned = cell[-5:-4] in ("+", "-") or cell[-6:-5] in ("+", "-")

    def may_be(time_format: str) -> bool:
        named = "%b" in time_format or "%B" in time_format or "%a" in time_format
        return (
            named == letters
            and ("%p" in time_format) == half
            and (time_format.endswith("z") <= zoned)
            and all(time_format.count(sign) <= cell.count(sign) for sign in ",/:.T" if sign != ".")
        )

    return [time_format for time_format in FORMATS if may_be(time_format)]


def read(texts: pl.Series, time_format: str) -> pl.Series:
    """The texts as datetimes, in UTC where the format has a zone; null where one does not fit."""
    zone = "UTC" if "%z" in time_format or "%#z" in time_format else None
    try:
        times = texts.str.to_datetime(time_format, time_unit="us", strict=False, time_zone=zone)
    except pl.exceptions.PolarsError:  # a format that can fit no time
        return pl.Series([None] * len(texts), dtype=pl.Datetime("us"))
    if "%y" in time_format or time_format.startswith("%Y-"):  # neither takes 24 for the year 24
        return times
    return times.set(~times.dt.year().is_between(*_YEARS).fill_null(True), None)


def split_zones(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The texts without the zones that are named at their ends, and these zones; null where there is none."""
    zones = texts.str.extract(_ZONE, 2)
    known = [zone for zone in zones.unique().drop_nulls() if zone.upper() not in _HALVES and is_zone(zone)]
    zones = zones.set(~zones.is_in(known).fill_null(False), None)
    return texts.str.extract(_ZONE, 1).zip_with(zones.is_not_null(), texts), zones


def in_zone(times: pl.Series, zone: str) -> pl.Series:
    """Local times of a zone in UTC: of two moments of one local time the earlier, null where there is no such zone."""
    if zone.upper() in _HOURS:
        return times - timedelta(hours=_HOURS[zone.upper()])
    if not is_zone(zone):
        return pl.Series([None] * len(times), dtype=pl.Datetime("us"))
    local = times.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return local.dt.convert_time_zone("UTC").dt.replace_time_zone(None)


@cache
def is_zone(zone: str) -> bool:
    """Whether there is a zone of this name, such as Europe/Berlin or CET."""
    if zone.upper() in _HOURS:
        return True
    try:
        ZoneInfo(zone)
    except (OSError, ValueError, KeyError):
        return False
    return True
