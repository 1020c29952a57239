"""The synthetic world that simulated traffic comes from: marketplaces, networks, devices, ads and people.

Nothing here is taken from a real log. Addresses lie in ranges that nobody owns: homes in 10.0.0.0/8, mobile carriers in
100.64.0.0/10 (shared address space, RFC 6598), corporate gateways in 172.16.0.0/12, and data centres in 198.18.0.0/15
(benchmarking, RFC 2544). Neighbours share a prefix, as they do with a real provider.
"""

from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int, Num

from onlineguard.slidr.clicks import marketplaces

MARKETPLACES = ("US", "UK", "DE", "JP", "IN")
TIMEZONES = {name: marketplaces.TIMEZONES[name] for name in MARKETPLACES}  # by which the features tell local hours too
DEVICES = ("desktop", "mobile", "tablet")
DESKTOP, MOBILE, TABLET = range(3)
DAY, HOUR, MINUTE = 86_400_000, 3_600_000, 60_000  # milliseconds
QUARTERS = 96  # quarters of an hour in a day
ADS = 1_500  # of each marketplace
CAMPAIGN = 40  # the first ad of the attacked campaign, a US one
CAMPAIGN_ADS = 8
UNKNOWN = -1  # a visitor without an id
MADE_UP = 1 << 35  # ids of robots begin here; people's begin at 0
HISTORY = 90 * DAY  # an RFM score looks back this long, so orders begin this long before the first click

_POPULATION = (0.42, 0.14, 0.16, 0.12, 0.16)  # people by marketplace
_PER_HOUSEHOLD = 2.2
_OWNERS = np.array(  # shares of the devices, for each of four habits; the next table has how common a habit is
    [[0.04, 0.93, 0.03], [0.45, 0.50, 0.05], [0.85, 0.12, 0.03], [0.10, 0.40, 0.50]], np.float64
)
_HABITS = np.array(
    [
        [0.42, 0.30, 0.18, 0.10],
        [0.45, 0.28, 0.15, 0.12],
        [0.33, 0.33, 0.27, 0.07],
        [0.58, 0.25, 0.12, 0.05],
        [0.80, 0.13, 0.05, 0.02],
    ]
)
_SIGNED_IN = np.array([0.50, 0.78, 0.62])  # of the sessions of a person with an account, by device
_LENGTH = np.array([2.6, 1.5, 1.9])  # mean number of clicks after the first one in a usual session, by device
_LONG, _LONGER = 0.02, 5.0  # share of sessions that compare many offers, and how many times longer they are

# Clicks by local hour, 0 to 23, for desktop, mobile and tablet; weekdays, then Saturday and Sunday.
_WEEKDAY = np.array(
    [
        [12, 7, 4, 3, 3, 5, 12, 28, 55, 84, 95, 92, 78, 86, 94, 90, 82, 68, 55, 56, 60, 57, 44, 25],
        [34, 19, 11, 8, 8, 14, 32, 58, 68, 60, 58, 64, 78, 72, 62, 62, 68, 78, 84, 92, 100, 98, 82, 56],
        [22, 11, 6, 4, 4, 6, 14, 26, 32, 34, 36, 38, 42, 42, 40, 42, 48, 58, 70, 86, 100, 96, 72, 42],
    ],
    np.float64,
)
_WEEKEND = np.array(
    [
        [14, 9, 6, 4, 3, 4, 7, 13, 24, 36, 45, 48, 46, 46, 47, 47, 46, 44, 44, 47, 50, 47, 36, 23],
        [44, 28, 17, 11, 9, 11, 20, 36, 56, 72, 82, 86, 88, 86, 84, 84, 86, 88, 92, 98, 104, 98, 82, 60],
        [28, 16, 9, 6, 5, 7, 14, 28, 46, 60, 66, 68, 68, 68, 68, 70, 74, 80, 88, 98, 108, 100, 76, 48],
    ],
    np.float64,
)
_BUYS = 0.019  # share of people's clicks
_HOMES, _CARRIERS, _GATEWAYS, _DATA_CENTRES = 10 << 24, (100 << 24) + (64 << 16), (172 << 24) + (16 << 16), 0xC6120000
_HOMES_EACH, _CARRIERS_EACH = 1 << 21, 1 << 19  # addresses a marketplace
_FIRMS_EACH = 800  # firms in a marketplace, at most; each has a prefix of its own
_MASK = np.uint64((1 << 36) - 1)


