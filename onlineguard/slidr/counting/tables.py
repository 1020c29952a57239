"""The tables of all entities that a store in this process counts, and how they keep within bounds.

Who goes where there is no room is said in `eviction`. It is looked after before a batch of clicks is counted, since the
rows of a batch are in use until its end.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, Int64

from onlineguard.slidr.counting.counter_step import AD_DAY, AD_HEAD, AD_LANES, DAY, GATEWAY_LANES, HEAD, LANES
from onlineguard.slidr.counting.entities import FREE, EntityTable
from onlineguard.slidr.counting.eviction import LOOKED_AT, lately, least
from onlineguard.slidr.counting.windows import KEEP_HOURS, LONGER_HOURS

KINDS = {  # lanes of a row, and the hours for which it is kept
    "users": (LANES, KEEP_HOURS),
    "sessions": (LANES, KEEP_HOURS),
    "ips": (LANES + GATEWAY_LANES, KEEP_HOURS + LONGER_HOURS),
    "prefixes": (LANES, KEEP_HOURS),
    "ads": (AD_LANES, KEEP_HOURS),
    "pairs": (1, KEEP_HOURS),  # a pair: an ip, and a user or session there
}
PAIRS = 4  # times as many users and sessions at ips as there are users: people have an ip at home, at work and abroad
# Clicks for which there is room before a table lacks any, so that the tables take turns: what one turn brings.
SLACK = 32

_NAMES = (*KINDS,)
_OF_CLICK = (1,) * (len(KINDS) - 1) + (2,)  # entities of each table that a click may bring


class Tables:
    """A table for each of KINDS, in that order, with at most `max_entities` in each; None: there is no bound."""

    def __init__(self, max_entities: int | None) -> None:
        self.epoch = 0  # how often entities were evicted
        self.evicted = dict.fromkeys(KINDS, 0)
        self.clear()
        self.bind(max_entities)

    def clear(self) -> None:
        """Forget every entity."""
        self._use([EntityTable(lanes, keep) for lanes, keep in KINDS.values()])

    def bind(self, max_entities: int | None) -> None:
        """Keep so many from the next `make_way` on."""
        each = math.inf if max_entities is None else max_entities
        self._most = [each] * (len(KINDS) - 1) + [PAIRS * each]
        # Clicks that surely have room. Whether that is looked at more often changes nothing.
        self._spare: float = math.inf if max_entities is None else 0
        self._slack = 0 if max_entities is None else min(SLACK, max_entities // SLACK)

    def reserve(self, clicks: int, now: int) -> None:
        """Have room for entities that these clicks may bring. now: the shortest bucket of the stream's clock."""
        if self._spare < clicks:
            self.make_way(clicks, now)
        self._spare -= clicks

    def make_way(self, clicks: int, now: int) -> None:
        """Evict, so that these clicks may each be of entities not seen before. One table a call has its turn, unless
        more lack room, so that no click waits for all."""
        evicted = False
        while True:
            room, kind = min((self._room(kind), kind) for kind in range(len(KINDS)))
            table = self.all[kind]
            if room >= clicks + self._slack or (evicted and room >= clicks) or not len(table):
                break
            rows = table.sample(LOOKED_AT)
            if len(rows):
                gone = least(rows, *self._usefulness(kind, rows, now))
                table.drop(gone)
                self.evicted[_NAMES[kind]] += len(gone)
                evicted = True
        if evicted:
            self._begin_epoch()
        self._spare = max(0, room - self._slack)

    def erase(self, user_id: str) -> None:
        """Forget a user."""
        row = self.users.place(user_id)
        if row:
            self.users.drop([row])
            self._begin_epoch()

    def gone(self, pair: int, ip: int, kind: int, member: int) -> bool:
        """Whether a pair is of entities that were evicted, whose rows others have now; `are_gone` of one."""
        if not (pair and self.epoch):
            return False
        born = self.pairs.born[pair]
        return bool(born < self.ips.born[ip] or born < (self.sessions if kind else self.users).born[member])

    def are_gone(self, pairs: Any, ips: Any, kinds: Any, members: Any) -> Bool[np.ndarray, " n"]:
        """Which pairs are of evicted entities, given their rows, and those of their ips, users (0) and sessions (1)."""
        born, ip = self.pairs.born[pairs], self.ips.born[ips]
        of_user, of_session = (
            table.born[np.where(kinds == kind, members, 0)] for kind, table in enumerate((self.users, self.sessions))
        )
        member = np.where(kinds, of_session, of_user)
        return (pairs > 0) & ((np.minimum(ip, member) == FREE) | (born < np.maximum(ip, member)))

    def renew(self, pairs: Any) -> None:
        """Count pairs from zero, as of entities that have come just now."""
        self.pairs.table[pairs], self.pairs.born[pairs] = 0, self.epoch

    def sizes(self) -> dict[str, int]:
        """How many of each kind are held now."""
        return dict(zip(KINDS, map(len, self.all), strict=True))

    def dump(self) -> dict[str, Any]:
        """A copy of everything counted, a part for each kind, and what was evicted."""
        evicted = {"epoch": self.epoch, "evicted": dict(self.evicted)}
        return evicted | {name: table.dump() for name, table in zip(KINDS, self.all, strict=True)}

    def restore(self, dump: dict[str, Any]) -> None:
        """Become what was dumped."""
        if "epoch" in dump:  # of old nothing was evicted
            self.epoch, self.evicted = dump["epoch"], dict(dump["evicted"])
        self._use([EntityTable.restored(dump[name], keep) for name, (_, keep) in KINDS.items()])

    def _use(self, tables: list[EntityTable]) -> None:
        self.users, self.sessions, self.ips, self.prefixes, self.ads, self.pairs = self.all = tables
        for table in tables:
            table.epoch = self.epoch

    def _room(self, kind: int) -> float:
        """Clicks that may each bring as many new entities of a table as a click can."""
        return (self._most[kind] - len(self.all[kind])) // _OF_CLICK[kind]

    def _begin_epoch(self) -> None:
        self.epoch += 1
        for table in self.all:
            table.epoch = self.epoch

    def _usefulness(
        self, kind: int, rows: Int32[np.ndarray, " n"], now: int
    ) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Of entities, as `eviction` has it: what they are worth, and when they were clicked last."""
        table = self.all[kind]
        if table is self.ads:
            return lately(table.table[rows], AD_DAY, AD_HEAD, now)
        if table is not self.pairs:
            return lately(table.table[rows, :LANES], DAY, HEAD, now)
        pairs = np.array(table.keys(rows), np.int64)
        gone = self.are_gone(rows, pairs >> 33, pairs & 1, (pairs & (2**33 - 1)) >> 1)
        return np.where(gone, 0, 1), table.table[rows, 0].astype(np.int64)


def pair_of(ip: Any, member: Any, kind: int) -> Any:
    """The key of a user (kind 0) or session (1) at an ip, given their rows; int, or int64 (n,)."""
    return (ip << 33) + 2 * member + kind
