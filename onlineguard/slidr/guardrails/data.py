"""The clicks that a model is to learn from, with what the checks of them share.

Hours are those of UTC since the beginning of the data. Purchases are counted at the hour they were made, not at that
of their click: a label outage has its beginning and its end there, and would be smeared over the hours before
otherwise.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from onlineguard.records.versions import Promises
from onlineguard.slidr.history.reading import History
from onlineguard.slidr.learning.labels import humans
from onlineguard.slidr.pipeline import Config, Prepared

HOUR, DAY = 3_600_000, 86_400_000  # milliseconds
FAR = DAY // 2  # of a click's time from that of its arrival: at night a run of clicks may take hours


@dataclass(frozen=True, eq=False)
class Data:
    """Clicks in the order of their arrival, with their features as counted then."""

    frame: pl.DataFrame  # of clicks, see `clicks.SCHEMA`
    X: Float[np.ndarray, "n features"]
    since: int  # the clicks' time is since <= ts < until, unless a clock was wrong
    until: int
    known_at: int  # labels as of this time; ms since 1970 UTC
    slices: tuple[str, ...]
    rfm_at_least: float = 12.0
    promised: Promises | None = None  # of the model that is live
    arrivals: pl.DataFrame | None = (
        None  # by the hour of arrival since the beginning, where that is recorded: see `arrived`
    )
    label_hours: Float[np.ndarray, " k"] | None = None  # from each purchasing click until the purchase was known

    @staticmethod
    def of_history(
        history: History, prepared: Prepared, since: int, until: int, config: Config, promised: Promises | None
    ) -> "Data":
        """The clicks of a history with since <= ts < until, and the labels known at the end; `prepared` holds them."""
        hours_of_parts = [arrived(frame, since, until) for frame in history.clicks(columns=("t", "ts"))]
        known = history.clicks(since, until, ("ts", "purchase_t"), known_at=until)
        hours = [((frame["purchase_t"] - frame["ts"]) / HOUR).drop_nulls().to_numpy() for frame in known]
        return Data(
            prepared.frame,
            prepared.X,
            since,
            until,
            until,
            config.slices,
            config.rfm_at_least,
            promised,
            pl.concat(hours_of_parts).group_by("hour").agg(pl.col("clicks", "wrong").sum()),
            np.concatenate(hours),
        )

    @property
    def hours(self) -> int:
        """Whole hours of the data."""
        return max(1, round((self.until - self.since) / HOUR))

    @cached_property
    def first(self) -> Bool[np.ndarray, " n"]:
        """The first click with its id."""
        return self.frame["click_id"].is_first_distinct().to_numpy()

    @cached_property
    def ts(self) -> Int[np.ndarray, " n"]:
        """When each click was made."""
        return self.frame["ts"].to_numpy()

    @cached_property
    def timely(self) -> Bool[np.ndarray, " n"]:
        """The clicks to learn from: in the time of the data, and the first with their id."""
        return self.first & (self.ts >= self.since) & (self.ts < self.until)

    @cached_property
    def hour(self) -> Int[np.ndarray, " n"]:
        """The hour of each click since the beginning; not to be used for those that are not timely."""
        return ((self.ts - self.since) // HOUR).clip(0, self.hours - 1).astype(np.int32)

    @cached_property
    def day(self) -> Int[np.ndarray, " n"]:
        """The day of each click since the beginning."""
        return (self.hour // 24).astype(np.int16)

    @property
    def days(self) -> int:
        """Days that have begun."""
        return -(-self.hours // 24)

    @cached_property
    def human(self) -> Bool[np.ndarray, " n"]:
        """The clicks known to be human."""
        return humans(self.frame, self.known_at, self.rfm_at_least)

    @cached_property
    def bought(self) -> Bool[np.ndarray, " n"]:
        """The clicks known to have led to a purchase."""
        return humans(self.frame, self.known_at, np.inf)

    @cached_property
    def clicks_an_hour(self) -> Int[np.ndarray, " hours"]:
        """Timely clicks in every hour."""
        return np.bincount(self.hour[self.timely], minlength=self.hours)

    @cached_property
    def purchases_an_hour(self) -> Int[np.ndarray, " hours"]:
        """Purchases made in every hour, of timely clicks."""
        made = self.frame["purchase_ts"].to_numpy()[self.timely & self.bought]
        hour = ((made - self.since) // HOUR).astype(np.int64)
        return np.bincount(hour[(hour >= 0) & (hour < self.hours)], minlength=self.hours)

    def of_days(self, mask: Bool[np.ndarray, " n"]) -> Int[np.ndarray, " days"]:
        """How many of these clicks there are on every day."""
        return np.bincount(self.day[mask], minlength=self.days)

    def when(self, hour: float) -> str:
        """An hour since the beginning, as a text."""
        at = np.datetime64(round(self.since + hour * HOUR), "ms").item()
        return f"{at:%a %Y-%m-%d %H:%M} UTC"


def arrived(clicks: pl.DataFrame, since: int, until: int) -> pl.DataFrame:
    """The hours since `since` in which clicks arrived, with how many did, and how many of them say a time that is
    `FAR` from that: hour, clicks, wrong. `clicks` has t and ts; whatever these say, t counts."""
    return (
        clicks.lazy()
        .filter(pl.col("t").is_between(since, until, closed="left"))
        .group_by(hour=(pl.col("t") - since) // HOUR)
        .agg(clicks=pl.len(), wrong=((pl.col("ts") - pl.col("t")).abs() > FAR).sum())
        .collect()
    )