@dataclass(frozen=True)
class Sessions:
    """Planned visits, arrays (n,): who comes when and from where, and how this visitor clicks."""

    start: Int[np.ndarray, " n"]  # milliseconds since 1970
    clicks: Int[np.ndarray, " n"]
    pause: Float[np.ndarray, " n"]  # log of the median pause between two clicks in milliseconds
    spread: Float[np.ndarray, " n"]  # standard deviation of the log
    user: Int[np.ndarray, " n"]  # a person, MADE_UP + a number, or UNKNOWN
    session: Int[np.ndarray, " n"]  # its number, or UNKNOWN
    ip: Int[np.ndarray, " n"]
    agent: Int[np.ndarray, " n"]  # position in AGENTS
    device: Int[np.ndarray, " n"]  # position in DEVICES
    marketplace: Int[np.ndarray, " n"]  # position in MARKETPLACES
    logged_in: Num[np.ndarray, " n"]
    ad: Int[np.ndarray, " n"]  # the first of `ads` in a row; the k-th is clicked with a share of about 1 / k
    ads: Int[np.ndarray, " n"]
    buys: Float[np.ndarray, " n"]  # probability that a click leads to a purchase
    kind: Int[np.ndarray, " n"]  # position in simulator.KINDS

    def __len__(self) -> int:
        return len(self.start)

    def take(self, rows: Int[np.ndarray, " m"]) -> "Sessions":
        return Sessions(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


_TYPES = {
    "start": np.int64,
    "clicks": np.int32,
    "pause": np.float32,
    "spread": np.float32,
    "user": np.int64,
    "session": np.int64,
    "ip": np.uint32,
    "agent": np.int16,
    "device": np.int8,
    "marketplace": np.int8,
    "logged_in": np.bool_,
    "ad": np.int32,
    "ads": np.int32,
    "buys": np.float32,
    "kind": np.int8,
}


def sessions(n: int, **columns: Any) -> Sessions:
    """Sessions of n rows from arrays and single values, converted to the types of `Sessions`."""
    return Sessions(
        **{name: np.broadcast_to(columns[name], n).astype(kind, copy=False) for name, kind in _TYPES.items()}
    )


def joined(parts: list[Sessions]) -> Sessions:
    """The sessions of all parts, one part after the other."""
    return Sessions(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in _TYPES})


