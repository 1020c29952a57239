"""The wide world: eight more kinds of robots, and three groups of people who hardly ever buy.

| robots | how they must work | how they show |
|---|---|---|
| resetting | real phones run one script, and reset their advertising id after each visit | even pauses, no night |
| proxied | each request leaves through another rented home | one cookie at very many homes |
| polling | infected machines ask a server every quarter of an hour what to click, 20 times a day at most | a timer |
| flooding | an app clicks in its owner's name, so that it is paid for what they buy later | a phone that never rests |
| replayed | visits of people are recorded, and sent again from other machines | few visits, always new cookies |
| workers | people are paid to click, in shifts, with many accounts each | one office, many accounts |
| emulated | a rented machine pretends to be many phones; only in the last week | many phones in a data centre |
| adware | an extension of the browser adds clicks to people's visits; only in the last week | they follow too fast |

Sources: device farms and their resets, Interceptd and Airbridge on device farms; rented homes, Mi et al., "Resident
evil", IEEE S&P 2019; polling, Daswani and Stoppelman, "The anatomy of Clickbot.A", HotBots 2007; flooding, AppsFlyer
and Adjust on click flooding; replayed visits, Nagaraja and Shah, "Clicktok", WiSec 2019; emulators and adware, Thomas
et al., "Ad injection at scale", IEEE S&P 2015, and Google's reports on 3ve (2018). They say how; the numbers are ours.

Some robots buy: 0.3 % of the clicks that flood lead to an order of the phone's owner, and 0.1 % of the workers'.

| people | how they click |
|---|---|
| kiosk | a screen in a shop or library: one address and cookie, from morning to evening, by whoever comes |
| child | a tablet at home in the afternoon: fast taps, long visits, never signed in |
| passer | a browser that is used on one evening and never again |

They are people, and buy a twentieth as often as others: no budget that is counted in purchases protects them.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from onlineguard.slidr.simulation.robots import Today
from onlineguard.slidr.simulation.world import (
    ADS,
    DAY,
    DESKTOP,
    HOUR,
    MADE_UP,
    MINUTE,
    MOBILE,
    TABLET,
    UNKNOWN,
    Sessions,
    agents,
    data_centre,
    sessions,
)

FLOODING_BUYS, WORKERS_BUY = 0.003, 0.001
HARDLY_BUY = 0.001  # a twentieth of what people's clicks lead to
PEOPLE_SHARE = 0.12  # of people's clicks, those of the three groups together
_LONE = 1 << 28  # numbers of cookies that a group of people has for itself

_SPREAD = (0.35, 0.15, 0.2, 0.1, 0.2)  # over the marketplaces


def resetting(today: Today, clicks: float) -> Sessions:
    """Real phones on racks: one script, a new advertising id for every visit, addresses of a carrier that rotate."""
    rng = today.rng
    n = rng.poisson(clicks / 5.0)
    marketplace = today.marketplaces(n, (0.15, 0.1, 0.05, 0.1, 0.6))
    device = np.full(n, MOBILE, np.int8)
    return sessions(
        n,
        start=today.any_time(n),
        clicks=rng.integers(3, 8, n),
        pause=np.log(14_000) + 0.15 * rng.standard_normal(n),  # a script waits for the page, not for its own mood
        spread=0.3,
        user=today.new_cookies(n, 1.0),
        session=0,
        ip=today.people.carriers(marketplace, rng.random(n)),
        agent=agents(device, 0.5 + 0.5 * rng.random(n)),  # cheap phones, with old systems
        device=device,
        marketplace=marketplace,
        logged_in=False,
        ad=marketplace.astype(np.int32) * ADS + 300,
        ads=60,
        buys=0.0,
        kind=today.kind,
    )


def proxied(today: Today, clicks: float) -> Sessions:
    """Robots with one cookie a day whose every request leaves through another home."""
    rng = today.rng
    bots = rng.poisson(clicks / 24.0)
    who = np.repeat(np.arange(bots), 24)
    n = len(who)
    country = today.marketplaces(bots, _SPREAD)
    marketplace, device = country[who], today.devices(bots, (0.6, 0.35, 0.05))[who]
    pause = np.exp(np.log(45_000) + 0.5 * rng.standard_normal(n))  # a rented home answers slowly, and never the same
    since = np.cumsum(pause.reshape(bots, 24), axis=1).ravel()
    cookie = today.new_cookies(bots, 0.7)
    return sessions(
        n,
        start=today.any_time(bots)[who] + since.astype(np.int64),
        clicks=1,
        pause=0.0,
        spread=0.0,
        user=cookie[who],
        session=np.where(rng.random(bots) < 0.5, 0, UNKNOWN)[who],
        ip=today.homes(marketplace),
        agent=agents(device, rng.random(bots)[who]),
        device=device,
        marketplace=marketplace,
        logged_in=False,
        ad=marketplace.astype(np.int32) * ADS,
        ads=400,
        buys=0.0,
        kind=today.kind,
    )


def polling(today: Today, clicks: float) -> Sessions:
    """Infected machines that ask a server every quarter of an hour what to click, and stop after 20 clicks a day."""
    rng = today.rng
    bots = rng.poisson(clicks / 12.0)
    country = today.marketplaces(bots, _SPREAD)
    device = np.full(bots, DESKTOP, np.int8)
    return sessions(
        bots,
        start=today.rhythm.midnight + rng.integers(0, 16 * HOUR, bots),
        clicks=rng.integers(4, 21, bots),
        pause=np.log(15 * MINUTE),
        spread=0.03,
        user=np.where(rng.random(bots) < 0.6, today.weekly_cookies(np.arange(bots)), UNKNOWN),
        session=np.where(rng.random(bots) < 0.6, 0, UNKNOWN),
        ip=today.homes(country),
        agent=agents(device, rng.random(bots)),
        device=device,
        marketplace=country,
        logged_in=False,
        ad=country.astype(np.int32) * ADS,
        ads=500,
        buys=0.0,
        kind=today.kind,
    )


def flooding(today: Today, clicks: float) -> Sessions:
    """Clicks that an app sends in the name of its phone's owner, by day and by night, one at a time."""
    rng, fixed = today.rng, today.weekly_draws()
    each = 30
    phones = max(1, round(clicks / each))
    marketplace_of = fixed.choice(5, phones, p=(0.2, 0.1, 0.1, 0.2, 0.4)).astype(np.int8)
    owner = today.people.anyone(marketplace_of, fixed)
    who = rng.integers(0, phones, rng.poisson(clicks))
    n = len(who)
    marketplace, device = marketplace_of[who], np.full(n, MOBILE, np.int8)
    person = owner[who]
    at_home = rng.random(n) < 0.6
    return sessions(
        n,
        start=today.any_time(n),
        clicks=1,
        pause=0.0,
        spread=0.0,
        user=np.where(today.people.recognised[person] | today.people.account[person], person, UNKNOWN),
        session=0,
        ip=np.where(at_home, today.people.homes(person, today.day), today.people.carriers(marketplace, rng.random(n))),
        agent=agents(device, rng.random(phones)[who]),
        device=device,
        marketplace=marketplace,
        logged_in=today.people.account[person] & (rng.random(n) < 0.5),
        ad=marketplace.astype(np.int32) * ADS + 100,
        ads=30,
        buys=FLOODING_BUYS,
        kind=today.kind,
    )


