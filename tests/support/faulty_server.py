"""Starts the real service over and over, each time in a fork of a process that has imported everything already.

    python server.py CACHE    then, a line of JSON with the service's settings for each start; pids on stdout

What takes a start its time is preparing programs. So CACHE is a folder for compiled ones, and a program is taken from
it when it is first needed, not before the service is ready.
"""

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import jax
import uvicorn
from onlineguard_service import entries
from onlineguard_service.config import Settings
from onlineguard_service.core import Core
from onlineguard_service.guard import Guard
from onlineguard_service.http.app import application
from onlineguard_service.standing import Standing


async def serve(port: int, chosen: dict[str, Any]) -> None:
    folder = {name: Path(chosen.pop(name)) for name in ("state", "model") if name in chosen}
    settings = Settings(**folder, **chosen)
    standing = Standing() if settings.standby == "on" else None
    app = application(None, settings, standing)
    config = uvicorn.Config(app, port=port, log_level="error", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    core = await Core.open(settings, standing)
    app.begin(core)
    await serving
    await core.close()


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, of Linux: none is left where the tests are killed


def main() -> None:
    die_with_parent()
    jax.config.update("jax_compilation_cache_dir", sys.argv[1])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    entries.now = lambda: 0  # so that a run that is never killed can be the same
    Guard.warmup = lambda self, batch, slices: None
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the killed are nobody's to wait for
    gc.freeze()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            die_with_parent()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            chosen = json.loads(line)
            try:
                with contextlib.suppress(KeyboardInterrupt):
                    asyncio.run(serve(chosen.pop("port"), chosen))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
