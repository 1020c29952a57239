"""Click traffic that shares nothing with `onlineguard.slidr.simulation`: other people, other robots, other numbers.

Two worlds of three weeks. `carrier`: most people come through a few addresses of mobile carriers, a quarter sign in,
2.5 % of people's clicks lead to a purchase. `shop`: homes and computers, half sign in, 5 %.

| people | how they click |
|---|---|
| usual | a few clicks a visit, most of them in the evening, on ads of their interests |
| heavy | five times as many visits |
| children | fast taps on a tablet after school, never signed in; they buy a fiftieth as often |
| screens | in shops, one address and cookie all day, by whoever comes; they buy a fiftieth as often |

| robots | how they click |
|---|---|
| headless | from rented machines, by a timer, around the clock; their addresses change in the second week |
| rooms | phones in racks at the pace of people, in shifts; new ids every second day |
| patient | infected machines: a click or two every 17 hours, from their owner's home, always with the same cookie |
| homes | one click each from rented homes, without any history |
"""

from typing import Any, NamedTuple

import numpy as np
import polars as pl

HOUR, DAY, DAYS = 3_600_000, 86_400_000, 21  # milliseconds, milliseconds, days
BEGIN = 1_772_409_600_000  # Monday, 2 March 2026 UTC
PEOPLE = ("usual", "heavy", "children", "screens")
ROBOTS = ("headless", "rooms", "patient", "homes")
KINDS = (*PEOPLE, *ROBOTS)
DEVICES, MARKETPLACES, INTERESTS = np.array(["phone", "desktop", "tablet"]), np.array(["JP", "BR", "DE"]), 60
HARDLY = 0.02  # as often as others


class World(NamedTuple):
    """The numbers of a world; shares unless said."""

    ads: int  # number
    buys: float  # of people's clicks
    signed: float  # of people
    nameless: float  # of people who do not sign in, those without an id
    robots: float  # of clicks
    mobile: float  # of people's visits, those through a carrier
    children: float  # of people
    screens: float  # of people's clicks


WORLDS = {
    "carrier": World(1_200, 0.025, 0.25, 0.25, 0.2, 0.7, 0.06, 0.02),
    "shop": World(2_500, 0.05, 0.55, 0.1, 0.3, 0.2, 0.04, 0.02),
}


def traffic(name: str, seed: int, clicks: int) -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
    """About so many clicks in the order of time, whether a robot made each (n,), and its kind (n,)."""
    world, rng = WORLDS[name], np.random.default_rng([seed, len(name)])
    people = _people(world, rng, clicks * (1.0 - world.robots))
    visits = pl.concat([people, *_robots(world, rng, clicks * world.robots / len(ROBOTS), people)], how="diagonal")
    n = visits["clicks"].to_numpy()
    of = visits.with_columns(session_id=pl.format("s{}", pl.int_range(pl.len())))[np.repeat(np.arange(len(n)), n)]
    kind, first, m = of["kind"].to_numpy(), np.cumsum(n) - n, len(of)
    gap = of["gap"].to_numpy() * np.exp(of["spread"].to_numpy() * rng.standard_normal(m)) * 1_000
    gap = np.minimum(gap, HOUR / 3)
    gap[first] = 0.0
    passed = np.cumsum(gap)
    ts = (of["start"].to_numpy() + passed - np.repeat(passed[first], n)).astype(np.int64)
    popular = np.minimum((rng.pareto(1.1, m) * world.ads * 0.02).astype(int), world.ads - 1)
    own = rng.random(m) < np.where(np.isin(kind, PEOPLE), 0.6, 0.9)
    ad = np.where(own, (of["interest"].to_numpy() * 37 + rng.integers(0, 12, m)) % world.ads, popular)
    keen = of["keen"].to_numpy()
    bought = rng.random(m) < world.buys * keen / keen[keen > 0.0].mean()
    known = pl.when(pl.Series(bought)).then(pl.Series(BEGIN + ts + rng.exponential(5 * HOUR, m).astype(np.int64)))
    frame = of.select(
        pl.Series("ts", BEGIN + ts), "user_id", "session_id", "ip", pl.format("agent {}", "agent").alias("user_agent"),
        pl.Series("device", DEVICES[of["device"]]), pl.Series("marketplace", MARKETPLACES[of["marketplace"]]),
        pl.Series("ad_id", ad).cast(pl.String), "logged_in", known.alias("purchase_ts"), "kind",
        rfm=pl.lit(None, pl.Float64),
    ).filter(pl.Series((ts >= 0) & (ts < DAYS * DAY)))  # fmt: skip
    frame = frame.sort("ts").with_columns(click_id=pl.format("c{}", pl.int_range(pl.len())))
    kinds = frame["kind"].to_numpy()
    return frame.drop("kind"), np.isin(kinds, ROBOTS), kinds


