"""Days of rows that have a clock alone: that of the title above, and the next one when the clock starts again."""

import re
from datetime import date, timedelta

DATE = re.compile(r"(?:\d{4}-\d\d?-\d\d?|\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d\d))$")
_NUMBER = re.compile(r"\d+")
_HALF_A_DAY = 12 * 3_600  # seconds; a clock that falls back by less was put right, or changed to winter time


class Days:
    """The day of one row after the other.

    day: of the first row, as its title writes it, e.g. 11/29/2026; so are all others written. day_first: whether
    07/08/2026 is in August, where nothing in the date tells.
    """

    def __init__(self, day: str, day_first: bool = False):
        self._day, self._day_first = day, day_first
        self._last = -1  # seconds since midnight

    def titled(self, day: str) -> None:
        """Another title says which day follows."""
        self._day, self._last = day, -1

    def at(self, clock: str) -> str:
        """The day of a row whose clock is e.g. 11:50:01 PM."""
        now = _seconds(clock)
        if self._last - now > _HALF_A_DAY:
            self._day = day_after(self._day, self._day_first)
        self._last = now
        return self._day


def day_after(day: str, day_first: bool = False) -> str:
    """The next day, written as this one is; itself where it is no date.

    >>> day_after("12/31/2026"), day_after("28.02.26"), day_after("2026-07-09"), day_after("9/7/2026", day_first=True)
    ('01/01/2027', '01.03.26', '2026-07-10', '10/7/2026')
    """
    parts = _NUMBER.findall(day)
    if len(parts[0]) == 4:
        order = (0, 1, 2)
    elif "." in day or day_first or int(parts[0]) > 12:
        order = (2, 1, 0)
    else:
        order = (2, 0, 1)
    if order == (2, 1, 0) and int(parts[1]) > 12:
        order = (2, 0, 1)
    year, month, of_month = (int(parts[at]) for at in order)
    try:
        following = date(year if year > 99 else 2_000 + year, month, of_month) + timedelta(days=1)
    except (ValueError, OverflowError):
        return day
    for at, number in zip(order, (following.year, following.month, following.day), strict=True):
        parts[at] = f"{number % 10 ** max(len(parts[at]), 2):0{len(parts[at])}}"
    texts = iter(parts)
    return _NUMBER.sub(lambda _: next(texts), day)


def _seconds(clock: str) -> float:
    """Seconds since midnight."""
    hours, minutes, *seconds = re.findall(r"\d+", clock)
    hour = int(hours) % 12 if clock[-1] in "mM" else int(hours)
    hour += 12 * (clock[-2:].lower() == "pm")
    return 3_600.0 * hour + 60.0 * int(minutes) + (int(seconds[0]) if seconds else 0)
