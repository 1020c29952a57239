"""`onlineguard serve` with the double instead of the core: the process that tests start.

`python serve_double.py SECONDS FLAGS...`: the core takes so long to open; below 0 it cannot be opened.
"""

import asyncio
import sys
import types

from onlineguard_service.config import Settings

from onlineguard.cli import app as cli
from onlineguard.errors import CheckpointError
from tests.support.double import Double

SECONDS = float(sys.argv.pop(1))


class Core(Double):
    @staticmethod
    async def open(settings: Settings, standing: object = None) -> "Core":
        if SECONDS < 0:
            raise CheckpointError("the state cannot be read: made so by a test")
        await asyncio.sleep(SECONDS)
        return Core()

    async def update(self, events: list) -> list[bytes]:
        if any(event.slice == "slow" for event in events):
            print("a slow request is under way", flush=True)
            await asyncio.sleep(1.0)
            self.slow.set()
        return await super().update(events)

    async def close(self) -> None:
        print("closed after", len(self.learned), flush=True)


sys.modules["onlineguard_service.core"] = types.ModuleType("onlineguard_service.core")
sys.modules["onlineguard_service.core"].Core = Core  # type: ignore[attr-defined]
sys.argv.insert(1, "serve")
cli.main()
