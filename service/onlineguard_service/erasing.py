"""Erasing: the traces of a person are removed from a service that runs.

1. The entry `Erase` has the guard forget the user: their counters, and the answers to their clicks.
2. What waits for the history becomes files, and their clicks and labels are removed from all files. Counters in Redis
   lose the user's key.
3. The entry `Erased` says that this is done, and two snapshots are written. They are the two that a journal keeps, and
   none of the entries before them is kept any longer, so nothing in the folder of the state, or in Redis, names the
   user.

A service that is killed meanwhile goes on with it at its next start. Before `Erased` the snapshots tell it who is owed.
After that, a replay that met the clicks again, and made files of them, met `Erase` too.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from onlineguard.slidr.history import keeping
from onlineguard.slidr.history.pseudonyms import Pseudonyms, read_key
from onlineguard_service import entries
from onlineguard_service.config import Settings
from onlineguard_service.guard import Guard
from onlineguard_service.journal.journal import Journal
from onlineguard_service.redis.counting import Counting


class Erasing:
    """See this module. `commit` writes an entry and applies it, `snapshot` writes a snapshot."""

    def __init__(
        self,
        guard: Guard,
        journal: Journal,
        counting: Counting | None,
        settings: Settings,
        commit: Callable[[entries.Entry], Awaitable[Any]],
        snapshot: Callable[[], Awaitable[int]],
    ):
        self._guard, self._journal, self._counting, self._settings = guard, journal, counting, settings
        self._commit, self._snapshot = commit, snapshot
        self._one_at_a_time = asyncio.Lock()

    async def erase(self, user_id: str, namespace: str = "") -> keeping.Erased:
        """Remove the traces of a user, and say how many clicks and labels the history had of them.

        The history is of the clicks that belong to no namespace.

        Raises JournalUnavailable or CountersUnavailable where that cannot be finished now: it is by the next call, or
        the next start. Raises SourceError where the history has files of another key's pseudonyms.
        """
        async with self._one_at_a_time:
            await self._commit(entries.Erase(user_id, entries.now(), namespace))
            return await self._finish()

    async def finish(self) -> None:
        """Do what an earlier process was killed over."""
        if any(one.erasing or one.erased > self._journal.oldest for one in self._guards().values()):
            await self._finish()

    def _guards(self) -> dict[str, Guard]:
        """By namespace, the one of none too."""
        return {"": self._guard, **self._guard.namespaces}

    async def _finish(self) -> keeping.Erased:
        guards, sequence, recorder = self._guards(), self._guard.sequence, self._guard.recorder
        owed = [(namespace, one, user_id) for namespace, one in guards.items() for user_id in sorted(one.named)]
        if recorder is not None:
            recorder.seal(sequence)
            await asyncio.to_thread(recorder.write)
        clicks = labels = 0
        for namespace, _, user_id in owed:
            if self._counting is not None:
                await self._counting.erase(user_id, namespace)
            if not namespace:
                found = await asyncio.to_thread(_from_history, self._settings, user_id)
                clicks, labels = clicks + found.clicks, labels + found.labels
        for _ in range(2):  # two entries, so that they are two snapshots
            await self._commit(entries.Erased(sequence, entries.now()))
            await self._snapshot()
        await self._journal.forget_covered()
        for _, one, user_id in owed:
            one.named.discard(user_id)
        return keeping.Erased(clicks, labels)


def history_root(settings: Settings) -> Path:
    """The folder of the history, if there is any."""
    return settings.history_folder or settings.state / "history"


def history_key(settings: Settings) -> Path:
    """The key of its pseudonyms, if there is any."""
    return settings.state / "history.key"


def _from_history(settings: Settings, user_id: str) -> keeping.Erased:
    root, key = history_root(settings), history_key(settings)
    if not root.is_dir():
        return keeping.Erased(0, 0)
    return keeping.erase(root, user_id, Pseudonyms(read_key(key)) if key.exists() else None)
