"""Reading ahead: the next batch is read, in a thread of its own, while the caller works on the one before."""

import queue
import threading
from collections.abc import Generator, Iterable
from contextlib import suppress

GRACE = 1.0  # seconds that a reader gets to end; one that waits for a pipe is left behind, which holds up nothing


def read_ahead[T](batches: Iterable[T]) -> Generator[T]:
    """The batches, in their order, one of them ready while the caller works on another.

    What ends the reading before its end is raised here, after the last batch. Closing the generator ends the reading.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(1)
    closed = threading.Event()

    def read() -> None:
        failure: BaseException | None = None
        try:
            for batch in batches:
                if closed.is_set():
                    return
                ready.put((batch, None))
        except BaseException as error:  # whatever it is, it belongs to the caller
            failure = error
        if not closed.is_set():
            ready.put((None, failure))

    thread = threading.Thread(target=read, name="onlineguard reader", daemon=True)
    thread.start()
    try:
        while True:
            batch, failure = ready.get()
            if failure is not None:
                raise failure
            if batch is None:
                return
            yield batch
    finally:
        closed.set()
        with suppress(queue.Empty):
            ready.get_nowait()  # the reader may wait for this place, and asks whether all is closed before the next one
        thread.join(GRACE)
