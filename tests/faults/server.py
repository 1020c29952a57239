"""Starts the real service over and over, each time in a fork of a process that has imported everything already.

    python server.py CACHE    then, a line of JSON with the service's settings on stdin for each start; pids on stdout

CACHE is a folder for compiled programs, so that a start takes a fraction of a second instead of several.
"""

import asyncio
import contextlib
import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import jax
import uvicorn

from service import core as core_module
from service.app import application
from service.config import Settings
from service.core import Core


async def serve(port: int, chosen: dict[str, Any]) -> None:
    folder = {name: Path(chosen.pop(name)) for name in ("state", "model") if name in chosen}
    settings = Settings(**folder, **chosen)
    app = application(None, settings)
    config = uvicorn.Config(app, port=port, log_level="error", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    core = await Core.open(settings)
    app.begin(core)
    await serving
    await core.close()


def main() -> None:
    jax.config.update("jax_compilation_cache_dir", sys.argv[1])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    core_module._now = lambda: 0  # so that a run that is never killed can be the same
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the killed are nobody's to wait for
    gc.freeze()
    for line in sys.stdin:
        chosen = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(serve(chosen.pop("port"), chosen))
            os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
