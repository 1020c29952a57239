"""The lookups of a day, built the night after from what a service has kept, or from a log.

    build("lookups", History("state/history"))

**Once a day.** A second call for the same day finds the version, and changes nothing.

**Of its own future a version knows nothing:** its clicks came and its labels were known before its day was over, and it
comes into force `NIGHT` after that, or `SOON` after it was built. So what is built later for days long past is what
would have been built then.
"""

import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Protocol

import polars as pl

import onlineguard
from onlineguard.errors import CheckpointError, Conflict, InvalidArgument, SourceError
from onlineguard.slidr.history.layout import day_of
from onlineguard.slidr.history.reading import History, metadata_of
from onlineguard.slidr.learning.labels import WINDOW
from onlineguard.slidr.lookups.building import DAY, DAYS, Known, tables
from onlineguard.slidr.lookups.file import SUFFIX, About, Version, write_version
from onlineguard.slidr.lookups.hosting import ranges, read_hosting
from onlineguard.slidr.lookups.lookups import SOON

NIGHT = 6 * 3_600_000  # ms after midnight UTC by which a nightly command has long ended

_FIELDS = ("click_id", "ts", "user_id", "ip", "user_agent", "ad_id", "purchase_ts", "rfm")


class Source(Protocol):
    """Where clicks come from."""

    name: str

    def known(self, as_of: int, days: int) -> Known:
        """What was known at `as_of`, ms since 1970 UTC. Raises SourceError."""
        ...


class OfHistory:
    """The history of a service. What it got to know of a click by a label counts from when the label came."""

    def __init__(self, history: History):
        self._history, self.name = history, str(history.path)

    def known(self, as_of: int, days: int) -> Known:
        """See `Source`."""
        first = day_of(as_of - max(WINDOW, days * DAY))
        paths = [part.path for part in self._history.parts() if part.day >= first and part.day <= day_of(as_of)]
        for path in paths:
            if metadata_of(path).get("pseudonyms", "no") != "no":
                raise SourceError(
                    f"{path} has names in place of users and addresses, so no click could be looked up; build lookups "
                    "from a history with pseudonyms off, or from a log of the clicks"
                )
        if not paths:
            raise SourceError(f"{self.name} has no clicks of before {day_of(as_of)}")
        files = pl.scan_parquet(paths, hive_partitioning=False, extra_columns="ignore")  # features may differ
        clicks = files.select("t", *_FIELDS).filter(pl.col("t") < as_of)
        return _known(clicks, self._history.labels(known_at=as_of - 1), as_of, days)


class OfLog:
    """A log of clicks, in the columns of `SCHEMA`. What it says of a click counts from the click on."""

    def __init__(self, clicks: pl.DataFrame, name: str):
        self._clicks, self.name = clicks.select(_FIELDS), name

    def known(self, as_of: int, days: int) -> Known:
        """See `Source`."""
        return _known(self._clicks.lazy(), None, as_of, days)


class Built(NamedTuple):
    """A version, and whether it had been built before."""

    version: Version
    repeated: bool


def build(
    folder: str | Path,
    source: Source,
    day: date | None = None,
    days: int = DAYS,
    orders: pl.DataFrame | None = None,
    hosting: Path | None = None,
    again: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Built:
    """The version of a day, by default yesterday in UTC, built unless it is there.

    days: that baselines are means of. orders: with user_id, ts and amount; without, see `building`.
    hosting: see the module of that name. again: build another version of the day, which takes the place of the first.
    progress: gets a line a step.

    Raises SourceError where there are no clicks of these days, Conflict where somebody else built another version of
    the day just now, CheckpointError where the folder cannot be written.
    """
    if days < 1:
        raise InvalidArgument("days", f"is {days}; it must be 1 or more, e.g. {DAYS}")
    now = time.time_ns() // 1_000_000
    last = day or datetime.now(UTC).date() - timedelta(days=1)
    as_of = (last - date(1970, 1, 1)).days * DAY + DAY
    if as_of > now:
        raise InvalidArgument("day", f"is {last}, which is not over yet in UTC; name an earlier day")
    path = _free(Path(folder), last, again)
    if path.exists():
        return Built(Version(path).check(), True)
    say = progress or (lambda _line: None)
    say(f"reading the clicks of {days} days before {day_of(as_of)}")
    known = source.known(as_of, days)
    if orders is not None:
        known = Known(known.clicks, orders, known.sent.clear())
    found = {**tables(known, as_of, say), **ranges(read_hosting(hosting) if hosting is not None else [])}
    late = as_of > now - DAY  # else it is of a day long past
    about = About(
        as_of=as_of,
        since=max(as_of + NIGHT, now + SOON) if late else as_of + NIGHT,
        days=days,
        built_from=source.name,
        hosting="" if hosting is None else str(hosting),
        onlineguard=onlineguard.__version__,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = write_version(path, about, found)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror or error}") from error
    if not made and again:
        raise Conflict(f"somebody else has built {path.name} just now; look at it, or build again")
    return Built(Version(path), not made)


def _known(clicks: pl.LazyFrame, labels: pl.LazyFrame | None, as_of: int, days: int) -> Known:
    before = clicks.filter(pl.col("ts") < as_of)
    recent = before.filter(pl.col("ts") >= as_of - days * DAY)
    if not recent.select(pl.len()).collect(engine="streaming").item():
        raise SourceError(
            f"there are no clicks of the {days} days before {day_of(as_of)}, as of which lookups are built"
        )
    of_accounts = before.filter(pl.col("ts") >= as_of - WINDOW, pl.col("user_id").is_not_null())
    if labels is not None:
        told = labels.select("click_id", told_purchase="purchase_ts", told_rfm="rfm")
        of_accounts = of_accounts.join(told, on="click_id", how="left").with_columns(
            purchase_ts=pl.coalesce("purchase_ts", "told_purchase"), rfm=pl.coalesce("rfm", "told_rfm")
        )
    bought = pl.col("purchase_ts") < as_of  # a null is none
    of_accounts = of_accounts.filter(bought | pl.col("rfm").is_not_null())
    worth = of_accounts.select("click_id", "ts", "user_id", "purchase_ts", "rfm").collect(engine="streaming")
    orders = worth.filter(bought).unique("click_id").select("user_id", ts="purchase_ts", amount=pl.lit(1.0))
    sent = worth.drop_nulls("rfm").sort("ts", "click_id").unique("user_id", keep="last").select("user_id", "rfm")
    return Known(recent, orders, sent)


def _free(folder: Path, day: date, again: bool) -> Path:
    path, number = folder / f"{day}{SUFFIX}", 1
    while again and path.exists():
        number += 1
        path = folder / f"{day}.{number}{SUFFIX}"
    return path
