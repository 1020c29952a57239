"""A guard that costs little, behind the interface that shards use: what it knows is a hash of all that it was given.

Every slice has a hash of its own events, and a new one begins from the pool that was adopted last. So an event that is
missing, doubled or out of place, or a pool adopted elsewhere, shows in the next answer of the slice.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from types import SimpleNamespace
from typing import Any, assert_never

import numpy as np
from onlineguard_service.entries import Events, Switch
from onlineguard_service.shards.shard import Shard

from onlineguard.engine.states import Sample
from onlineguard.wire.answers import EventAnswer
from onlineguard.wire.requests import Event

WIDTH = 8  # bytes of a hash


def hashed(*parts: bytes) -> bytes:
    """A hash of several things, one after another."""
    return blake2b(b"".join(parts), digest_size=WIDTH).digest()


def learned(before: bytes, x: float, t: int) -> bytes:
    """What a slice knows after an event."""
    return hashed(before, f"{x!r} {t}".encode())


def verdict(key: str, known: bytes) -> EventAnswer:
    """The answer to an event, of all that its slice knows then."""
    score = int.from_bytes(known[:4])
    return EventAnswer(key, float(score), None, None, score % 2 == 0, True)


class CheapGuard:
    """See this module. `known` is all that it knows."""

    most_clicks = 0
    model: Any
    watching: Any

    def __init__(self, options: Any, version: str, models: Callable[[str], Any]):
        self.options, self.explaining, self.source = options, False, ""
        self.slices: dict[str, bytes] = {}
        self.start = b""  # what new slices begin with
        self.head = b""  # a hash of everything
        self.n = 0
        self.events: CheapGuard | None = None  # until the first event, as of a guard that is not told the features
        self.alarms = SimpleNamespace(notice=0, noticed=lambda notice: ())
        self._use(version)

    def _use(self, version: str) -> None:
        self.model, self.watching = SimpleNamespace(version=version), SimpleNamespace(promises=b"")

    def remembers(self, entry: Events) -> set[str]:
        """No id is remembered."""
        return set()

    def apply_together(
        self, entries: Sequence[Events], sequence: int, after: Callable[[int], None]
    ) -> list[list[EventAnswer]]:
        """See Guard."""
        answers = [self._update(entry) for entry in entries]
        for i in range(len(entries)):
            after(i)
        return answers

    def apply(self, entry: Events | Switch, sequence: int) -> Sequence[EventAnswer]:
        """See Guard."""
        match entry:
            case Events():
                return self._update(entry)
            case Switch():
                self.head = hashed(self.head, b"switch", entry.version.encode())
                self._use(entry.version)
                return []
            case _:
                assert_never(entry)

    def _update(self, entry: Events) -> list[EventAnswer]:
        return [self._learn(event, entry.t) for event in entry.events]

    def _learn(self, event: Event, t: int) -> EventAnswer:
        key = str(event.slice)
        known = learned(self.slices.get(key, self.start), event.x[0], t)  # type: ignore[index]
        self.slices[key], self.head, self.n = known, hashed(self.head, known), self.n + 1
        self.events = self
        return verdict(key, known)

    def n_learned(self, of: str) -> int:
        """See Guard."""
        return self.n if of == "events" else 0

    def stream(self, of: str) -> list[str] | None:
        """See Guard."""
        return ["x"] if of == "events" and self.n else None

    def sample(self, of: str, most: int) -> Sample:
        """See Guard: the slices that come first by name."""
        known = b"".join(self.slices[key] for key in sorted(self.slices)[:most])
        rows = np.frombuffer(known, np.uint8).reshape(-1, WIDTH)
        return Sample(rows, np.zeros((len(rows), 1)))

    def adopt(self, of: str, sample: Sample) -> bool:
        """See Guard."""
        self.start = hashed(sample.rows.tobytes())
        self.head = hashed(self.head, b"adopt", self.start)
        return True

    def explain_alarm(self, number: int) -> None:
        """There are no alarms."""

    def fetch(self) -> None:
        """Nothing is computed elsewhere."""

    def dump(self) -> dict[str, Any]:
        """See Guard."""
        return {"cheap": [self.head, self.n, self.start, self.model.version, dict(self.slices)]}

    @classmethod
    def restored(cls, dump: dict[str, Any], models: Callable[[str], Any]) -> "CheapGuard":
        """See Guard."""
        head, n, start, version, slices = dump["cheap"]
        one = cls(None, version, models)
        one.head, one.n, one.start, one.slices = head, n, start, dict(slices)
        one.events = one if n else None
        return one


class CheapShard(Shard):
    """The real shard, around a cheap guard."""

    guards = CheapGuard  # type: ignore[assignment]
