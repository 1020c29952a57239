"""Deciding: which model decides, and how another takes its place.

Another model comes by an operator, by a registry whose current version has changed, or by the live watch, which takes
the present one back. However it comes, it is compiled beside the live one and switched to between two requests, by an
entry of the journal. A candidate that is to be tried beside the live model comes the same ways.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from onlineguard.errors import CheckpointError, Conflict, InvalidArgument
from onlineguard.records.versions import Change
from onlineguard.slidr.model import Model
from onlineguard_service import entries
from onlineguard_service.aside import aside
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.following import Fetched, Following
from onlineguard_service.guard import Guard
from onlineguard_service.models import Models
from onlineguard_service.trying import incomparable
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
        model, promises = await self._fetched(version)
        if (version, promises) != (self._guard.model.version, self._guard.watching.promises):
            await self._let_decide(model, promises, force, still)
        return version

    async def take(self, model: Model) -> None:
        """Let a model decide from now on that decides elsewhere already, whatever clicks come here."""
        if model.version != self._guard.model.version:
            await self._let_decide(model, b"", True)

    async def try_folder(self, folder: Path, share: float, force: bool = False) -> None:
        """Let the model of a folder judge every click beside the live one, and decide those of a share of the users.

        Raises CheckpointError as `switch`, OnTrial where another one is tried, and InvalidArgument for a model that
        cannot be compared with the live one.
        """
        await self._try(await asyncio.to_thread(self._models.put, folder), b"", share, force)

    async def try_version(self, version: str, share: float, force: bool = False) -> None:
        """As `try_folder`, of a version of the registry. Raises InvalidArgument as `switch_to`."""
        self._guard.trying.check(version)
        await self._try(*await self._fetched(version), share, force)

    async def end_trial(self, why: str) -> None:
        """Let the candidate judge no more, if there is one."""
        if self._guard.trying.running:
            async with self.turns.change():
                await self._commit(entries.Trial("", 0.0, entries.now(), why=why))

    async def _fetched(self, version: str) -> Fetched:
        following = self._following
        if following is None:
            raise InvalidArgument("version", f"is {version!r}, but no registry is set; name the folder of a model")
        return await aside(lambda: following.fetch(version))

    async def _try(self, model: Model, promises: bytes, share: float, force: bool) -> None:
        trying = self._guard.trying
        trying.check(model.version)
        if (wrong := incomparable(model, self._guard.model)) is not None:
            raise InvalidArgument("version", wrong)
        _check_fit(self._guard, model, force)
        if trying.running and (trying.version, trying.share, trying.promises) == (model.version, share, promises):
            return
        await asyncio.to_thread(self._guard.warm_beside, model)
        async with self.turns.change():
            await self._commit(entries.Trial(model.version, share, entries.now(), promises))

    async def _let_decide(
        self, model: Model, promises: bytes, force: bool, still: Callable[[], bool] = lambda: True
    ) -> None:
        """Compile beside the live model, and switch between two requests if it is `still` right then."""
        _check_fit(self._guard, model, force)
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
                await self._follow_trial(head)
                following.dealt_with = head.generation
        except Conflict:
            pass  # the next look sees what came between
        except Exception as error:
            log.warning("the registry cannot be followed now: %s", error)

    async def _follow_trial(self, head: Change) -> None:
        """Try the candidate that the registry's log says is on trial, or none. Raises what prevents that at present.

        After a start the log was perhaps dealt with before: then what was done here since is newer.
        """
        assert self._following is not None
        trying, log_is_news = self._guard.trying, self._following.dealt_with != 0
        if not (log_is_news or trying.changed < head.when):
            if trying.ended_by_itself and trying.version == head.trial:
                await aside(partial(self._following.end_trial, head, trying.ended_by_itself))
        elif head.trial is None:
            await self.end_trial(f"the registry's log says so: {head.why}")
        else:
            try:
                if trying.running and trying.version != head.trial:
                    await self.end_trial(f"the registry's log has {head.trial} on trial")
                await self.try_version(head.trial, head.share, force=bool(head.forced))
            except (CheckpointError, InvalidArgument) as error:
                log.error("the registry's candidate is not tried: %s", error)

    def take_back_if_owed(self) -> None:
        """Begin to do what an alarm asks for, if one does: to go back to the model before, or to end a trial; called
        after every entry."""
        if self._guard.owed(0) is not None and (self._taking_back is None or self._taking_back.done()):
            self._taking_back = asyncio.create_task(self._take_back())

    async def _take_back(self) -> None:
        """Go back to the model before, or end the trial, as an alarm asks."""
        while (entry := self._guard.owed(entries.now())) is not None:
            try:
                if entry.version:
                    await asyncio.to_thread(self._guard.warm, self._models.get(entry.version))
                async with self.turns.change():
                    if (entry := self._guard.owed(entries.now())) is not None:
                        await self._commit(entry)
                        told = f"model {entry.version} decides again" if entry.version else "the trial has ended"
                        log.error("%s: %s", told, entry.why)
            except JournalUnavailable as error:
                log.warning("what an alarm asks for cannot be done yet: %s", error)
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


def _check_fit(guard: Guard, model: Model, force: bool) -> None:
    if not force and (wrong := guard.misfit(model)) is not None:
        raise CheckpointError(f'{wrong}; send "force": true if it shall decide all the same')
