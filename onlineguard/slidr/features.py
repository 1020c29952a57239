"""What the models see of a click: counters on a log scale, ratios, time of day and week, and whether it was logged in.

The counts, and what a pause is, are those of `counters`, each with the click itself included. Where an entity is
unknown, or has no counted click, its counts and ratios are 0, its time since the last click is that of a first click,
and its pauses are those that are thought of an entity beforehand.

| features | |
|---|---|
| `user_clicks_1m` … `prefix_clicks_24h` | log1p of the clicks of user, session, ip and prefix in the four windows |
| `user_ratio_1m_5m` … `prefix_ratio_1h_24h` | velocity: a window's clicks over the next longer one's, in [0, 1] |
| `ip_users_1h` … `ip_sessions_24h` | log1p of the distinct users and sessions of the ip |
| `ip_users_largest`, `ip_sessions_largest` | log1p of the largest such hour of the day: large gateways are no robots |
| `user_since` … `prefix_since` | log1p of the seconds since the last click, 24 h for a first one |
| `user_spread`, `session_spread`, `ip_spread` | log1p of the variance of its last pauses: scripts are even |
| `ip_clicks_7d` | log1p of the clicks of the ip in a week: who comes every day |
| `hour_sin`, `hour_cos`, `weekday_sin`, `weekday_cos` | local minute of the day, day of the week, on the unit circle |
| `logged_in` | 1 or 0 |
| `ad_signed_24h`, `ad_unknown_24h` | share of the ad's clicks in a day that are signed in, and of unknown users |
| `account_rfm` … `hosting` | what was known the night before, see `lookups.columns`; all 0 without lookups |

A share of s among n clicks is (s + 2.5) / (n + 5): shrunk towards a half by five clicks, so that the first clicks of an
ad say little. Robots that click on an ad, to drain its budget or to earn from it, have no accounts, since these cost
money and age; so the ad's visitors become unknown ones. On the project's own simulated traffic this is worth a lot, on
traffic written independently little (see `docs/slidr.md`). It misses robots with accounts, or spread over many ads.

Local time is that of the marketplace: the zone that `Featuriser.timezones` names for it, and UTC for all others.

Logarithms and sines are looked up, and nothing else is computed but sums and quotients, which IEEE 754 rounds in one
way only:
a log in one batch, its clicks one by one, and a compiled program give the same bits on every machine. Logarithms are
those of numbers cut to `BITS` significant bits: exact up to 4,095 clicks or milliseconds, and 1 in 4,096 off beyond.

Source: the features follow Muralidhar, Chitlangia, Agarwal, Ahmed: "SLIDR: Real-time detection of robotic traffic in
online advertising" (IAAI 2023) and its authors' public descriptions, which leave the windows open: those are ours.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from jaxtyping import Float32, Int32, Int64

from onlineguard.core.arrays import namespace
from onlineguard.core.protocols import Array
from onlineguard.errors import InvalidArgument
from onlineguard.slidr.clicks.clicks import LATEST, Click, check_clicks
from onlineguard.slidr.clicks.marketplaces import TIMEZONES
from onlineguard.slidr.counting.counters import ClickKeys, ProcessStore, Store
from onlineguard.slidr.counting.windows import ENTITIES, LASTING, OCTAVE, OF_AD, OF_EACH, WEEK, WINDOWS
from onlineguard.slidr.lookups import columns as lookups_columns
from onlineguard.slidr.lookups.lookups import Lookups

_PAIRS = tuple(itertools.pairwise(WINDOWS))
PACED = ("user", "session", "ip")  # a prefix holds too many for its pauses to tell anything

LOOKED_UP = lookups_columns.COLUMNS
CALENDAR = ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos")  # told by the time and the marketplace alone

NAMES: tuple[str, ...] = (
    *(f"{entity}_clicks_{window}" for entity in ENTITIES for window in WINDOWS),
    *(f"{entity}_ratio_{short}_{long}" for entity in ENTITIES for short, long in _PAIRS),
    *("ip_users_1h", "ip_users_24h", "ip_sessions_1h", "ip_sessions_24h", "ip_users_largest", "ip_sessions_largest"),
    *(f"{entity}_since" for entity in ENTITIES),
    *CALENDAR,
    "logged_in",
    *(f"{entity}_spread" for entity in PACED),
    *(f"{entity}_clicks_{WEEK}" for entity in LASTING),
    *("ad_signed_24h", "ad_unknown_24h"),
    *LOOKED_UP,
)
UNITS: tuple[str, ...] = (
    *("log1p clicks",) * 16,
    *("share",) * 12,
    *("log1p users", "log1p users", "log1p sessions", "log1p sessions", "log1p users", "log1p sessions"),
    *("log1p seconds",) * 4,
    *("",) * 4,
    "0 or 1",
    *(f"log1p octaves^2 / {OCTAVE**2}",) * 3,
    *("log1p clicks",) * len(LASTING),
    *("share",) * 2,
    *lookups_columns.UNITS,
)
WIDTH = len(NAMES)

_QUARTER_MS, _QUARTERS = 900_000, 96  # no zone changes its offset within a quarter of an hour; those of a day
_FEW = 1_000  # clicks whose offsets are looked up one by one sooner than by a join
_MOST_OFFSETS = 10_000  # days of marketplaces kept before all are dropped
_FIELDS = ("click_id", "ts", "user_id", "session_id", "ip", "ad_id", "logged_in", "marketplace")

# Clicks by which an ad's shares are shrunk towards a half: without them .54 of the simulated robots are found, not .64.
SHRUNK_BY = 5.0

BITS = 12  # significant bits of a number whose logarithm is taken
_CUT, _ONE = 24 - BITS, 127 << (BITS - 1)  # bits of a float32 that go; where the float 1.0 then lies in a table


def _circle(steps: int) -> Float32[np.ndarray, "steps 2"]:
    angles = 2.0 * np.pi * np.arange(steps) / steps
    return np.stack([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def _logs(unit: float) -> Float32[np.ndarray, " numbers"]:
    """log1p(number / unit) of 0 and of all whole numbers of int32 that have at most BITS significant bits."""
    floats = (np.arange(_ONE, _ONE + (32 << (BITS - 1)), dtype=np.int32) << _CUT).view(np.float32)
    return np.concatenate([[0.0], np.log1p(floats / unit, dtype=np.float64)]).astype(np.float32)


_LOG, _LOG_SECONDS = _logs(1.0), _logs(1_000.0)  # of a count, and of milliseconds in seconds
_MINUTE, _WEEKDAY = _circle(1_440), _circle(7)
_NOTHING = np.zeros(len(LOOKED_UP), np.float32)  # looked up


class Featuriser:
    """Features of clicks, from counters in a store, by default one in this process, and from lookups, if there are any.

    >>> featuriser = Featuriser()
    >>> click = Click(click_id="1", ts=1_700_000_000_000, user_id="anna", ip="192.0.2.7", user_agent="", device="pc",
    ...               marketplace="DE", ad_id="7", logged_in=True)
    >>> features = featuriser.transform_one(click)
    >>> round(float(np.expm1(features[NAMES.index("user_clicks_1m")])))
    1
    """

    def __init__(
        self, store: Store | None = None, timezones: Mapping[str, str] = TIMEZONES, lookups: Lookups | None = None
    ):
        self.store: Store = ProcessStore() if store is None else store
        self.lookups = lookups
        self.timezones = dict(timezones)
        self._offsets: dict[tuple[str, int], list[int]] = {}  # by marketplace and day since 1970
        for marketplace, zone in self.timezones.items():
            try:
                _offsets(zone, 0)
            except pl.exceptions.PolarsError as error:
                raise InvalidArgument(
                    f"timezones[{marketplace!r}] is {zone!r}; it must be a zone of the tz database, e.g. 'Asia/Tokyo'"
                ) from error

    def transform(self, frame: pl.DataFrame, arrived: pl.Series | None = None) -> Float32[np.ndarray, "n {WIDTH}"]:
        """Count the clicks of a frame (see `clicks`) in the order of its rows, and return the features of each.

        arrived: when each click came, for the lookups; by default at its own time.

        Counting goes on over calls: how a log is cut into frames changes no bit. Raises InvalidArgument, before
        anything is counted, if a column is missing or holds what it must not.
        """
        clicks = check_clicks(frame, _FIELDS if self.lookups is None else (*_FIELDS, "user_agent"))
        ids, _, *columns, marketplaces = (clicks[field].to_list() for field in _FIELDS)
        keys = ClickKeys(ids, clicks["ts"].to_numpy().astype(np.int64), *columns)
        looked_up = None if self.lookups is None else self.lookups.of_frame(clicks, arrived)
        return self.of_counts(self.store.count(keys), keys.ts, marketplaces, keys.signed_in, looked_up)

    def of_counts(
        self,
        counts: Int32[np.ndarray, "n 34"],
        ts: Int64[np.ndarray, " n"],
        marketplaces: Sequence[str],
        logged_in: Sequence[bool],
        looked_up: Float32[np.ndarray, "n {len(LOOKED_UP)}"] | None = None,
    ) -> Float32[np.ndarray, "n {WIDTH}"]:
        """Features of clicks that were counted and looked up already; counts nothing, checks nothing."""
        minute, weekday = self._local_times(marketplaces, ts)
        found = np.zeros((len(counts), len(LOOKED_UP)), np.float32) if looked_up is None else looked_up
        return assembled(counts, minute, weekday, np.array(logged_in, bool), found)

    def transform_one(self, click: Click) -> Float32[np.ndarray, " {WIDTH}"]:
        """Count one click, and return its features: those that `transform` gives for it."""
        if not 0 <= click.ts <= LATEST:  # `decode_click` sees to it, the constructor does not
            raise InvalidArgument(f"ts is {click.ts}; it must be milliseconds since 1970 UTC, from 0 to {LATEST}")
        counts = self.store.count(ClickKeys.of([click]))
        found = _NOTHING if self.lookups is None else self.lookups.of_clicks([click], click.ts)[0]
        return assembled(counts[0], *self.local_time(click.marketplace, click.ts), click.logged_in, found)

    def local_time(self, marketplace: str, ts: int) -> tuple[int, int]:
        """The minute of the day and the day of the week (0 is Monday) in the marketplace at a click."""
        minutes = (ts + self._offset(marketplace, ts // _QUARTER_MS)) // 60_000
        return minutes % 1_440, (minutes // 1_440 + 3) % 7  # 1970 began on a Thursday

    def _local_times(self, marketplaces: Sequence[str], ts: Int64[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
        """`local_time` of n clicks."""
        minutes = (ts + self._local(marketplaces, ts)) // 60_000
        return minutes % 1_440, (minutes // 1_440 + 3) % 7

    def _local(self, marketplaces: Sequence[str], ts: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """By how many milliseconds local time is ahead of UTC at each click."""
        if len(ts) <= _FEW:
            quarters = (ts // _QUARTER_MS).tolist()
            return np.array(list(map(self._offset, marketplaces, quarters)), np.int64)
        quarters = pl.DataFrame({"marketplace": marketplaces, "quarter": ts // _QUARTER_MS})
        pairs = quarters.unique()
        of_pairs = [self._offset(marketplace, quarter) for marketplace, quarter in pairs.iter_rows()]
        pairs = pairs.with_columns(offset=pl.Series(of_pairs, dtype=pl.Int64))
        joined = quarters.join(pairs, on=["marketplace", "quarter"], how="left", maintain_order="left")
        return joined["offset"].to_numpy()

    def _offset(self, marketplace: str, quarter: int) -> int:
        """Milliseconds by which the marketplace's local time is ahead of UTC in that quarter of an hour since 1970."""
        day, quarter = divmod(quarter, _QUARTERS)
        offsets = self._offsets.get((marketplace, day))
        if offsets is None:
            if len(self._offsets) >= _MOST_OFFSETS:
                self._offsets.clear()
            zone = self.timezones.get(marketplace)
            offsets = [0] * _QUARTERS if zone is None else _offsets(zone, day)
            self._offsets[marketplace, day] = offsets
        return offsets[quarter]


