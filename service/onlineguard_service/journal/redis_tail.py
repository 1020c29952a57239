"""The tail of a journal in Redis; a module of its own, so that redis-py is imported only where it is used."""

from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from onlineguard.sentinels import connected
from onlineguard_service.journal import snapshots
from onlineguard_service.journal.journal import Durability
from onlineguard_service.journal.redis_journal import BULK_TIMEOUT, PATIENCE, RedisJournal
from onlineguard_service.journal.redis_layout import Keys, pieces_of
from onlineguard_service.journal.tails import Astray, Tail

TOGETHER = 1_000  # entries that are read from Redis at a time


class RedisTail(Tail):
    """Of a `RedisJournal`."""

    def __init__(self, url: str, name: str, durability: Durability, replicas: int = 0):
        self._opened = partial(RedisJournal, url, name, durability, replicas=replicas)
        self._name, self._keys, self._id = name, Keys.of(name), "0-0"
        self._epochs: list[tuple[int, str]] = []  # each that was read, and its first entry
        options: dict[str, Any] = {"socket_connect_timeout": PATIENCE, "socket_timeout": BULK_TIMEOUT}
        self._client = connected(url, **options, retry=Retry(NoBackoff(), 0))

    def begin(self) -> dict[str, bytes] | None:
        """See `Tail.begin`."""
        self.sequence, self._id, self._epochs = 0, "0-0", [(0, "0")]
        with _as_os_errors():
            held: Any = self._client.hgetall(self._keys.snapshots)
            for number, newest in sorted(((int(n), held[n].decode()) for n in held), reverse=True):
                key = self._keys.snapshot(number)
                with suppress(snapshots.DamagedSnapshot):  # or it was removed meanwhile
                    self.sequence, parts = snapshots.whole(pieces_of(self._client, key), f"{key} in Redis")
                    self._id, self._epochs = newest, [(self.sequence, newest.partition("-")[0])]
                    return parts
        return None

    def entries(self) -> list[bytes]:
        """See `Tail.entries`."""
        with _as_os_errors():
            chunk: Any = self._client.xrange(self._keys.entries, min=f"({self._id}", count=TOGETHER)
        found: list[bytes] = []
        for place, fields in chunk:
            epoch, _, number = place.decode().partition("-")
            sequence = int(number)
            if sequence != self.sequence + 1:
                raise Astray(f"the journal {self._name!r} in Redis goes on with {sequence} after {self.sequence}")
            if epoch != self._epochs[-1][1]:
                self._epochs.append((sequence, epoch))
            self.sequence, self._id = sequence, place.decode()
            found.append(fields[b"e"])
        return found

    def beat(self) -> str:
        """See `Tail.beat`."""
        with _as_os_errors():
            found: Any = self._client.get(self._keys.beat)
        return (found or b"").decode()

    def is_gone(self) -> bool:
        """See `Tail.is_gone`: a writer that stops in order says so; of others nobody knows but by their silence."""
        return not self.beat()

    def take_over(self) -> tuple[RedisJournal, bool]:
        """See `Tail.take_over`. Entries that were read and that Redis lost, e.g. in a failover, count: the journal goes
        on after them, once this process has put its state there."""
        journal = self._opened()
        with _as_os_errors():
            there: Any = self._client.xrange(self._keys.entries, min=self._id, max=self._id)
        self.close()
        if self._is_lost(journal):
            journal.lacks(self.sequence, self._id)
            return journal, True
        return journal, (bool(there) or not self.sequence) and journal.sequence >= self.sequence

    def _is_lost(self, journal: RedisJournal) -> bool:
        """Whether Redis lost the last entries that were read: it has those before them, and nobody took them out, since
        that begins an epoch."""
        if journal.sequence >= self.sequence or journal.epoch_before > int(self._id.partition("-")[0]):
            return False
        epoch, _, number = journal.newest.partition("-")
        begun = [each for first, each in self._epochs if first <= int(number)]
        return journal.newest == "0-0" or (bool(begun) and begun[-1] == epoch)

    def snapshot(self) -> int:
        """See `Tail.snapshot`."""
        with _as_os_errors():
            held: Any = self._client.hkeys(f"{{{self._name}}}:snapshots")
        return max(map(int, held), default=0)

    def part(self, sequence: int, name: str) -> bytes | None:
        """See `Tail.part`."""
        key = f"{{{self._name}}}:snapshot:{sequence}"
        with _as_os_errors():
            first: Any = self._client.hget(key, "0")
            pieces = snapshots.pieces_of(first or b"", name)
            taken: Any = pieces and [self._client.hget(key, str(i)) for i in pieces]
        if taken and None in taken:
            raise snapshots.DamagedSnapshot(f"{key} in Redis was removed while it was read")
        return None if taken is None else b"".join(taken)

    def close(self) -> None:
        """See `Tail.close`."""
        self._client.close()


@contextmanager
def _as_os_errors() -> Generator[None]:
    """Redis cannot be reached: as a disk that cannot be read."""
    try:
        yield
    except redis.RedisError as error:
        raise OSError(f"Redis does not answer: {error}") from error
