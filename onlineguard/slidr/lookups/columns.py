"""What is looked up of a click, in the order of the numbers, and the keys under which it stands.

| columns | table, by | |
|---|---|---|
| `account_rfm` | accounts, by user_id | RFM score of the account, 3 to 15 |
| `hosting` | networks, by ip | 1 if the address is one of a hosting company |
| `user_daily`, `user_days` | users, by user_id | log1p of the mean clicks a day, and the share of days with clicks |
| `prefix_…`, `agent_…`, `ad_…` | prefixes, agents, ads | the same of the ip's prefix, the user agent and the ad |

A number is 0 where nothing is known: of a user without an id, of an entity that was not seen, and where there are no
lookups at all. No number of a known entity is 0, but for `hosting`.

An entity's key is the first 64 bits of the BLAKE2b hash of its UTF-8 text, read little-endian. With ten million
entities a new one is taken for one of them with a probability of 5e-13. An address's key is its 32 bits, or the first
64 bits of an address of IPv6.
"""

import hashlib
import ipaddress
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import UInt64

from onlineguard.slidr.clicks.clicks import prefix

BASELINES = ("users", "prefixes", "agents", "ads")
TABLES: dict[str, tuple[str, ...]] = {
    "accounts": ("account_rfm",),
    "users": ("user_daily", "user_days"),
    "prefixes": ("prefix_daily", "prefix_days"),
    "agents": ("agent_daily", "agent_days"),
    "ads": ("ad_daily", "ad_days"),
}
NETWORKS = ("networks4", "networks6")  # of IPv4 and IPv6
HOSTING = "hosting"
COLUMNS: tuple[str, ...] = (*(column for columns in TABLES.values() for column in columns), HOSTING)
UNITS: tuple[str, ...] = ("points", *("log1p clicks a day", "share") * len(BASELINES), "0 or 1")
NOBODY = 0  # key of an entity that is unknown


class Address(NamedTuple):
    """An address as a number, among those of its version."""

    version: int  # 4, or 6; 0 for a text that is none
    number: int


class Keys(NamedTuple):
    """What n clicks are looked up by."""

    user: UInt64[np.ndarray, " n"]
    prefix: UInt64[np.ndarray, " n"]
    agent: UInt64[np.ndarray, " n"]
    ad: UInt64[np.ndarray, " n"]
    version: UInt64[np.ndarray, " n"]  # of the address, and the address
    number: UInt64[np.ndarray, " n"]


def keys_of(clicks: pl.DataFrame) -> Keys:
    """Those of the clicks of a frame; every distinct text is looked at once."""

    def of(column: str, numbers: Callable[[pl.Series], Sequence[Sequence[int]]]) -> list[UInt64[np.ndarray, " n"]]:
        distinct = clicks[column].drop_nulls().unique()
        return [
            clicks[column]
            .replace_strict(distinct, pl.Series(of_each, dtype=pl.UInt64), default=NOBODY, return_dtype=pl.UInt64)
            .to_numpy()
            for of_each in numbers(distinct)
        ]

    def of_text(texts: pl.Series) -> list[list[int]]:
        return [[hashed(text) for text in texts]]

    def of_ip(ips: pl.Series) -> list[list[int]]:
        addresses = [address(ip) for ip in ips]
        networks = [hashed(prefix(ip)) for ip in ips]
        return [networks, [each.version for each in addresses], [each.number for each in addresses]]

    (user,), (agent,), (ad,) = (of(column, of_text) for column in ("user_id", "user_agent", "ad_id"))
    network, version, number = of("ip", of_ip)
    return Keys(user, network, agent, ad, version, number)


def hashed(text: str) -> int:
    """The key of an entity.

    >>> hashed("192.0.2.0/24")
    16950822849490080332
    """
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def address(ip: str) -> Address:
    """The key of an address; an IPv4 address that is written as IPv6 is one of IPv4.

    >>> address("192.0.2.7"), address("::ffff:192.0.2.7"), address("2001:db8::1"), address("87540")
    (Address(version=4, number=3221225991), Address(version=4, number=3221225991), \
Address(version=6, number=2306139568115548160), Address(version=0, number=0))
    """
    try:
        parsed = ipaddress.ip_address(ip)
    except ValueError:
        return Address(0, 0)
    if parsed.version == 6 and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return Address(4, int(parsed)) if parsed.version == 4 else Address(6, int(parsed) >> 64)