def replayed(today: Today, clicks: float) -> Sessions:
    """Visits of people that are sent again from other homes: their length, their ad and their pauses, a new cookie."""
    rng, fixed = today.rng, today.weekly_draws()
    visits = 200
    length = 1 + fixed.geometric(1 / 3.0, visits)
    country = fixed.choice(5, visits, p=_SPREAD).astype(np.int8)
    gadget = fixed.choice(3, visits, p=(0.35, 0.6, 0.05)).astype(np.int8)
    browser, first_ad = fixed.random(visits), fixed.integers(0, ADS - 4, visits)
    n = rng.poisson(clicks / length.mean())
    which = rng.integers(0, visits, n)
    marketplace, device = country[which], gadget[which]
    return sessions(
        n,
        start=today.rhythm.times(marketplace, device, rng),
        clicks=length[which],
        pause=np.log(22_000) + 0.5 * rng.standard_normal(n),
        spread=1.2,  # people's own
        user=today.new_cookies(n, 0.8),
        session=0,
        ip=today.homes(marketplace),
        agent=agents(device, browser[which]),
        device=device,
        marketplace=marketplace,
        logged_in=False,
        ad=marketplace.astype(np.int32) * ADS + first_ad[which],
        ads=4,
        buys=0.0,
        kind=today.kind,
    )


