"""People who are known without a purchase: visitors who come back for days, a few clicks a day, to ever other ads.

A budget that is counted in purchases protects buyers. Nobody's purchase speaks for children's devices, kiosks, or
people who only look. Another sign of a person is a history that earns a robot nothing: a visitor, by `user_id`, who

- clicked on DAYS days or more, the first and the last of them SPAN days apart;
- never clicked more than A_DAY times on a day;
- rests: there are REST hours of the day, the same every day, in which it has never clicked;
- looked at ever other ads: at least VARIED different ones for each click.

A robot can do the same, at a few clicks a week from each of its visitors, and if it sleeps. So this sign is not learned
from. It is a second count that the budget is held on. Robots among it only make thresholds stricter, but without end: a
few in a hundred that look like robots leave nothing to be marked, and `calibrate` says so. Of every visitor one click
counts, the first of the clicks in question, since those of one visitor are not independent.

It rests on the click log alone, and says nothing of people without a lasting `user_id`, or in a log of less than a
week. What it takes to be a regular is ours. On simulated traffic, none of 5,000 regulars a week is a robot, since no
simulated robot is that patient; three quarters of them never buy. Infected machines that click every few hours and keep
their cookie would be regulars without the rest, which few people lack: one regular in two hundred at most.
"""

import numpy as np
import polars as pl
from jaxtyping import Bool, Int

DAY, HOUR = 86_400_000, 3_600_000  # milliseconds
DAYS, SPAN = 3, 7  # so that a visitor came back, and after a week
A_DAY = 8  # a robot that clicks less is worth next to nothing; of people's days, four in five have no more
PART = 2_000_000  # clicks whose visitors are looked at at once
REST = 4  # hours: people sleep, and nobody has to tell the time zone for that
VARIED = 0.7  # different ads for each click; a robot has its favourites

Mask = Bool[np.ndarray, " n"]


def regulars(clicks: pl.DataFrame, rows: Mask, known_at: int) -> Mask:
    """Of the clicks `rows` (n,) bool, the first of each regular, by what is known at `known_at` in ms since 1970 UTC.

    `clicks` has the columns user_id, ts and ad_id, a row for each of n clicks. A click after `known_at` tells nothing
    and is none of a regular's.
    """
    found = np.zeros(len(rows), bool)
    parts = -(-len(rows) // PART)
    table = clicks.lazy().select("user_id", "ts", "ad_id", row=pl.int_range(pl.len()), wanted=pl.Series(rows))
    for part in range(parts):  # some visitors at a time, for its memory
        mine = pl.col("user_id").hash() % parts == part
        found[_regulars(table.filter(mine & pl.col("user_id").is_not_null() & (pl.col("ts") <= known_at)))] = True
    return found


def _regulars(seen: pl.LazyFrame) -> Int[np.ndarray, " k"]:
    """The rows of the first wanted clicks of regulars."""
    daily = seen.group_by("user_id", day=pl.col("ts") // DAY).agg(pl.len())
    known = (
        daily.group_by("user_id")
        .agg(days=pl.len(), most=pl.col("len").max(), span=pl.col("day").max() - pl.col("day").min())
        .filter((pl.col("days") >= DAYS) & (pl.col("span") >= SPAN) & (pl.col("most") <= A_DAY))
    )
    of_day = pl.col("of_day")
    rests = (
        seen.select("user_id", of_day=pl.col("ts") % DAY)
        .sort("of_day")
        .group_by("user_id", maintain_order=True)
        .agg(rest=pl.max_horizontal(of_day.diff().max().fill_null(0), of_day.first() + DAY - of_day.last()))
        .filter(pl.col("rest") >= REST * HOUR)
    )
    varied = seen.group_by("user_id").agg(varied=pl.col("ad_id").n_unique() / pl.len())
    first = seen.filter("wanted").group_by("user_id").agg(pl.col("row").first())
    chosen = (
        first.join(known, on="user_id")
        .join(rests, on="user_id")
        .join(varied.filter(pl.col("varied") >= VARIED), on="user_id")
        .select("row")
        .collect()
    )
    return chosen["row"].to_numpy()
