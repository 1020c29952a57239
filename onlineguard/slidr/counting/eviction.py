"""Which entities go where no more may be kept.

**The least useful goes first.** What an entity's row tells a click is what it counted in the last 24 hours, so that is
what would be lost, and of entities that counted the same the one clicked longest ago goes. A flood of names that nobody
has seen, one click each, so pushes itself out: who clicked twice today stays before any number of such.

**No click waits for it.** Where room is lacking, `LOOKED_AT` entities from all over a table are looked at, and the
eighth of them that is the least useful goes, which takes a tenth of a millisecond. Each look is at other ones, so after
N / 256 looks all were looked at once. An entity that is more useful than an eighth of the others is hardly ever
evicted: of the 256, the eighth that comes and goes is there each time.

**A pair** (a user or a session at an ip) belongs to the rows of both. Evictions are numbered by epochs; a pair born in
an earlier epoch than one of its rows is of an entity that has gone, reads like one never seen, and goes first. Of other
pairs the one clicked longest ago goes.

What is forgotten counts from zero when it comes again: counts are then too low, and the distinct users and sessions of
an ip too high by those that were forgotten and came again.
"""

import numpy as np
from jaxtyping import Int32, Int64

LOOKED_AT = 256
SHARE = 8  # one in so many of them goes

_DAY = 24  # buckets of the ring of a day, which every row of clicks has
_HOUR = 360  # shortest buckets


def lately(
    rows: Int32[np.ndarray, "n lanes"], ring: int, head: int, now: int
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """How many clicks of the 24 hours up to the shortest bucket `now` entities have counted, and their heads.

    ring: the lane where the ring of a day begins; head: that of the head.
    """
    heads = rows[:, head].astype(np.int64)
    hours = heads // _HOUR
    ages = (hours[:, None] - np.arange(_DAY)) % _DAY + (now // _HOUR - hours)[:, None]
    return (rows[:, ring : ring + _DAY] * (ages < _DAY)).sum(1, dtype=np.int64), heads


def least(rows: Int32[np.ndarray, " n"], worth: Int64[np.ndarray, " n"], newest: Int64[np.ndarray, " n"]) -> list[int]:
    """Those of some rows that go: worth the least and, of those, with the oldest newest click."""
    return rows[np.lexsort((newest, worth))[: max(1, len(rows) // SHARE)]].tolist()