def _people(world: World, rng: np.random.Generator, clicks: float) -> pl.DataFrame:
    """Visits of people; 3.2 clicks each, and on average 7 a person in three weeks."""
    p = int(clicks * (1.0 - world.screens) / 3.2 / 7.0)
    kind = rng.choice(3, p, p=[0.97 - world.children, 0.03, world.children])
    count = rng.poisson(rng.gamma(1.2, 6.0 / 1.2, p)) * np.where(kind == 1, 5, 1)
    home, carrier = _addresses(rng, p // 2 + 1), _addresses(rng, 216, first=100)
    lives = rng.integers(0, len(home), p)
    marketplace = (lives * 7 % 10 > 4).astype(int) + (lives * 7 % 10 > 7)
    device = np.where(kind == 2, 2, rng.choice(3, p, p=[0.45 + world.mobile / 2, 0.45 - world.mobile / 2, 0.1]))
    signed = (rng.random(p) < world.signed) & (kind != 2)
    nameless = ~signed & (rng.random(p) < world.nameless)
    keen = rng.gamma(0.6, 1 / 0.6, p) * np.where(kind == 2, HARDLY, 1.0)
    pace = np.exp(rng.normal(np.log(22.0), 0.7, p)) * np.where(kind == 2, 0.25, 1.0)
    interest, agent = rng.integers(0, INTERESTS, p), device * 40 + np.minimum(rng.geometric(0.12, p), 39)
    i = np.repeat(np.arange(p), count)
    m = len(i)
    hour = np.where(
        kind[i] == 2, rng.normal(16.5, 1.5, m), rng.choice([12.5, 20.5], m, p=[0.3, 0.7]) + rng.normal(0, 3, m)
    )
    away = (device[i] == 0) & (rng.random(m) < world.mobile)
    ip = np.where(away, carrier[marketplace[i] * 72 + rng.integers(0, 72, m)], home[lives[i]])
    n = np.minimum(rng.geometric(1 / 3.2, m) * np.where(kind[i] == 2, 2, 1), 60)
    visits = _visits(
        rng, np.array(PEOPLE)[kind[i]], rng.integers(0, DAYS, m) * DAY + hour % 24 * HOUR, n, pace[i], 1.0, ip,
        np.where(nameless[i], "", _named("p", i)), device[i], agent[i], marketplace[i], signed[i], interest[i], keen[i],
    )  # fmt: skip
    s = max(2, int(clicks * world.screens / DAYS / 40))
    j = np.tile(np.arange(s), DAYS * 10)
    start = np.repeat(np.arange(DAYS), 10 * s) * DAY + rng.uniform(9, 20, len(j)) * HOUR
    screens = _visits(
        rng, "screens", start, rng.geometric(0.25, len(j)), 9.0, 0.9, _addresses(rng, s)[j], _named("screen", j), 2, 85,
        j % 3, False, j % INTERESTS, HARDLY,
    )  # fmt: skip
    return pl.concat([visits, screens])


def _robots(world: World, rng: np.random.Generator, clicks: float, people: pl.DataFrame) -> list[pl.DataFrame]:
    """Visits of every kind of robot, with about so many clicks each."""
    b = max(3, int(clicks / 900))
    j, half = np.tile(np.arange(b), DAYS * 2), np.repeat(np.arange(DAYS * 2), b)
    start = half * (DAY // 2) + rng.uniform(0, DAY / 2, len(j))
    ip = np.where(start < 11 * DAY, _addresses(rng, b, first=51)[j], _addresses(rng, b, first=95)[j])
    each = np.maximum(1, rng.poisson(clicks / len(j), len(j)))
    names = np.where(rng.random(len(j)) < 0.5, _named("h", np.arange(len(j))), "")
    timer = rng.choice([4.0, 12.0, 45.0, 180.0], b)[j]
    headless = _visits(rng, "headless", start, each, timer, 0.06, ip, names, 1, 200, j % 3)

    r, m = max(2, int(clicks / 6_000)), int(clicks / 7)
    j, phone = rng.integers(0, r, m), rng.integers(0, 120, m)
    start = rng.integers(0, DAYS, m) * DAY + (8 + j % 3 * 5 + rng.uniform(0, 9, m)) % 24 * HOUR
    ids = _named("r", (j * 120 + phone) * 11 + (start // (2 * DAY)).astype(int))
    rooms = _visits(
        rng, "rooms", start, rng.poisson(6, m) + 1, 14.0, 0.55, _addresses(rng, r)[j], ids, 0, phone % 12, j % 3
    )
    owners = people.filter(pl.col("kind") == "usual")
    owners = owners[rng.integers(0, len(owners), int(clicks / 45) + 1)]
    j = np.repeat(np.arange(len(owners)), 30)
    start = np.tile(np.arange(30), len(owners)) * (DAYS * DAY / 30) + rng.normal(0, 0.2, len(j)) * HOUR
    start += rng.uniform(0, 16 * HOUR, len(owners))[j]
    ip, device, agent, there = (owners[name].to_numpy()[j] for name in ("ip", "device", "agent", "marketplace"))
    patient = _visits(
        rng, "patient", start, rng.integers(1, 3, len(j)), 60.0, 0.4, ip, _named("i", j), device, agent, there
    )
    m = int(clicks)
    like = people[rng.integers(0, len(people), m)]
    names = np.where(rng.random(m) < 0.5, _named("o", np.arange(m)), "")
    device, agent, there = (like[name].to_numpy() for name in ("device", "agent", "marketplace"))
    start = rng.integers(0, DAYS, m) * DAY + rng.normal(19, 6, m) % 24 * HOUR
    homes = _visits(rng, "homes", start, 1, 1.0, 0.1, _addresses(rng, m), names, device, agent, there)
    return [headless, rooms, patient, homes]


def _visits(
    rng: np.random.Generator, kind: Any, start: Any, clicks: Any, gap: Any, spread: Any, ip: Any, user_id: Any,
    device: Any, agent: Any, marketplace: Any, signed: Any = False, interest: Any = None, keen: Any = 0.0,
) -> pl.DataFrame:  # fmt: skip
    """A frame with a row a visit; a user_id of "" is unknown."""
    m = len(start)
    interest = rng.integers(0, INTERESTS, m) if interest is None else interest
    numbers = {"gap": gap, "spread": spread, "keen": keen, "start": start}
    whole = {"clicks": clicks, "device": device, "agent": agent, "marketplace": marketplace, "interest": interest}
    columns = {name: np.broadcast_to(np.asarray(values, float), m) for name, values in numbers.items()}
    columns |= {name: np.broadcast_to(np.asarray(values, np.int64), m) for name, values in whole.items()}
    columns |= {name: np.broadcast_to(values, m).astype(str) for name, values in (("kind", kind), ("ip", ip))}
    frame = pl.DataFrame(columns | {"user_id": user_id, "logged_in": np.broadcast_to(signed, m)})
    return frame.with_columns(user_id=pl.col("user_id").replace("", None))


def _named(letters: str, numbers: np.ndarray) -> np.ndarray:
    return np.char.add(letters, numbers.astype(str))


def _addresses(rng: np.random.Generator, n: int, first: int | None = None) -> np.ndarray:
    parts = [rng.integers(11, 220, n) if first is None else np.full(n, first), *rng.integers(1, 255, (3, n))]
    return np.array([f"{a}.{b}.{c}.{d}" for a, b, c, d in zip(*parts, strict=True)])