def workers(today: Today, clicks: float) -> Sessions:
    """People who are paid to click: shifts of eight hours in a few offices, with many accounts each."""
    rng, fixed = today.rng, today.weekly_draws()
    n = rng.poisson(clicks / 9.0)
    desks = max(8, round(clicks / 900))
    desk = rng.integers(0, desks, n)
    account = 40 * desk + rng.integers(0, 40, n)
    marketplace = np.array([4, 4, 0, 1, 2], np.int8)[desk % 5]
    device = np.where(desk % 3 == 0, DESKTOP, MOBILE).astype(np.int8)
    offices = fixed.random(6)
    return sessions(
        n,
        start=today.rhythm.midnight + (desk % 2) * 8 * HOUR + rng.integers(0, 8 * HOUR, n),
        clicks=2 + rng.geometric(1 / 8.0, n),
        pause=np.log(11_000) + 0.35 * rng.standard_normal(n),
        spread=0.8,  # bored people, not scripts
        user=today.weekly_cookies(account),
        session=0,
        ip=today.people.carriers(np.full(n, 4, np.int8), offices[desk % len(offices)]),
        agent=agents(device, fixed.random(1 << 10)[desk % (1 << 10)]),
        device=device,
        marketplace=marketplace,
        logged_in=rng.random(n) < 0.6,
        ad=marketplace.astype(np.int32) * ADS + 50,
        ads=120,
        buys=WORKERS_BUY,
        kind=today.kind,
    )


def emulated(today: Today, clicks: float) -> Sessions:
    """Rented machines that each pretend to be many phones and tablets, of which each rests for hours."""
    rng, fixed = today.rng, today.weekly_draws()
    n = rng.poisson(clicks / 6.0)
    phones = max(20, round(clicks / 18))
    phone = rng.integers(0, phones, n)
    marketplace = fixed.choice(5, phones, p=_SPREAD).astype(np.int8)[phone]
    device = np.where(fixed.random(phones) < 0.3, TABLET, MOBILE).astype(np.int8)[phone]
    machine = fixed.integers(0, 1 << 17) // 256 * 256 + phone % 90
    return sessions(
        n,
        start=today.rhythm.times(marketplace, device, rng),
        clicks=1 + rng.geometric(1 / 5.0, n),
        pause=np.log(17_000) + 0.3 * rng.standard_normal(n),
        spread=0.5,
        user=today.weekly_cookies(phone),
        session=0,
        ip=data_centre(machine),
        agent=agents(device, fixed.random(1 << 12)[phone % (1 << 12)]),
        device=device,
        marketplace=marketplace,
        logged_in=rng.random(n) < 0.1,
        ad=marketplace.astype(np.int32) * ADS,
        ads=300,
        buys=0.0,
        kind=today.kind,
    )


def adware(today: Today, clicks: float) -> Sessions:
    """An extension of people's browsers: it clicks a few ads within seconds while they browse, in their name."""
    rng = today.rng
    n = rng.poisson(clicks / 3.0)
    marketplace = today.marketplaces(n, _SPREAD)
    device = np.full(n, DESKTOP, np.int8)
    person = today.people.anyone(marketplace, rng)
    return sessions(
        n,
        start=today.rhythm.times(marketplace, device, rng),
        clicks=rng.integers(2, 5, n),
        pause=np.log(2_500),
        spread=0.4,
        user=np.where(today.people.recognised[person], person, UNKNOWN),
        session=0,
        ip=today.people.homes(person, today.day),
        agent=agents(device, rng.random(n)),
        device=device,
        marketplace=marketplace,
        logged_in=today.people.account[person] & (rng.random(n) < 0.4),
        ad=marketplace.astype(np.int32) * ADS + 20,
        ads=40,
        buys=0.0,
        kind=today.kind,
    )


