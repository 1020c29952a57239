"""Work that may never end, such as reading from a registry far away: in a thread that nobody has to wait for.

Threads of an executor are joined when the process ends, and those of asyncio's are shared with the journal. These are
neither.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any


def aside[T](work: Callable[[], T]) -> asyncio.Future[T]:
    """What the work returns or raises, once it has."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(ended: Callable[[Any], None], with_: Any) -> None:
        if not done.done():  # cancelled meanwhile
            ended(with_)

    def run() -> None:
        try:
            told = tell, done.set_result, work()
        except Exception as error:
            told = tell, done.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(*told)

    threading.Thread(target=run, name="aside", daemon=True).start()
    return done
