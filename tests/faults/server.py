"""Starts the real service over and over, each time in a fork of a process that has imported everything already.

    python server.py CACHE MODEL    then, a line of JSON with the service's settings for each start; pids on stdout

What takes a start its time is preparing programs. So CACHE is a folder for compiled ones, requests are worked off in
smaller parts, which need fewer of them (and leave more places to be killed at), and while one service runs the next
process prepares its programs already with MODEL. It reads nothing of the state before it is started.
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

from service import core as core_module
from service.app import application
from service.config import Settings
from service.core import Core
from service.guard import Guard, Options
from service.models import Models

AT_ONCE = 8  # events or clicks of a request that are one entry


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


def prepared(model: Path, scratch: Path, told: int) -> None:
    """A child: prepare all programs, then serve as a line from the pipe `told` says."""
    models = Models(scratch)
    guard = Guard(Options(n_features=2), models.put(model).version, models.get)
    guard.warmup(AT_ONCE, core_module.ROOM)
    with os.fdopen(told) as lines:
        line = lines.readline()
    if line:
        chosen = json.loads(line)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(chosen.pop("port"), chosen))


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, of Linux: none is left where the tests are killed


def fork(model: Path, scratch: Path) -> tuple[int, int]:
    """A process that prepares itself: its id, and the pipe that starts it."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        die_with_parent()
        os.close(tell)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            prepared(model, scratch, told)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(told)
    return pid, tell


def main() -> None:
    die_with_parent()
    cache, model = Path(sys.argv[1]), Path(sys.argv[2])
    jax.config.update("jax_compilation_cache_dir", str(cache / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    core_module._now = lambda: 0  # so that a run that is never killed can be the same
    core_module.CLICKS_AT_ONCE = core_module.EVENTS_AT_ONCE = AT_ONCE
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the killed are nobody's to wait for
    gc.freeze()
    pid, tell = fork(model, cache / "models")
    for line in sys.stdin:
        os.write(tell, line.encode())
        os.close(tell)
        print(pid, flush=True)
        pid, tell = fork(model, cache / "models")


if __name__ == "__main__":
    main()
