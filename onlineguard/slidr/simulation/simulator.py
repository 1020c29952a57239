"""Simulated ad clicks of people and robots, with the truth kept apart: day by day, in bounded memory.

`write_traffic` writes three Parquet files, and `simulate` returns the same as frames:

- clicks.parquet: one row for each click, in order of arrival, with the columns of `CLICKS`.
- truth.parquet: one row for each click id, with `robot` and `kind`, which is "person" or one of `robots.ROBOTS`, and in
  the wide world one of `wide.ROBOTS` or of `wide.PEOPLE`. It is for measuring only. Nothing that trains or calibrates
  may read it.
- orders.parquet: one row for each order of an account, by time, with `user_id`, `ts` and `amount`, from 90 days before
  the first click until the last purchase.

Times are milliseconds since 1970 UTC. Of the clicks, 0.5 % arrive up to 15 minutes late, so `ts` is not quite in order,
and 0.1 % arrive twice under the same id. `rfm` is the account's score (see `world.Ledger`) at the midnight (UTC) before
the click. It is null for unknown visitors and for accounts without orders in 90 days. A purchase by a known account is
also an order of that account at `purchase_ts`, which comes after the click.

The same configuration and seed give the same rows, with the same versions of NumPy on the same kind of processor.
"""

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float, Int
from polars.io.plugins import register_io_source

from onlineguard import atomic
from onlineguard.errors import InvalidArgument
from onlineguard.slidr.simulation import wide
from onlineguard.slidr.simulation.arrivals import Arrivals, together
from onlineguard.slidr.simulation.robots import Today, robots, weights
from onlineguard.slidr.simulation.tally import KINDS, ROBOTIC, Tally
from onlineguard.slidr.simulation.traffic import Traffic
from onlineguard.slidr.simulation.world import (
    AD_IDS,
    AGENTS,
    DAY,
    DEVICES,
    HOUR,
    MARKETPLACES,
    MINUTE,
    UNKNOWN,
    Ledger,
    People,
    Rhythm,
    Sessions,
    dotted,
    identifiers,
    joined,
)

CLICKS: dict[str, type[pl.DataType]] = {
    "click_id": pl.String,
    "ts": pl.Int64,
    "user_id": pl.String,
    "session_id": pl.String,
    "ip": pl.String,
    "user_agent": pl.String,
    "device": pl.String,
    "marketplace": pl.String,
    "ad_id": pl.String,
    "logged_in": pl.Boolean,
    "purchase_ts": pl.Int64,
    "rfm": pl.Float64,
}
TRUTH: dict[str, type[pl.DataType]] = {"click_id": pl.String, "robot": pl.Boolean, "kind": pl.String}
ORDERS: dict[str, type[pl.DataType]] = {"user_id": pl.String, "ts": pl.Int64, "amount": pl.Float64}
FILES = ("clicks.parquet", "truth.parquet", "orders.parquet")

_LATE, _LATEST = 0.005, 15 * MINUTE
_TWICE = 0.001
_IDLE = 30 * MINUTE  # no pause within a session is longer
_MEAN_DELAY, _SPREAD_DELAY, _LONGEST_DELAY = 20 * MINUTE, 1.5, 24 * HOUR  # median time to a purchase, log spread, cap
_PEAK = (1.4, 2.5, 1.5)  # people's clicks on the eve of the holiday, on the day, on the day after
_PEAK_BUYS = 1.5
_CHUNK = 1 << 18  # rows of the small files that are written at once


class Simulated(NamedTuple):
    """The three files as frames."""

    clicks: pl.DataFrame
    truth: pl.DataFrame
    orders: pl.DataFrame


def simulate(config: Traffic, seed: int = 0) -> Simulated:
    """All of the traffic at once, in memory."""
    simulation = Simulation(config, seed)
    clicks = pl.concat(list(simulation.days()))
    return Simulated(clicks, pl.concat(list(simulation.truth())), pl.concat(list(simulation.orders())))


