"""The routes of the model that decides, and of a candidate on trial: what was asked, decoded, and given to the core."""

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from starlette.requests import Request

from onlineguard.errors import OnlineguardError
from onlineguard.wire import operations
from onlineguard.wire.answers import ModelVersion
from onlineguard.wire.operations import Operation
from onlineguard.wire.requests import ModelFolder, TrialModel
from onlineguard_service.errors import JournalUnavailable, OnTrial
from onlineguard_service.http.bodies import decoded
from onlineguard_service.http.problems import Refused, shown


class Deciding(Protocol):
    """What these routes ask for answers: `onlineguard_service.core.Core`."""

    async def switch(self, folder: Path, force: bool = False) -> str: ...
    async def switch_to(self, version: str, force: bool = False) -> str: ...
    async def try_folder(self, folder: Path, share: float, force: bool = False) -> dict[str, Any]: ...
    async def try_version(self, version: str, share: float, force: bool = False) -> dict[str, Any]: ...
    async def end_trial(self) -> dict[str, Any]: ...
    def trial(self) -> dict[str, Any]: ...


class ModelRoutes:
    """See this module. `core` raises Refused before the service is ready; `read` is the body of a request."""

    def __init__(self, core: Callable[[], Deciding], read: Callable[[Request], Awaitable[bytes]]):
        self._core, self._read = core, read

    def handlers(self) -> list[tuple[Operation, Callable[[Request], Awaitable[Any]]]]:
        """What answers each operation, with a struct of the contract or what it holds."""
        return [
            (operations.MODEL, self._model),
            (operations.TRIAL, self._trial),
            (operations.TRY, self._try),
            (operations.END_TRIAL, self._end_trial),
        ]

    async def _model(self, request: Request) -> ModelVersion:
        asked = await self._asked(request, ModelFolder)
        core = self._core()
        with _refusing_models():
            if asked.version is not None:
                return ModelVersion(await core.switch_to(asked.version, asked.force))
            return ModelVersion(await core.switch(Path(asked.folder or ""), asked.force))

    async def _trial(self, request: Request) -> dict[str, Any]:
        return self._core().trial()

    async def _try(self, request: Request) -> dict[str, Any]:
        asked = await self._asked(request, TrialModel)
        core = self._core()
        with _refusing_models():
            if asked.version is not None:
                return await core.try_version(asked.version, asked.share, asked.force)
            return await core.try_folder(Path(asked.folder or ""), asked.share, asked.force)

    async def _end_trial(self, request: Request) -> dict[str, Any]:
        return await self._core().end_trial()

    async def _asked[Asked: (ModelFolder, TrialModel)](self, request: Request, kind: type[Asked]) -> Asked:
        """The body of a request that names a model, by a folder or a version."""
        asked = decoded(await self._read(request), kind)
        if (asked.folder is None) == (asked.version is None):
            raise Refused(
                422,
                'the body must have one of folder and version: {"folder": "the model\'s folder"}, or '
                '{"version": "one of the registry"}',
            )
        if asked.folder is not None and (not asked.folder or "\0" in asked.folder):
            raise Refused(
                422, f"folder is {shown(asked.folder)}; it must be the path of a folder on the service's machine"
            )
        return asked


@contextmanager
def _refusing_models() -> Generator[None]:
    """Refuse a folder that holds no model, or a damaged one, and a model that does not fit."""
    try:
        yield
    except (OnTrial, JournalUnavailable):
        raise
    except OnlineguardError as error:
        raise Refused(422, str(error)) from None