def kiosk(today: Today, clicks: float) -> Sessions:
    """Screens in shops and libraries, used from ten to seven by whoever comes."""
    rng = today.rng
    n = rng.poisson(clicks / 4.0)
    screens = max(3, round(clicks / 60))
    screen = rng.integers(0, screens, n)
    marketplace, device = (screen % 5).astype(np.int8), np.where(screen % 2, TABLET, DESKTOP).astype(np.int8)
    start = today.rhythm.times(marketplace, device, rng)
    day = today.rhythm.office_hours(marketplace, start)
    return sessions(
        n,
        start=np.where(day, start, today.rhythm.midnight + rng.integers(8 * HOUR, 19 * HOUR, n)),
        clicks=1 + (rng.standard_exponential(n) * 3.0).astype(np.int32),
        pause=np.log(20_000) + 0.5 * rng.standard_normal(n),
        spread=1.1,
        user=MADE_UP + screen,
        session=np.where(rng.random(n) < 0.5, 0, UNKNOWN),
        ip=today.people.homes(screen * 97 % today.people.n, 0),
        agent=agents(device, screen * 0.37 % 1.0),
        device=device,
        marketplace=marketplace,
        logged_in=False,
        ad=marketplace.astype(np.int32) * ADS,
        ads=ADS,
        buys=HARDLY_BUY,
        kind=today.kind,
    )


def child(today: Today, clicks: float) -> Sessions:
    """Tablets of children at home, from two to eight in the afternoon: long visits of fast taps."""
    rng = today.rng
    n = rng.poisson(clicks / 8.0)
    marketplace, device = today.marketplaces(n, _SPREAD), np.full(n, TABLET, np.int8)
    person = today.people.anyone(marketplace, rng)
    afternoon = np.array([20, 14, 13, 5, 8])[marketplace] * HOUR  # two o'clock there, in UTC
    return sessions(
        n,
        start=today.rhythm.midnight + (afternoon + rng.integers(0, 6 * HOUR, n)) % DAY,
        clicks=2 + (rng.standard_exponential(n) * 6.0).astype(np.int32),
        pause=np.log(6_000) + 0.5 * rng.standard_normal(n),
        spread=1.0,
        user=np.where(rng.random(n) < 0.5, MADE_UP + _LONE + person, UNKNOWN),
        session=0,
        ip=today.people.homes(person, today.day),
        agent=agents(device, rng.random(n)),
        device=device,
        marketplace=marketplace,
        logged_in=False,
        ad=marketplace.astype(np.int32) * ADS,
        ads=200,
        buys=HARDLY_BUY,
        kind=today.kind,
    )


def passer(today: Today, clicks: float) -> Sessions:
    """Browsers that are used on one evening: in a hotel, on a borrowed phone, in a window that keeps nothing."""
    rng = today.rng
    n = rng.poisson(clicks / 4.0)
    marketplace, device = today.marketplaces(n, _SPREAD), today.devices(n, (0.3, 0.65, 0.05))
    return sessions(
        n,
        start=today.rhythm.times(marketplace, device, rng),
        clicks=1 + (rng.standard_exponential(n) * 3.0).astype(np.int32),
        pause=np.log(22_000) + 0.5 * rng.standard_normal(n),
        spread=1.2,
        user=MADE_UP + 2 * _LONE + rng.integers(0, _LONE, n),
        session=0,
        ip=np.where(device == MOBILE, today.people.carriers(marketplace, rng.random(n)), today.homes(marketplace)),
        agent=agents(device, rng.random(n)),
        device=device,
        marketplace=marketplace,
        logged_in=False,
        ad=marketplace.astype(np.int32) * ADS,
        ads=ADS,
        buys=HARDLY_BUY,
        kind=today.kind,
    )


Make = Callable[[Today, float], Sessions]
ROBOTS: dict[str, tuple[Make, float]] = {  # the share of each in the clicks of the eight, when all are there
    "resetting": (resetting, 0.14),
    "proxied": (proxied, 0.14),
    "polling": (polling, 0.12),
    "flooding": (flooding, 0.14),
    "replayed": (replayed, 0.14),
    "workers": (workers, 0.12),
    "emulated": (emulated, 0.12),
    "adware": (adware, 0.08),
}
LAST_WEEK = ("emulated", "adware")  # no model that was trained before has seen any
PEOPLE: dict[str, tuple[Make, float]] = {"kiosk": (kiosk, 0.3), "child": (child, 0.35), "passer": (passer, 0.35)}


def anonymous(planned: Sessions, share: float, rng: np.random.Generator) -> Sessions:
    """The sessions, of which a share is neither recognised nor signed in: consent was refused, or ids are blocked."""
    hidden: Int[np.ndarray, " n"] = rng.random(len(planned)) < share
    columns = {name: getattr(planned, name) for name in planned.__dataclass_fields__}
    columns["user"] = np.where(hidden, UNKNOWN, planned.user)
    columns["logged_in"] = planned.logged_in & ~hidden
    return Sessions(**columns)