class Rhythm:
    """When and how much people click on one UTC day, by the local time of each marketplace and by device.

    `volume` (marketplaces, devices) is 1 on an average weekday of a device.
    """

    def __init__(self, day: date, rng: np.random.Generator):
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        self.midnight = int(midnight.timestamp()) * 1_000
        utc = pl.Series([midnight + timedelta(minutes=15 * quarter) for quarter in range(QUARTERS)])
        weights = np.empty((len(MARKETPLACES), len(DEVICES), QUARTERS))
        self._local: list[Int[np.ndarray, " quarters"]] = []  # hour of the week, Monday 0:00 is 0
        for m, name in enumerate(MARKETPLACES):
            local = utc.dt.convert_time_zone(TIMEZONES[name])
            weekday = local.dt.weekday().to_numpy() - 1
            hour = local.dt.hour().to_numpy() + local.dt.minute().to_numpy() / 60
            for d in range(len(DEVICES)):
                usual, free = (
                    np.interp(hour, np.arange(25), np.append(profile[d], profile[d][0]))
                    for profile in (_WEEKDAY, _WEEKEND)
                )
                weights[m, d] = np.where(weekday >= 5, free, usual) / _WEEKDAY[d].sum() / 4
            self._local.append(24 * weekday + hour.astype(np.int64))
        weights *= np.exp(0.05 * rng.standard_normal((len(MARKETPLACES), 1, 1)))  # no two days are alike
        weights *= np.exp(0.07 * rng.standard_normal(weights.shape))
        self.volume = weights.sum(axis=2)
        self._quantiles = np.empty((len(MARKETPLACES), len(DEVICES), 1_025), np.float32)
        levels = np.linspace(0, 1, 1_025)
        for m, d in np.ndindex(self.volume.shape):
            shares = np.concatenate([[0.0], np.cumsum(weights[m, d])]) / self.volume[m, d]
            self._quantiles[m, d] = np.interp(levels, shares, np.arange(QUARTERS + 1) * (DAY / QUARTERS))
        self._quantiles[..., -1] = DAY - 1  # the last millisecond still belongs to this day

    def times(
        self, marketplace: Int[np.ndarray, " n"], device: Int[np.ndarray, " n"], rng: np.random.Generator
    ) -> Int[np.ndarray, " n"]:
        """A random time of this day for each, in milliseconds since 1970."""
        at = rng.random(len(device), np.float32) * np.float32(1_024)
        cell = at.astype(np.int32)  # below 1,024, since a random number is at most 1 - 2**-24
        base = (marketplace.astype(np.int32) * len(DEVICES) + device) * 1_025 + cell
        flat = self._quantiles.ravel()
        low = flat[base]
        return self.midnight + (low + (flat[base + 1] - low) * (at - cell)).astype(np.int64)

    def office_hours(self, marketplace: Int[np.ndarray, " n"], ts: Int[np.ndarray, " n"]) -> Num[np.ndarray, " n"]:
        """Whether it is between 8 and 18 o'clock on a local weekday."""
        open_ = np.array([(local < 120) & (local % 24 >= 8) & (local % 24 < 18) for local in self._local])
        return open_[marketplace, (ts - self.midnight) // (DAY // QUARTERS)]


class People:
    """`n` people. They live in households, some are employed, and most have an account that orders.

    All arrays are (n,). People of one household stand side by side, and so do those of a marketplace.
    """

    def __init__(self, n: int, rng: np.random.Generator):
        self.n = n
        self.marketplace = np.sort(rng.choice(len(MARKETPLACES), n, p=_POPULATION)).astype(np.int8)
        self.first = np.searchsorted(self.marketplace, np.arange(len(MARKETPLACES) + 1))  # of each marketplace
        self.household = (np.arange(n) / _PER_HOUSEHOLD + rng.uniform(-0.9, 0.9, n)).clip(0).astype(np.int32)
        habit = rng.random(n) < _HABITS.cumsum(axis=1)[self.marketplace].T
        self.group = (4 * self.marketplace + (4 - habit.sum(axis=0)).clip(0, 3)).astype(np.int8)  # place and habit
        activity = rng.standard_normal(n, np.float32)
        self.rate = np.exp(1.1 * activity).clip(None, 30.0)  # sessions on an average weekday, before scaling
        self.account = rng.random(n, np.float32) < 0.72
        self.signs_in = (0.6 + 0.5 * rng.random(n, np.float32)).astype(np.float32)  # times _SIGNED_IN
        self.recognised = rng.random(n, np.float32) < np.where(self.account, 0.7, 0.75)  # keeps its cookies
        employed = (rng.random(n, np.float32) < 0.4) & (self.group % 4 != 0)
        firms = int(np.clip(n // 400, 3, _FIRMS_EACH))
        firm = self.marketplace.astype(np.int32) * _FIRMS_EACH + _zipf(firms, rng.random(n))
        self.firm = np.where(employed, firm, -1).astype(np.int32)
        self.orders_a_day = np.where(self.account, np.exp(0.15 * activity + rng.standard_normal(n, np.float32)), 0) / 70
        self.spends = 0.6 * rng.standard_normal(n, np.float32)  # log of the factor on the usual amount of an order
        self._carriers_used = [max(8, int(count) // 60) for count in np.diff(self.first)]  # addresses a marketplace

    def expected_clicks(self, rhythm: Rhythm) -> float:
        """The number of clicks that people make on a day of this rhythm, before scaling."""
        rates = np.bincount(self.group, self.rate, minlength=4 * len(MARKETPLACES)).reshape(-1, 4)
        length = sum(
            share / (np.exp(1 / mean) - 1) for share, mean in ((1 - _LONG, _LENGTH), (_LONG, _LONGER * _LENGTH))
        )
        return float(np.einsum("mh,hd,md,d->", rates, _OWNERS, rhythm.volume, 1 + length))

    def sessions(
        self,
        rhythm: Rhythm,
        scale: float,
        day: int,
        rfm: Float[np.ndarray, " people"],
        biased: bool,
        rng: np.random.Generator,
    ) -> Sessions:
        """People's sessions on a day, at `scale` times their rate. `rfm` is NaN without orders in the last 90 days.

        If biased, people who are signed in buy more, and more with every point of their score. Otherwise every click
        leads to a purchase with the same probability.
        """
        by_device = np.einsum("hd,md->mhd", _OWNERS, rhythm.volume).reshape(-1, len(DEVICES))
        mean = (scale * by_device.sum(axis=1)).astype(np.float32)[self.group] * self.rate
        who = np.repeat(np.arange(self.n), rng.poisson(mean))
        n = len(who)
        marketplace, group = self.marketplace[who], self.group[who]
        shares = (by_device / by_device.sum(axis=1, keepdims=True)).cumsum(axis=1).astype(np.float32)
        u = rng.random(n, np.float32)
        device = (u > shares[group, 0]).astype(np.int8) + (u > shares[group, 1])
        start = rhythm.times(marketplace, device, rng)

        account = self.account[who]
        logged_in = account & (rng.random(n, np.float32) < _SIGNED_IN.astype(np.float32)[device] * self.signs_in[who])
        user = np.where(logged_in | self.recognised[who], who, UNKNOWN)
        of_accounts = 0.018 + 0.001 * np.nan_to_num(rfm[who] - 3)
        length = _LENGTH.astype(np.float32)[device] * np.where(rng.random(n, np.float32) < _LONG, _LONGER, 1.0)
        return sessions(
            n,
            start=start,
            clicks=1 + (rng.standard_exponential(n, np.float32) * length).astype(np.int32),
            pause=np.log(22_000) + 0.5 * rng.standard_normal(n, np.float32),
            spread=1.2,
            user=user,
            session=np.where(rng.random(n, np.float32) < 0.03, UNKNOWN, 0),
            ip=self._addresses(who, marketplace, device, rhythm.office_hours(marketplace, start), day, rng),
            agent=agents(device, _uniform(who * len(DEVICES) + device)),
            device=device,
            marketplace=marketplace,
            logged_in=logged_in,
            ad=marketplace.astype(np.int32) * ADS,
            ads=ADS,
            buys=np.where(logged_in, of_accounts, 0.016) if biased else _BUYS,  # guests buy, too
            kind=0,
        )

    def homes(self, who: Int[np.ndarray, " n"], day: int) -> Int[np.ndarray, " n"]:
        """The address of a person's home on a day. A household gets another address every week."""
        household, marketplace = self.household[who].astype(np.int64), self.marketplace[who].astype(np.int64)
        lease = (day + household % 7) // 7
        pool = max(256, int(self.n / _PER_HOUSEHOLD * 0.9))
        place = (household * 5 + lease * 7_919) % pool % _HOMES_EACH
        return _HOMES + marketplace * _HOMES_EACH + place

    def carriers(self, marketplace: Int[np.ndarray, " n"], u: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """One of the carrier addresses, of which there is one for 60 people. u in [0, 1) chooses; small ones are
        common."""
        used = np.array(self._carriers_used)[marketplace]
        return _CARRIERS + marketplace.astype(np.int64) * _CARRIERS_EACH + (u * u * used).astype(np.int64)

    def anyone(self, marketplace: Int[np.ndarray, " n"], rng: np.random.Generator) -> Int[np.ndarray, " n"]:
        """A random person of each of these marketplaces."""
        first, last = self.first[marketplace], self.first[marketplace.astype(np.int64) + 1]
        return np.minimum(first + (rng.random(len(first)) * (last - first)).astype(np.int64), self.n - 1)

    def _addresses(
        self,
        who: Int[np.ndarray, " n"],
        marketplace: Int[np.ndarray, " n"],
        device: Int[np.ndarray, " n"],
        office: Num[np.ndarray, " n"],
        day: int,
        rng: np.random.Generator,
    ) -> Int[np.ndarray, " n"]:
        u = rng.random(len(who), np.float32)
        ip = self.homes(who, day)
        rows = np.flatnonzero((device == MOBILE) & (u < 0.55))
        ip[rows] = self.carriers(marketplace[rows], rng.random(len(rows)))
        firm = self.firm[who]
        rows = np.flatnonzero((device == DESKTOP) & office & (firm >= 0) & (u < 0.85))
        ip[rows] = _GATEWAYS + firm[rows].astype(np.int64) * 256 + _uniform_int(who[rows], 3)
        rows = np.flatnonzero(u > 0.992)  # a private network: people, too, come from data centres
        ip[rows] = data_centre(rng.integers(0, 2 * 256, len(rows)))
        return ip


class Ledger:
    """All orders, and the RFM scores that follow from them.

    - An account is active at a midnight (UTC) if it ordered in the 90 days before: at - 90 days <= ts < at.
    - Each active account gets three quintiles, 1 to 5, among the active ones: recency (of its last order), frequency
      (number of orders) and monetary (sum of amounts).
    - The quintile of a value is 1 + floor(5 k / n), where k of the n active accounts have a strictly smaller value. So
      equal values share the lower quintile.
    - The score is the sum of the three, 3 to 15.
    """

    def __init__(self, people: People, start: int, rng: np.random.Generator):
        self._people = people
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._window: tuple[np.ndarray, np.ndarray, np.ndarray] = (
            np.empty(0, np.int64),
            np.empty(0, np.int64),
            np.empty(0),
        )
        self._spontaneous(start - HISTORY, HISTORY, rng)

    def day(self, midnight: int, rng: np.random.Generator) -> None:
        """Add the orders of a day that no ad led to."""
        self._spontaneous(midnight, DAY, rng)

    def add(self, users: Int[np.ndarray, " n"], ts: Int[np.ndarray, " n"], rng: np.random.Generator) -> None:
        """Add orders of these people at these times. Amounts are multiples of 0.25, so that sums are exact."""
        amounts = np.exp(np.log(25.0) + self._people.spends[users] + 0.8 * rng.standard_normal(len(users)))
        part = users, ts, np.maximum(np.round(4 * amounts), 1) / 4
        self._parts.append(part)
        self._window = tuple(map(np.concatenate, zip(self._window, part, strict=True)))  # type: ignore[assignment]

    def scores(self, at: int) -> Float[np.ndarray, " people"]:
        """RFM scores of all people at a midnight, NaN for those not active. Midnights must not go backwards."""
        recent = self._window[1] >= at - HISTORY
        users, ts, amounts = self._window = tuple(column[recent] for column in self._window)  # type: ignore[assignment]
        past = ts < at
        users, ts, amounts = users[past], ts[past], amounts[past]
        frequency = np.bincount(users, minlength=self._people.n)
        active = np.flatnonzero(frequency)
        last = np.zeros(self._people.n, np.int64)
        np.maximum.at(last, users, ts)
        monetary = np.bincount(users, amounts, minlength=self._people.n)
        scores = np.full(self._people.n, np.nan, np.float32)
        scores[active] = sum(_quintiles(values[active]) for values in (last, frequency, monetary))
        return scores

    def columns(self) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """User, ts and amount of every order, by time."""
        users, ts, amounts = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        order = np.lexsort((users, ts))
        return users[order], ts[order], amounts[order]

    def _spontaneous(self, start: int, length: int, rng: np.random.Generator) -> None:
        users = np.repeat(np.arange(self._people.n), rng.poisson(self._people.orders_a_day * (length / DAY)))
        self.add(users, start + rng.integers(0, length, len(users)), rng)


def identifiers(numbers: Int[np.ndarray, " n"], key: int) -> pl.Series:
    """Distinct numbers below 2**36 as distinct strings that do not reveal them; null for UNKNOWN."""
    x = (numbers.astype(np.uint64) ^ np.uint64(key)) & _MASK
    for factor, shift in ((0x9E3779B97F4A7C15, 18), (0xD1B54A32D192ED03, 17)):
        x = (x * np.uint64(factor)) & _MASK  # an odd factor maps one to one
        x ^= x >> np.uint64(shift)
    text = pl.Series(x).cast(pl.String)
    unknown = numbers == UNKNOWN
    return text.set(pl.Series(unknown), None) if unknown.any() else text


def dotted(ip: Int[np.ndarray, " n"]) -> pl.Series:
    """IPv4 addresses as text."""
    octets = [pl.lit(_OCTETS.gather(((ip >> shift) & 255).astype(np.uint32))) for shift in (24, 16, 8, 0)]
    return pl.select(pl.concat_str(octets, separator=".")).to_series()


def data_centre(place: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The address of the place-th server, counted over all data centres."""
    return _DATA_CENTRES + place % (1 << 17)


def agents(device: Int[np.ndarray, " n"], u: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """A user agent of people with this device, by Zipf's law; u in [0, 1) chooses."""
    first, count = _AGENTS_OF[device].T
    return first + np.minimum(((count + 1.0) ** u).astype(np.int64) - 1, count - 1)


def old_agents(device: Int[np.ndarray, " n"], u: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """One of the rarer half of the user agents of a device."""
    first, count = _AGENTS_OF[device].T
    return first + count // 2 + (u * (count - count // 2)).astype(np.int64)


def scripts(u: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """A user agent that says openly that it is a script; u in [0, 1) chooses."""
    return len(AGENTS) - len(_SCRIPTS) + (u * len(_SCRIPTS)).astype(np.int64)


def _zipf(n: int, u: Float[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
    """0 to n - 1, where k comes with a share of about 1 / (k + 1)."""
    return np.minimum((float(n + 1) ** u).astype(np.int64) - 1, n - 1)


def _quintiles(values: Num[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    n = len(values)
    if n == 0:
        return np.ones(0, np.int64)
    places = [-(-k * n // 5) - 1 for k in range(1, 5)]  # above the value at this rank, at least k fifths are smaller
    bounds = np.partition(values, places)[places]
    return 1 + np.count_nonzero(values[:, None] > bounds, axis=1)


def _uniform(x: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """A number in [0, 1) that looks random and depends on x alone."""
    y = x.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    y = (y ^ (y >> np.uint64(32))) * np.uint64(0xD1B54A32D192ED03)
    return ((y ^ (y >> np.uint64(29))) >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)


def _uniform_int(x: Int[np.ndarray, " n"], below: int) -> Int[np.ndarray, " n"]:
    return (_uniform(x) * below).astype(np.int64)


def _user_agents() -> tuple[list[str], list[list[str]]]:
    """The user agents of scripts, and of people's browsers by device, the common ones first."""
    chrome = "Mozilla/5.0 ({}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{}.0.0.0 {}Safari/537.36"
    safari = "Mozilla/5.0 ({}) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{} {}Safari/604.1"
    firefox = "Mozilla/5.0 ({0}; rv:{1}.0) Gecko/20100101 Firefox/{1}.0"
    windows, mac, linux = "Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7", "X11; Linux x86_64"
    desktop = [chrome.format(system, 139 - age, "") for age in range(14) for system in (windows, mac, linux)]
    desktop[3:3] = [safari.format(mac, version, "") for version in ("18.5", "18.3", "17.6")]
    desktop[8:8] = [chrome.format(windows, 139 - age, "") + f" Edg/{139 - age}.0.0.0" for age in range(6)]
    desktop[16:16] = [firefox.format(system, 141 - age) for age in range(8) for system in (windows, linux)]
    mobile: list[str] = []
    for age in range(12):
        iphone = f"iPhone; CPU iPhone OS {18 - age // 4}_{6 - age % 4} like Mac OS X"
        mobile.append(safari.format(iphone, f"{18 - age // 4}.{6 - age % 4}", "Mobile/15E148 "))
        mobile += [chrome.format(f"Linux; Android {15 - k}; K", 139 - age, "Mobile ") for k in range(5)]
    tablet: list[str] = []
    for age in range(6):
        tablet.append(safari.format(f"iPad; CPU OS {18 - age // 3}_{5 - age % 3} like Mac OS X", 18 - age // 3, ""))
        tablet += [chrome.format(f"Linux; Android {14 - k}; Tablet", 139 - age, "") for k in range(3)]
    requests = ["python-requests/2.32.3", "curl/8.9.1", "Go-http-client/2.0", "okhttp/4.12.0"]
    headless = [
        chrome.format(linux, version, "").replace("Chrome/", "HeadlessChrome/") for version in (139, 131, 124, 119)
    ]
    return requests + headless, [desktop, mobile, tablet]


_SCRIPTS, _BY_DEVICE = _user_agents()
AGENTS = pl.Series([agent for agents in [*_BY_DEVICE, _SCRIPTS] for agent in agents])
_AGENTS_OF = np.array([[sum(map(len, _BY_DEVICE[:d])), len(_BY_DEVICE[d])] for d in range(len(DEVICES))])
AD_IDS = pl.Series([f"{marketplace}-{ad:05}" for marketplace in MARKETPLACES for ad in range(ADS)])
_OCTETS = pl.Series([str(octet) for octet in range(256)])
