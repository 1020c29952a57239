"""Whether a log of clicks is in order of time, as counting takes it to be.

Each click sees only the clicks before it. Read backwards, a log would let every click see the future, and no error
would show. So a log in which more than one click in a thousand is over an hour behind an earlier row is out of order.
Fewer are late, as they are in life, and are counted when they came.
"""

import numpy as np
import polars as pl
from jaxtyping import Bool, Int

from onlineguard.errors import InvalidArgument

PART = 2_000_000  # clicks that are looked at at once
LATE_MS = 3_600_000  # front ends hold clicks back for minutes
MOST_LATE = 0.001  # of the clicks

Times = Int[np.ndarray, " n"]


def plausible(ts: Times) -> Bool[np.ndarray, " n"]:
    """Which clicks are not of a wrong clock: those no farther outside the middle 98 % than these are long.

    A front end that lost its clock writes 1970, and the log is no longer for that.
    """
    low, high = np.quantile(ts, (0.01, 0.99))
    return (ts >= 2 * low - high) & (ts <= 2 * high - low)


def late(ts: Times) -> int:
    """The number of clicks that are over an hour behind an earlier one, without those of wrong clocks."""
    if not len(ts):
        return 0
    usual, behind, latest = plausible(ts), 0, np.iinfo(np.int64).min // 2
    for start in range(0, len(ts), PART):  # some at a time, for their memory
        part = ts[start : start + PART][usual[start : start + PART]]
        highest = np.maximum(np.maximum.accumulate(part), latest)
        behind += int((highest - part > LATE_MS).sum())
        latest = highest[-1] if len(part) else latest
    return behind


def in_order(frame: pl.DataFrame) -> bool:
    """Whether so few clicks are late that the log is in order of arrival."""
    return late(frame["ts"].to_numpy()) <= MOST_LATE * frame.height


def check_order(frame: pl.DataFrame) -> None:
    """Raises InvalidArgument unless the clicks are in order of time."""
    if not in_order(frame):
        raise InvalidArgument(
            f"clicks are not in order of time: {late(frame['ts'].to_numpy()):,} of {frame.height:,} are over an hour "
            "behind an earlier row, and would see the future; sort them, e.g. frame.sort('ts', maintain_order=True)"
        )
