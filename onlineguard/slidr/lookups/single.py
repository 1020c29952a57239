"""A click by itself, looked up in tables, which in NumPy would take ten times as long.

An entity is found by bisection among the `FEW` whose keys begin with the same bits. Where these begin is held in
memory, a byte an entity. What was found of the `KEPT` latest users, addresses, user agents and ads is kept, since they
come again.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt64

from onlineguard.records.click import Click
from onlineguard.slidr.clicks.clicks import prefix
from onlineguard.slidr.lookups.columns import NETWORKS, TABLES, address, hashed

FEW = 8  # entities among which one is looked for
KEPT = 1 << 14  # of each kind; some 5 MB


class Table(NamedTuple):
    """Keys that ascend, and the numbers of each."""

    keys: UInt64[np.ndarray, " n"]
    values: Float32[np.ndarray, "n columns"]


class Single:
    """See this module."""

    def __init__(self, tables: Mapping[str, Table]):
        accounts, users, prefixes, agents, ads = (Entities(tables[name]) for name in TABLES)
        ranges = [Ranges(tables[name]) for name in NETWORKS]

        @lru_cache(KEPT)
        def of_user(user_id: str) -> list[float]:
            key = hashed(user_id)
            return accounts.numbers(key) + users.numbers(key)

        @lru_cache(KEPT)
        def of_address(ip: str) -> tuple[list[float], float]:
            version, number = address(ip)
            hosting = ranges[version == 6].number(number) if version else 0.0
            return prefixes.numbers(hashed(prefix(ip))), hosting

        self._nobody = accounts.nothing + users.nothing
        self._of_user, self._of_address = of_user, of_address
        self._of_agent = lru_cache(KEPT)(lambda agent: agents.numbers(hashed(agent)))
        self._of_ad = lru_cache(KEPT)(lambda ad_id: ads.numbers(hashed(ad_id)))

    def numbers(self, click: Click) -> list[float]:
        """Those of a click, in the order of `COLUMNS`."""
        user = self._nobody if click.user_id is None else self._of_user(click.user_id)
        network, hosting = self._of_address(click.ip)
        return [*user, *network, *self._of_agent(click.user_agent), *self._of_ad(click.ad_id), hosting]


class Entities:
    """A table of entities."""

    def __init__(self, table: Table):
        self._keys, self._values = _views(table)
        self._width = table.values.shape[1]
        self.nothing = [0.0] * self._width
        bits = (len(table.keys) // FEW).bit_length()
        self._shift = 64 - bits
        firsts = np.arange(1 << bits, dtype=np.uint64) << np.uint64(self._shift) if bits else np.zeros(1, np.uint64)
        self._begins = memoryview(np.append(np.searchsorted(table.keys, firsts), len(table.keys)).astype(np.uint32))

    def numbers(self, key: int) -> list[float]:
        """Those of an entity; zeros if it is not in the table."""
        first = key >> self._shift
        end = self._begins[first + 1]
        at = bisect_left(self._keys, key, self._begins[first], end)
        if at < end and self._keys[at] == key:
            return self._values[self._width * at : self._width * (at + 1)].tolist()
        return self.nothing


class Ranges:
    """A table of ranges, each of which begins at a key and ends at the next."""

    def __init__(self, table: Table):
        self._starts, self._values = _views(table)

    def number(self, key: int) -> float:
        """That of the range which holds the key; 0 before the first."""
        at = bisect_right(self._starts, key) - 1
        return self._values[at] if at >= 0 else 0.0


def _views(table: Table) -> tuple[Any, Any]:
    return memoryview(table.keys), memoryview(table.values.reshape(-1))
