"""Numbers, counts and moments as text for a reader."""

import math
import re
from collections.abc import Sequence

import numpy as np

SECOND, DAY = 1_000_000, 86_400_000_000  # in microseconds
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def format_number(value: float) -> str:
    """Three significant digits: 0.0123, 1.23, 9,870, 12.3k, 1.23M, 1.2e-7."""
    if math.isnan(value):
        return "n/a"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    if size >= 1e15 or 0 < size < 1e-3:
        return re.sub(r"e([+-])0*", lambda match: "e" + match[1].strip("+"), f"{value:.2g}")
    unit, sign = next((unit for unit in _UNITS if size >= unit[0]), _UNITS[-1]) if size >= 9_999.5 else _UNITS[-1]
    value /= unit
    return (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}") + sign


def format_ticks(values: Sequence[float], step: float) -> list[str]:
    """Tick labels in one unit, with as many decimals as the step needs."""
    largest = max((abs(value) for value in values), default=0.0)
    if largest >= 1e15 or (0 < largest < 1e-3):
        return [format_number(value) for value in values]
    unit, sign = next((unit for unit in _UNITS if largest >= unit[0]), _UNITS[-1])
    decimals = max(0, -math.floor(math.log10(step / unit) + 1e-9))
    decimals += abs(round(step / unit, decimals) - step / unit) > 1e-6 * step / unit  # a step of 2.5
    return [f"{value / unit:.{decimals}f}{sign}" if value else "0" for value in values]


def counted(n: int, noun: str, nouns: str = "") -> str:
    """1 event, 2 events, 3,000 anomalies."""
    return f"{n:,} {noun if n == 1 else nouns or noun + 's'}"


def format_moment(at: int) -> str:
    """14 Nov 2023 22:13, with seconds where there are some; `at` in microseconds since 1970, as below."""
    step = next(step for step in (60 * SECOND, SECOND, 1) if at % step == 0)
    return f"{format_day(at, with_year=True)} {format_clock(at, step)}"


def format_day(at: int, with_year: bool = False) -> str:
    """14 Nov, or 14 Nov 2023."""
    year, month, day = str(np.datetime64(at, "us").astype("datetime64[D]")).rsplit("-", 2)
    return f"{int(day)} {MONTHS[int(month) - 1]}" + (f" {year}" if with_year else "")


def format_clock(at: int, step: int) -> str:
    """22:13, with as many more digits as distinguish moments that are `step` apart."""
    clock = str(np.datetime64(at, "us")).split("T")[1]
    return clock[:5] if step % (60 * SECOND) == 0 else clock[:8] if step % SECOND == 0 else clock.rstrip("0")
