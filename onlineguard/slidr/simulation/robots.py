"""The robots of simulated traffic: seven kinds, and how each changes its ways from week to week.

| kind | how it shows | how it hides |
|---|---|---|
| burst | hundreds of clicks from one address in minutes; slower and shorter every week | nothing |
| slow | no night; few user agents and ads, old browsers | thousands of homes, a click each, far apart |
| datacentre | a prefix clicks around the clock; other ones, less each, every week | usual browsers, fresh cookies |
| imitator | more visits a day than people, more even pauses; both fade by week | people's rhythm, homes, ads |
| takeover | long quick visits at any hour, mostly of accounts long unused | real accounts, their RFM scores |
| farm | many phones behind few carrier addresses, around the clock; from the second week on | a crowd of real phones |
| attack | one campaign only, one or two clicks a visitor; for two days | people's rhythm, homes, carriers |

Robots do not buy and have no history of orders, with one exception. Of the clicks of account takeovers, 0.2 % lead to a
purchase, with somebody else's money. They also carry the RFM score of their victim, so a label that is made from RFM
scores is sometimes wrong, as it is in life.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from onlineguard.slidr.simulation.world import (
    ADS,
    CAMPAIGN,
    CAMPAIGN_ADS,
    DAY,
    DESKTOP,
    DEVICES,
    HOUR,
    MADE_UP,
    MARKETPLACES,
    MOBILE,
    UNKNOWN,
    People,
    Rhythm,
    Sessions,
    agents,
    data_centre,
    old_agents,
    scripts,
    sessions,
)

TAKEOVER_BUYS = 0.002
_ATTACK_WEIGHT = 0.5  # of the attack on the days of the attack; all other kinds together weigh about 1


@dataclass(frozen=True)
class Today:
    """The day and the world, as robots see them."""

    people: People
    rhythm: Rhythm
    day: int
    rfm: Float[np.ndarray, " people"]  # NaN without orders in 90 days
    kind: int
    seed: int
    rng: np.random.Generator

    @property
    def week(self) -> int:
        return self.day // 7

    def marketplaces(self, n: int, shares: tuple[float, ...]) -> Int[np.ndarray, " n"]:
        return self.rng.choice(len(MARKETPLACES), n, p=shares).astype(np.int8)

    def devices(self, n: int, shares: tuple[float, float, float]) -> Int[np.ndarray, " n"]:
        return self.rng.choice(len(DEVICES), n, p=shares).astype(np.int8)

    def any_time(self, n: int) -> Int[np.ndarray, " n"]:
        """Times around the clock."""
        return self.rhythm.midnight + self.rng.integers(0, DAY, n)

    def homes(self, marketplace: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Addresses of infected machines in real households, which people use too."""
        return self.people.homes(self.people.anyone(marketplace, self.rng), self.day)

    def new_cookies(self, n: int, known: float) -> Int[np.ndarray, " n"]:
        """A new cookie for a share `known` of them; the others refuse theirs."""
        numbers = MADE_UP + (self.kind << 31) + self.rng.integers(1 << 30, 1 << 31, n)
        return np.where(self.rng.random(n) < known, numbers, UNKNOWN)

    def weekly_cookies(self, bots: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """The cookies of numbered robots, which keep them for a week."""
        return MADE_UP + (self.kind << 31) + (self.week << 24) % (1 << 30) + bots % (1 << 24)

    def weekly_draws(self) -> np.random.Generator:
        """A generator with the same draws on every day of a week, for habits that robots keep for a week."""
        return np.random.default_rng([self.seed, 1, self.kind, self.week])


def burst(today: Today, clicks: float) -> Sessions:
    """Robots that click hundreds of times from one address within minutes."""
    rng, week = today.rng, today.week
    low, high = 60 * 0.8**week, 700 * 0.8**week
    n = rng.poisson(clicks * np.log(high / low) / (high - low))
    marketplace = today.marketplaces(n, (0.45, 0.15, 0.20, 0.05, 0.15))
    device = today.devices(n, (0.75, 0.22, 0.03))
    rented = rng.random(n) < 0.6
    agent = np.where(rng.random(n) < 0.35, scripts(rng.random(n)), old_agents(device, rng.random(n)))
    return sessions(
        n,
        start=today.any_time(n),
        clicks=(low * (high / low) ** rng.random(n)).astype(np.int32),
        pause=np.log(700 * 1.7**week) + 0.4 * rng.standard_normal(n),
        spread=0.5,
        user=today.new_cookies(n, 0.5),
        session=np.where(rng.random(n) < 0.3, UNKNOWN, 0),
        ip=np.where(rented, data_centre(rng.integers(0, 1 << 17, n)), today.homes(marketplace)),
        agent=agent,
        device=device,
        marketplace=marketplace,
        logged_in=rng.random(n) < 0.04,
        ad=marketplace.astype(np.int32) * ADS + rng.integers(0, ADS - 3, n),
        ads=rng.integers(1, 4, n),
        buys=0.0,
        kind=today.kind,
    )


def slow(today: Today, clicks: float) -> Sessions:
    """Robots that click one to four times a day from each of very many addresses, hours apart."""
    rng, fixed = today.rng, today.weekly_draws()
    bots = rng.poisson(clicks / 2.5)
    who = np.repeat(np.arange(bots), rng.integers(1, 5, bots))
    n = len(who)
    country = today.marketplaces(bots, (0.40, 0.15, 0.25, 0.12, 0.08))
    marketplace, device = country[who], today.devices(bots, (0.60, 0.34, 0.06))[who]
    favourites = fixed.random(24)  # the swarm shares a few browsers and a few ads
    aims = fixed.integers(0, ADS - 2, 12)
    return sessions(
        n,
        start=today.any_time(n),
        clicks=1,
        pause=np.log(HOUR),
        spread=0.0,
        user=np.where(rng.random(bots) < 0.35, today.weekly_cookies(np.arange(bots)), UNKNOWN)[who],
        session=np.where(rng.random(n) < 0.1, UNKNOWN, 0),
        ip=today.homes(country)[who],
        agent=old_agents(device, favourites[rng.integers(0, len(favourites), bots)][who]),
        device=device,
        marketplace=marketplace,
        logged_in=False,
        ad=marketplace.astype(np.int32) * ADS + aims[rng.integers(0, len(aims), n)],
        ads=2,
        buys=0.0,
        kind=today.kind,
    )


def datacentre(today: Today, clicks: float) -> Sessions:
    """Short visits around the clock from the rented machines of a few prefixes."""
    rng, week = today.rng, today.week
    n = rng.poisson(clicks / 5.5)
    machines = max(4, int(clicks / (200 * 0.75**week)))
    block = today.weekly_draws().integers(0, (1 << 17) // 256)
    machine = rng.integers(0, machines, n)
    place = 256 * (block + machine // 100) + machine % 100  # a hundred machines in each prefix
    marketplace = today.marketplaces(n, (0.50, 0.12, 0.28, 0.04, 0.06))
    device = today.devices(n, (0.80, 0.15, 0.05))
    shift = machine * 5 % 24 * HOUR + rng.integers(0, 6 * HOUR, n)  # six hours a day each, one after the other
    return sessions(
        n,
        start=today.rhythm.midnight + shift % DAY,
        clicks=rng.integers(3, 9, n),
        pause=np.log(25_000) + 0.4 * rng.standard_normal(n),
        spread=0.9,
        user=today.new_cookies(n, 0.6),
        session=0,
        ip=data_centre(place),
        agent=agents(device, rng.random(n)),
        device=device,
        marketplace=marketplace,
        logged_in=rng.random(n) < 0.08,
        ad=marketplace.astype(np.int32) * ADS,
        ads=ADS,
        buys=0.0,
        kind=today.kind,
    )


def imitator(today: Today, clicks: float) -> Sessions:
    """Robots that visit in people's rhythm from people's homes, but more often and more evenly."""
    rng, week = today.rng, today.week
    visits = 8.0 * 0.85**week  # of one robot on a day
    bots = rng.poisson(clicks / (visits * 6.0))
    who = np.repeat(np.arange(bots), rng.poisson(visits, bots))
    n = len(who)
    fixed = today.weekly_draws()
    country = today.marketplaces(bots, (0.45, 0.20, 0.15, 0.05, 0.15))
    marketplace, device = country[who], today.devices(bots, (0.42, 0.52, 0.06))[who]
    human = rng.random(n) < min(0.75 + 0.08 * week, 0.95)
    start = np.where(human, today.rhythm.times(marketplace, device, rng), today.any_time(n))
    carrier = today.people.carriers(marketplace, rng.random(n))
    account = fixed.random(1 << 12)[np.arange(bots) % (1 << 12)] < 0.2 + 0.05 * min(week, 4)
    return sessions(
        n,
        start=start,
        clicks=2 + rng.geometric(1 / 5.0, n) - 1,
        pause=np.log(15_000 * 1.1 ** min(week, 4)) + 0.3 * rng.standard_normal(n),
        spread=min(0.6 + 0.1 * week, 1.1),
        user=today.weekly_cookies(np.arange(bots))[who],
        session=0,
        ip=np.where((device == MOBILE) & (rng.random(n) < 0.4), carrier, today.homes(country)[who]),
        agent=agents(device, fixed.random(1 << 12)[who % (1 << 12)]),
        device=device,
        marketplace=marketplace,
        logged_in=account[who] & (rng.random(n) < 0.8),
        ad=marketplace.astype(np.int32) * ADS,
        ads=ADS,
        buys=0.0,
        kind=today.kind,
    )


def takeover(today: Today, clicks: float) -> Sessions:
    """Long quick visits of stolen accounts, at any hour."""
    rng = today.rng
    bots = rng.poisson(clicks / (2.5 * 18.0))
    dormant = np.flatnonzero(np.isnan(today.rfm) & today.people.account)
    active = np.flatnonzero(~np.isnan(today.rfm))
    victim = np.where(rng.random(bots) < 0.85, rng.choice(dormant, bots), rng.choice(active, bots))
    who = np.repeat(np.arange(bots), rng.integers(1, 5, bots))
    n = len(who)
    country = today.people.marketplace[victim]
    marketplace, device = country[who], today.devices(bots, (0.65, 0.30, 0.05))[who]
    ip = np.where(
        rng.random(bots) < 0.5,
        data_centre(rng.integers(0, 1 << 17, bots)),
        today.homes(country),
    )
    return sessions(
        n,
        start=today.any_time(n),
        clicks=rng.integers(8, 29, n),
        pause=np.log(5_000) + 0.3 * rng.standard_normal(n),
        spread=0.6,
        user=victim[who],
        session=0,
        ip=ip[who],
        agent=agents(device, rng.random(bots)[who]),
        device=device,
        marketplace=marketplace,
        logged_in=True,
        ad=marketplace.astype(np.int32) * ADS,
        ads=ADS // 4,
        buys=TAKEOVER_BUYS,
        kind=today.kind,
    )


def farm(today: Today, clicks: float) -> Sessions:
    """Robots on racks of phones behind a few carrier addresses."""
    rng, fixed = today.rng, today.weekly_draws()
    n = rng.poisson(clicks / 7.0)
    phone = rng.integers(0, max(10, int(clicks / 60)), n)
    marketplace = np.array([4, 4, 4, 0, 1], np.int8)[phone % 5]  # most of them in India
    device = np.full(n, MOBILE, np.int8)
    addresses = fixed.random(24)
    return sessions(
        n,
        start=today.any_time(n),
        clicks=rng.integers(4, 11, n),
        pause=np.log(9_000) + 0.3 * rng.standard_normal(n),
        spread=0.45,
        user=np.where(rng.random(n) < 0.8, today.weekly_cookies(phone), UNKNOWN),
        session=0,
        ip=today.people.carriers(marketplace, addresses[(phone * 7 + rng.integers(0, 3, n)) % len(addresses)]),
        agent=agents(device, fixed.random(1 << 12)[phone % (1 << 12)]),
        device=device,
        marketplace=marketplace,
        logged_in=rng.random(n) < 0.15,
        ad=marketplace.astype(np.int32) * ADS,
        ads=200,
        buys=0.0,
        kind=today.kind,
    )


def attack(today: Today, clicks: float) -> Sessions:
    """Robots that all click one US campaign, to spend its budget."""
    rng = today.rng
    n = rng.poisson(clicks / 1.5)
    marketplace = np.zeros(n, np.int8)
    device = today.devices(n, (0.40, 0.55, 0.05))
    ip = np.where(
        (device != DESKTOP) & (rng.random(n) < 0.5),
        today.people.carriers(marketplace, rng.random(n)),
        today.homes(marketplace),
    )
    return sessions(
        n,
        start=today.rhythm.times(marketplace, device, rng),
        clicks=rng.integers(1, 3, n),
        pause=np.log(12_000),
        spread=0.8,
        user=today.new_cookies(n, 0.5),
        session=0,
        ip=ip,
        agent=agents(device, rng.random(n)),
        device=device,
        marketplace=marketplace,
        logged_in=rng.random(n) < 0.05,
        ad=CAMPAIGN,
        ads=CAMPAIGN_ADS,
        buys=0.0,
        kind=today.kind,
    )


# The share of each kind by week, before the shares are scaled to sum to 1. The last number holds for all later weeks.
ROBOTS: dict[str, tuple[Callable[[Today, float], Sessions], tuple[float, ...]]] = {
    "burst": (burst, (0.26, 0.20, 0.15, 0.12)),
    "slow": (slow, (0.20, 0.20, 0.22)),
    "datacentre": (datacentre, (0.24, 0.18, 0.14, 0.12)),
    "imitator": (imitator, (0.22, 0.24, 0.28, 0.32)),
    "takeover": (takeover, (0.08,)),
    "farm": (farm, (0.0, 0.10, 0.14)),
    "attack": (attack, (0.0,)),
}


def weights(week: int, under_attack: bool) -> dict[str, float]:
    """The share of each kind in the robots' clicks. They sum to 1, and the attack comes on top."""
    usual = {name: shares[min(week, len(shares) - 1)] for name, (_, shares) in ROBOTS.items()}
    total = sum(usual.values())
    return {name: share / total for name, share in usual.items()} | {"attack": _ATTACK_WEIGHT * under_attack}


def robots(
    people: People,
    rhythm: Rhythm,
    day: int,
    clicks: float,
    under_attack: bool,
    rfm: Float[np.ndarray, " people"],
    seed: int,
    rng: np.random.Generator,
) -> list[Sessions]:
    """The sessions of the robots on a day, one entry for each kind; about `clicks` clicks on a day without an
    attack."""
    shares = weights(day // 7, under_attack)
    return [
        make(Today(people, rhythm, day, rfm, kind, seed, rng), clicks * shares[name])
        for kind, (name, (make, _)) in enumerate(ROBOTS.items(), start=1)
    ]