def write_traffic(
    folder: str | os.PathLike[str],
    config: Traffic,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Tally:
    """Write the three files into `folder`, and create it if it is missing. `progress` gets the number of clicks so far.

    An existing file is replaced once the new one is complete. Raises InvalidArgument if the folder cannot be written.
    """
    simulation = Simulation(config, seed)
    parts = (
        (CLICKS, lambda: simulation.days(progress)),
        (TRUTH, simulation.truth),
        (ORDERS, simulation.orders),
    )
    temporary = Path(folder) / f".simulate.{os.getpid()}.tmp"
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        for name, (schema, frames) in zip(FILES, parts, strict=True):
            _source(schema, frames).sink_parquet(temporary / name, compression="zstd", compression_level=1)
        for name in FILES:
            atomic.move(temporary / name, Path(folder) / name)
    except OSError as error:
        reason = error.strerror or error
        raise InvalidArgument(
            f"folder is {folder}, where no files can be written ({reason}); name another folder"
        ) from error
    finally:
        try:
            shutil.rmtree(temporary, ignore_errors=True)
        except KeyboardInterrupt:  # polars raises a Ctrl-C, and then Python raises the same one here
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return simulation.tally


class Simulation:
    """One run. Call `days` first, then `truth` and `orders`, each of them once."""

    def __init__(self, config: Traffic, seed: int = 0):
        if seed < 0:
            raise InvalidArgument("seed", f"is {seed}; it must be 0 or more")
        self.config, self.seed = config, seed
        self.tally = Tally()
        self._key = int(np.random.default_rng([seed, 3]).integers(0, 1 << 36))
        rng = np.random.default_rng([seed, 2])
        self._people = People(max(100, round(0.8 * (1 - config.robots) * config.clicks / config.days)), rng)
        self._ledger = Ledger(self._people, config.begin, rng)
        self._truth: list[tuple[np.ndarray, np.ndarray]] = []
        self._clicks = self._visits = 0  # clicks and sessions so far; the next one gets this number
        rhythms = [self._rhythm(day) for day in range(config.days)]
        expected = sum(map(self._people.expected_clicks, rhythms))
        usual = 1.0 - (wide.PEOPLE_SHARE if config.world == "wide" else 0.0)  # share of people's clicks
        self._scale = usual * (1 - config.robots) * config.clicks / expected
        days = sum(sum(self._weights(day).values()) for day in range(config.days))
        self._robots = config.robots * config.clicks / days

    def days(self, progress: Callable[[int], None] | None = None) -> Generator[pl.DataFrame]:
        """The clicks that arrive on each day (UTC), in order of arrival, with the columns of CLICKS."""
        late: Arrivals | None = None  # clicks of earlier days that arrive on later ones
        rfm = self._ledger.scores(self.config.begin)
        done = 0
        for day in range(self.config.days):
            midnight = self.config.begin + day * DAY
            rng = np.random.default_rng([self.seed, 0, day])
            yesterday, rfm = rfm, self._ledger.scores(midnight)
            self._ledger.day(midnight, rng)
            clicks = self._expanded(self._planned(day, rfm, rng), rng)
            waiting = clicks if late is None else together(late, clicks)
            # The row in the lower bits keeps the order of clicks that arrive at the same time.
            key = np.sort(((waiting.arrival - midnight) << 32) | np.arange(len(waiting.arrival)))
            arrived = int(np.searchsorted(key, DAY << 32))
            row = key & 0xFFFFFFFF
            late = waiting.alone(row[arrived:])
            frame = self._frame(waiting.take(row[:arrived]), midnight, rfm, yesterday)
            done += len(frame)
            if progress is not None:
                progress(done)
            yield frame

    def truth(self) -> Generator[pl.DataFrame]:
        """Each click once, in order of arrival, with the columns of TRUTH."""
        names = pl.Series(KINDS)
        for number, kind in self._truth:
            columns = (identifiers(number, self._key), pl.Series(ROBOTIC[kind]), names.gather(pl.Series(kind)))
            yield pl.DataFrame(dict(zip(TRUTH, columns, strict=True)))

    def orders(self) -> Generator[pl.DataFrame]:
        """Each order, by time, with the columns of ORDERS."""
        user, ts, amount = self._ledger.columns()
        self.tally.orders = len(user)
        for first in range(0, max(len(user), 1), _CHUNK):
            rows = slice(first, first + _CHUNK)
            columns = (identifiers(user[rows], self._key + 1), pl.Series(ts[rows]), pl.Series(amount[rows]))
            yield pl.DataFrame(dict(zip(ORDERS, columns, strict=True)))

    def _rhythm(self, day: int) -> Rhythm:
        return Rhythm(self.config.start + timedelta(days=day), np.random.default_rng([self.seed, 4, day]))

    def _weights(self, day: int) -> dict[str, float]:
        return weights(day // 7, day in self.config.attack)

    def _planned(self, day: int, rfm: Float[np.ndarray, " people"], rng: np.random.Generator) -> Sessions:
        """The sessions of that day."""
        rhythm = self._rhythm(day)
        peak = self.config.peak
        scale, near = self._scale, -1 if peak is None else day - peak + 1
        if 0 <= near < len(_PEAK):
            scale *= _PEAK[near]
        people = self._people.sessions(rhythm, scale, day, rfm, self.config.biased_purchases, rng)
        if day == peak:
            people = replace(people, buys=people.buys * np.float32(_PEAK_BUYS))
        under_attack = day in self.config.attack
        theirs = self._robots * (0.5 if self.config.world == "wide" else 1.0)
        others = robots(self._people, rhythm, day, theirs, under_attack, rfm, self.seed, rng)
        if self.config.world == "wide":
            others += self._wide(rhythm, day, rfm, rng)
        everyone = joined([people, *others])
        if self.config.hidden:
            everyone = wide.anonymous(everyone, self.config.hidden, rng)
        number = self._visits + np.arange(len(everyone))
        self._visits += len(everyone)
        return replace(everyone, session=np.where(everyone.session == UNKNOWN, UNKNOWN, number))

    def _wide(
        self, rhythm: Rhythm, day: int, rfm: Float[np.ndarray, " people"], rng: np.random.Generator
    ) -> list[Sessions]:
        """The sessions of the robots and the people of the wide world on that day."""
        people = (1 - self.config.robots) * self.config.clicks / self.config.days * wide.PEOPLE_SHARE
        makes = [(name, make, share * 0.5 * self._robots) for name, (make, share) in wide.ROBOTS.items()]
        makes += [(name, make, share * people) for name, (make, share) in wide.PEOPLE.items()]
        last = day >= self.config.days - 7
        return [
            make(Today(self._people, rhythm, day, rfm, KINDS.index(name), self.seed, rng), clicks)
            for name, make, clicks in makes
            if last or name not in wide.LAST_WEEK
        ]

    def _expanded(self, sessions: Sessions, rng: np.random.Generator) -> Arrivals:
        """Every click of the sessions, with late ones and duplicates, in no particular order."""
        row = np.repeat(np.arange(len(sessions), dtype=np.int32), sessions.clicks)
        n = len(row)
        pause = rng.standard_normal(n, np.float32)
        pause *= sessions.spread[row]
        pause += sessions.pause[row]
        pause = np.minimum(np.exp(pause), np.float32(_IDLE))
        first = np.cumsum(sessions.clicks) - sessions.clicks
        pause[first[sessions.clicks > 0]] = 0
        since = np.cumsum(pause, dtype=np.float64)
        since -= np.repeat(since[first.clip(max=max(n - 1, 0))], sessions.clicks) if n else since
        ts = sessions.start[row] + since.astype(np.int64)

        u = rng.random(n, np.float32)
        ads = sessions.ads.astype(np.float32)[row]
        ad = np.minimum(np.power(ads + 1, u), ads).astype(np.int32) - 1 + sessions.ad[row]
        purchase = self._purchases(sessions, row, ts, rng)

        arrival = ts.copy()
        late = rng.integers(0, max(n, 1), rng.binomial(n, _LATE))
        arrival[late] += rng.integers(0, _LATEST, len(late))
        number = self._clicks + np.arange(n)
        self._clicks += n

        repeated = rng.integers(0, max(n, 1), rng.binomial(n, _TWICE))
        first_arrivals = Arrivals(sessions, arrival, ts, row, ad, purchase, number, np.zeros(n, np.bool_))
        clicks = first_arrivals.take(np.concatenate([np.arange(n), repeated]))
        clicks.arrival[n:] += rng.integers(50, MINUTE, len(repeated))
        clicks.twice[n:] = True
        return clicks

    def _purchases(
        self, sessions: Sessions, row: Int[np.ndarray, " n"], ts: Int[np.ndarray, " n"], rng: np.random.Generator
    ) -> Int[np.ndarray, " n"]:
        """The recorded time of each click's purchase, or UNKNOWN. Adds the orders to the ledger."""
        bought = np.flatnonzero(rng.random(len(row), np.float32) < sessions.buys[row])
        delay = np.exp(np.log(_MEAN_DELAY) + _SPREAD_DELAY * rng.standard_normal(len(bought)))
        at = ts[bought] + delay.clip(5_000, _LONGEST_DELAY).astype(np.int64)
        user = sessions.user[row[bought]]
        known = (user >= 0) & (user < self._people.n)
        known[known] = self._people.account[user[known]]
        self._ledger.add(user[known], at[known], rng)
        first, last = self.config.outage
        recorded = (at < first) | (at >= last)
        purchase = np.full(len(row), UNKNOWN, np.int64)
        purchase[bought[recorded]] = at[recorded]
        return purchase

    def _frame(
        self,
        arrivals: Arrivals,
        midnight: int,
        today: Float[np.ndarray, " people"],
        yesterday: Float[np.ndarray, " people"],
    ) -> pl.DataFrame:
        """The clicks as they are written. Also counts them, and keeps their truth for later."""
        sessions, row = arrivals.sessions, arrivals.row
        first = ~arrivals.twice
        self._truth.append((arrivals.number[first], sessions.kind[row][first]))
        self.tally.count(arrivals)

        user = sessions.user[row]
        person = np.where(user < self._people.n, user, UNKNOWN)
        rfm = today[person]
        before = np.flatnonzero(arrivals.ts < midnight)
        rfm[before] = yesterday[person[before]]
        rfm[person == UNKNOWN] = np.nan
        ts, purchase = arrivals.stamped(self.config.fault)
        visits = pl.DataFrame(
            {
                "user_id": identifiers(sessions.user, self._key + 1),
                "session_id": identifiers(sessions.session, self._key + 2),
                "ip": dotted(sessions.ip),
                "user_agent": AGENTS.gather(pl.Series(sessions.agent)),
                "device": pl.Series(DEVICES).gather(pl.Series(sessions.device)),
                "marketplace": pl.Series(MARKETPLACES).gather(pl.Series(sessions.marketplace)),
                "logged_in": sessions.logged_in,
            }
        )
        return visits.select(pl.all().gather(pl.Series(row))).select(
            pl.lit(identifiers(arrivals.number, self._key)).alias("click_id"),
            pl.lit(pl.Series(ts)).alias("ts"),
            pl.exclude("logged_in"),
            pl.lit(AD_IDS.gather(pl.Series(arrivals.ad))).alias("ad_id"),
            "logged_in",
            pl.lit(pl.Series(purchase).set(pl.Series(purchase == UNKNOWN), None)).alias("purchase_ts"),
            pl.lit(pl.Series(rfm, dtype=pl.Float64, nan_to_null=True)).alias("rfm"),
        )


def _source(schema: dict[str, Any], frames: Callable[[], Iterator[pl.DataFrame]]) -> pl.LazyFrame:
    """The frames as a source that polars can stream into a file."""

    def read(columns: Any, predicate: Any, n_rows: Any, batch_size: Any) -> Iterator[pl.DataFrame]:
        return frames()  # a sink wants every row and column

    return register_io_source(read, schema=schema)
