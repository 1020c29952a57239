"""Deciding: which model decides, and how another takes its place.

Another model comes by an operator, by a registry whose current version has changed, or by the live watch, which takes
the present one back. However it comes, it is compiled beside the live one and switched to between two requests, by an
entry of the journal.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from onlineguard.errors import CheckpointError, Conflict, InvalidArgument
from onlineguard.slidr.model import Model
from onlineguard_service import entries
from onlineguard_service.aside import aside
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.following import Following
from onlineguard_service.guard import Guard
from onlineguard_service.models import Models
from onlineguard_service.turns import Turns

log = logging.getLogger("onlineguard.service")


class Deciding:
    """See this module. `commit` writes an entry and applies it; `turns` are those of the requests."""

    def __init__(
        self,
        guard: Guard,
        models: Models,
        following: Following | None,
        commit: Callable[[entries.Entry], Awaitable[Any]],
    ):
        self.turns = Turns()
        self._guard, self._models, self._following, self._commit = guard, models, following, commit
        self._looks: asyncio.Task[None] | None = None
        self._taking_back: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()

    async def begin(self, every: float) -> None:
        """Do what is owed since before a restart, and follow the registry, if there is one, so many seconds apart."""
        self.take_back_if_owed()
        if self._following is not None:
            await self.follow()
            self._looks = asyncio.create_task(self._following_on(every))

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What goes on beside the requests, to be cancelled at the end."""
        return [task for task in (self._looks, self._taking_back) if task is not None]

    async def switch(self, folder: Path, force: bool = False) -> str:
        """Let the model of a folder decide from now on, and return its version.

        Raises CheckpointError if it cannot, or, without `force`, if it does not fit the clicks that come.
        """
        model = await asyncio.to_thread(self._models.put, folder)
        if model.version != self._guard.model.version:
            await self._let_decide(model, b"", force)
        return model.version

    async def switch_to(self, version: str, force: bool = False, still: Callable[[], bool] = lambda: True) -> str:
        """Let a version of the registry decide, until the registry changes; as `switch`.

        Raises InvalidArgument for a version that is not there, and where the service follows no registry.
        """
        following = self._following
        if following is None:
            raise InvalidArgument("version", f"is {version!r}, but no registry is set; name the folder of a model")
        model, promises = await aside(lambda: following.fetch(version))
        if (version, promises) != (self._guard.model.version, self._guard.watching.promises):
            await self._let_decide(model, promises, force, still)
        return version

    async def _let_decide(
        self, model: Model, promises: bytes, force: bool, still: Callable[[], bool] = lambda: True
    ) -> None:
        """Compile beside the live model, and switch between two requests if it is `still` right then."""
        if not force and (wrong := self._guard.misfit(model)) is not None:
            raise CheckpointError(f'{wrong}; send "force": true if it shall decide all the same')
        await asyncio.to_thread(self._guard.warm, model)
        async with self.turns.change():
            if still():
                await self._commit(entries.Switch(model.version, entries.now(), promises))

    async def _following_on(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            await self.follow()

    async def follow(self) -> None:
        """Take the registry's current version, if that has changed. What prevents it is logged."""
        async with self._looking:
            await self._follow()

    async def _follow(self) -> None:
        assert self._following is not None
        following, taken_back = self._following, self._guard.watching.taken_back

        def still() -> bool:  # nothing was taken back meanwhile, and nothing shall be
            return self._guard.watching.taken_back == taken_back and self._guard.rollback(0) is None

        try:
            head = await aside(following.look)
            if head is None:
                return
            if taken_back is not None and head.current == taken_back[0]:
                _, since, why = taken_back
                head = await aside(partial(following.take_back, head, since, why))
            following.refused = None
            try:
                await self.switch_to(head.current, still=still)
            except (CheckpointError, InvalidArgument) as error:
                following.refuse(str(error))
                log.error("the registry's current version is not used: %s", error)
            if still():
                following.dealt_with = head.generation
        except Conflict:
            pass  # the next look sees what came between
        except Exception as error:
            log.warning("the registry cannot be followed now: %s", error)

    def take_back_if_owed(self) -> None:
        """Begin to go back to the model before, if an alarm asks for it; called after every entry."""
        if self._guard.rollback(0) is not None and (self._taking_back is None or self._taking_back.done()):
            self._taking_back = asyncio.create_task(self._take_back())

    async def _take_back(self) -> None:
        """Go back to the model before, as an alarm of the live watch asks."""
        while (entry := self._guard.rollback(entries.now())) is not None:
            try:
                await asyncio.to_thread(self._guard.warm, self._models.get(entry.version))
                async with self.turns.change():
                    if (entry := self._guard.rollback(entries.now())) is not None:
                        await self._commit(entry)
                        log.error("model %s decides again: %s", entry.version, entry.why)
            except JournalUnavailable as error:
                log.warning("the model cannot be taken back yet: %s", error)
                await asyncio.sleep(1.0)
        if self._following is not None:
            self._following.dealt_with = 0
            await self.follow()

    def registry(self) -> dict[str, Any] | None:
        """How the registry is followed; None where there is none."""
        if self._following is None:
            return None
        return {
            "reached": self._following.reached,
            "refused": self._following.refused is not None,
            "refusals": self._following.n_refused,
        }
