"""What the entities of clicks are called in Redis, and clicks as the scripts take them, who name keys by number."""

import hashlib
import itertools
from collections.abc import Sequence
from struct import Struct

from onlineguard.slidr.clicks.clicks import prefix
from onlineguard.slidr.counting.counter_step import MOVED_ON
from onlineguard.slidr.counting.counters import ClickKeys
from onlineguard.slidr.counting.entities import LONGEST_NAME
from onlineguard.slidr.counting.windows import BUCKET_MS

GROUPS = 64  # a batch of 64 clicks takes at most that many calls a kind under Cluster; enough for ten nodes
KINDS = ("user", "session", "ip", "prefix", "ad")
_REMEMBERED = 8_192  # keys of a kind: most names come again soon, and making a key takes half a microsecond
_HASH = 16  # bytes
_click = Struct("<HHHHHHHIHBB").pack

Key = bytes | None  # None: of no entity


class Keys(dict[str | None, Key]):
    """The keys of one kind in one era of the stream's clock, by name; those of many are remembered."""

    def __init__(self, namespace: str, kind: str, era: int):
        super().__init__({None: None})
        self._is_prefix = kind == "prefix"
        self._begins = [f"{{{namespace}:{kind}{group}}}:{era}:".encode() for group in range(GROUPS)]

    def of(self, name: str) -> bytes:
        """That of a name which is not to be remembered."""
        hash_ = _hash(name)
        return self._begins[hash_[1] % GROUPS] + hash_

    def __missing__(self, name: str) -> bytes:
        if len(self) > _REMEMBERED:
            self.clear()
            self[None] = None
        key = self.of(prefix(name) if self._is_prefix else name)
        if len(name) <= LONGEST_NAME:
            self[name] = key
        return key


class Names:
    """The keys of a namespace in one era of the stream's clock."""

    def __init__(self, namespace: str, era: int):
        self.clock = f"{{{namespace}:clock0}}:0:".encode()
        self.ids = Keys(namespace, "id", era)
        self.kinds = [Keys(namespace, kind, era) for kind in KINDS]


class KeyedClicks:
    """n clicks with the keys of their entities, and when they count."""

    def __init__(self, keys: ClickKeys, times: Sequence[int], names: Sequence[Names]):
        self.ids = [its.ids.of(click_id) for its, click_id in zip(names, keys.click_ids, strict=True)]
        columns = (keys.users, keys.sessions, keys.ips, keys.ips, keys.ads)
        self.rows: list[list[Key]] = [  # by kind, then by click
            [its.kinds[kind][name] for its, name in zip(names, column, strict=True)]
            for kind, column in enumerate(columns)
        ]
        users, sessions, ips, *_ = self.rows
        self._there = _at(ips, users, b":u"), _at(ips, sessions, b":s")
        buckets, ms = [time // BUCKET_MS + MOVED_ON for time in times], [time % BUCKET_MS for time in times]
        self._facts = buckets, ms, keys.signed_in, [user is None for user in keys.users]

    def packed(self, *first: bytes) -> tuple[list[bytes], bytes]:
        """The keys of a call, some of which come first, and the clicks as `redis_count.lua` takes them."""
        return _packed((*self.rows, *self._there), self._facts, first)

    def packed_of(self, kind: int, clicks: Sequence[int]) -> tuple[list[bytes], bytes]:
        """The same of some clicks and one kind of entity."""
        mine = (kind, 5, 6) if KINDS[kind] == "ip" else (kind,)
        rows = [[row[i] if k in mine else None for i in clicks] for k, row in enumerate((*self.rows, *self._there))]
        return _packed(rows, [[fact[i] for i in clicks] for fact in self._facts], ())


def _packed(
    rows: Sequence[Sequence[Key]], facts: Sequence[Sequence[int]], first: Sequence[bytes]
) -> tuple[list[bytes], bytes]:
    keys: dict[Key, None] = dict.fromkeys(itertools.chain(*rows))
    keys.pop(None, None)
    numbers: dict[Key, int] = dict(zip(keys, itertools.count(len(first) + 1)))
    numbers[None] = 0
    clicks = map(_click, *(map(numbers.__getitem__, row) for row in rows), *facts)
    return [*first, *keys], b"".join(clicks)  # type: ignore


def _at(ips: Sequence[Key], members: Sequence[Key], part: bytes) -> list[Key]:
    """The keys of members of ips, in the hash slot of the ip."""
    return [
        None if ip is None or member is None else ip + part + member[-_HASH : -_HASH // 2]
        for ip, member in zip(ips, members, strict=True)
    ]


def _hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_HASH).digest()
