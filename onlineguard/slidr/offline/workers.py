"""Tasks done several at once, in processes of their own that end with the process that they work for."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from onlineguard.errors import CheckpointError

Task = Callable[[], None]
Run = Callable[[Iterable[Task], Callable[[], None]], None]  # does tasks, and calls the other one after each

_THREADS = "POLARS_MAX_THREADS"


@contextmanager
def pool(workers: int) -> Generator[Run]:
    """Gives a function that does tasks, so many at once; with one worker, this process does them.

    Raises CheckpointError where a worker was killed.
    """
    if workers == 1:

        def here(tasks: Iterable[Task], done: Callable[[], None]) -> None:
            for task in tasks:
                task()
                done()

        yield here
        return
    threads = os.environ.get(_THREADS)
    os.environ[_THREADS] = "1"  # of each worker, which are as many as there are cores to use
    try:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _end_with_the_parent) as executor:

            def there(tasks: Iterable[Task], done: Callable[[], None]) -> None:
                left: set[Future[None]] = {executor.submit(task) for task in tasks}
                try:
                    while left:
                        finished, left = wait(left, return_when=FIRST_COMPLETED)
                        for future in finished:
                            future.result()
                            done()
                except BrokenProcessPool as error:
                    raise CheckpointError(
                        "a worker was killed, perhaps for its memory; take more --parts or fewer --workers, and start "
                        "again: what is finished stays"
                    ) from error
                finally:
                    for future in left:
                        future.cancel()

            yield there
    finally:
        os.environ.pop(_THREADS) if threads is None else os.environ.update({_THREADS: threads})


def _end_with_the_parent() -> None:
    """A worker whose parent was killed would wait for tasks for ever."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