def assembled(counts: Array, minute: Array, weekday: Array, logged_in: Array, looked_up: Array) -> Array:
    """Features (..., WIDTH) float32 of the numbers that clicks see (..., 34), int32 in the order of `COLUMNS`.

    minute, weekday, logged_in: (...) of the day and of the week, as `Featuriser.local_time` gives them, and 1 or 0.
    looked_up: (..., columns) float32 of the lookups; zeros without any.
    NumPy in gives NumPy out, and so for JAX, with the same bits.
    """
    xp, lead = namespace(counts), counts.shape[:-1]
    numbers = counts.astype(np.float32)
    at = xp.maximum((numbers.view(np.int32) >> _CUT) - (_ONE - 1), 0)  # in the tables
    by_entity = (*lead, len(ENTITIES), len(OF_EACH))
    n_counts = len(ENTITIES) * len(OF_EACH)
    n_windows, n_paced = len(WINDOWS), len(PACED)
    logs, seconds = (xp.asarray(table) for table in (_LOG, _LOG_SECONDS))
    places = at[..., :n_counts].reshape(by_entity)
    each = numbers[..., :n_counts].reshape(by_entity)
    clicks = each[..., :n_windows]
    ratios = clicks[..., :-1] / xp.maximum(clicks[..., 1:], np.float32(1.0))
    of_ad = numbers[..., -len(OF_AD) :]
    # one by one, since XLA divides two numbers by the same one as it should not: by its reciprocal
    shares = [
        (of_ad[..., k] + np.float32(SHRUNK_BY / 2)) / (of_ad[..., 0] + np.float32(SHRUNK_BY))
        for k in range(1, len(OF_AD))
    ]
    parts = (
        logs[places[..., :n_windows]].reshape(*lead, len(ENTITIES) * n_windows),
        ratios.reshape(*lead, len(ENTITIES) * len(_PAIRS)),
        logs[at[..., n_counts + len(LASTING) : -len(OF_AD)]],
        seconds[places[..., n_windows]],
        xp.asarray(_MINUTE)[minute],
        xp.asarray(_WEEKDAY)[weekday],
        xp.asarray(logged_in)[..., None].astype(np.float32),
        logs[places[..., :n_paced, n_windows + 1]],
        logs[at[..., n_counts : n_counts + len(LASTING)]],
        xp.stack(shares, axis=-1),
        looked_up,
    )
    return xp.concatenate(parts, axis=-1)


def _offsets(zone: str, day: int) -> list[int]:
    """Milliseconds by which the zone's local time is ahead of UTC in each quarter of an hour of a day since 1970."""
    quarters = pl.Series(range(day * _QUARTERS, (day + 1) * _QUARTERS)) * _QUARTER_MS
    local = quarters.cast(pl.Datetime("ms", "UTC")).dt.convert_time_zone(zone).dt.replace_time_zone(None)
    return (local.dt.epoch("ms") - quarters).to_list()
