"""Fair queues: clients take turns, so that each waits for one part of every other client's work at most.

A client has one queue for all its connections. What it sends and the parts of its requests wait there, first come first
served. In a round every queue gets a turn: parts are begun until they have taken `SLICE`, so that a large part has a
turn to itself. A client whose turn is not over need not wait, so that alone it hardly ever does.

After a round with a turn that was used up the loop turns a few times before the next one. Requests of others that came
meanwhile are read, begun and answered in these.

Source: M. Shreedhar and G. Varghese, Efficient fair queuing using deficit round robin, SIGCOMM 1995. There is no
deficit here: how long a part takes is known only afterwards.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from time import perf_counter
from weakref import WeakValueDictionary

SLICE = 0.002  # seconds, after which a turn ends with the part that is under way
REST = 4  # turns of the loop after a round in which a turn was used up: to read, to begin, to go on and to send


class FairQueues:
    """The queues of all clients, for one event loop."""

    def __init__(self) -> None:
        self._queues: WeakValueDictionary[str, Queue] = WeakValueDictionary()
        self._waiting: list[Queue] = []
        self._served: list[Queue] = []  # that have had some of their turn in this round
        self._rest = 0  # turns of the loop until the next round
        self._due = False  # whether the next round has been asked for

    def of(self, client: str) -> "Queue":
        """The queue of a client, which lives as long as somebody holds it."""
        queue = self._queues.get(client)
        if queue is None:
            queue = self._queues[client] = Queue(self)
        return queue

    def wait(self, queue: "Queue") -> None:
        """Serve the queue in the next round."""
        self._waiting.append(queue)
        self._ask()

    def serve(self, queue: "Queue") -> None:
        """Begin parts of a queue until its turn ends."""
        self._begin(queue)
        while queue.parts and queue.used < SLICE:
            began = perf_counter()
            try:
                queue.parts.popleft()()
            except Exception as error:
                told = {"message": "a part of a client's work failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(told)
            queue.used += perf_counter() - began
        if queue.used >= SLICE:
            self._rest = REST
        self._ask()

    def use_up(self, queue: "Queue") -> None:
        """End the turn of a queue."""
        self._begin(queue)
        queue.used, self._rest = SLICE, REST
        self._ask()

    def _begin(self, queue: "Queue") -> None:
        if not queue.used:
            self._served.append(queue)

    def _ask(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._round)

    def _round(self) -> None:
        self._due = False
        if self._rest:
            self._rest -= 1
            self._ask()
            return
        for queue in self._served:
            queue.used = 0.0
        self._served.clear()
        waiting, self._waiting = self._waiting, []
        for queue in waiting:
            queue.serve()


class Queue:
    """The work of one client that waits. Made by `FairQueues.of`."""

    def __init__(self, queues: FairQueues):
        self._queues = queues
        self.parts: deque[Callable[[], None]] = deque()
        self.used = 0.0  # seconds of the turn in this round
        self._serving = self._waits = False
        self.large = asyncio.Lock()  # of a request that takes much memory: of each client one at a time

    def put(self, begin: Callable[[], None], at_once: bool = True) -> None:
        """Call it in the client's turn: now, if that is not over and nothing waits, unless `at_once` is false."""
        self.parts.append(begin)
        if at_once and len(self.parts) == 1 and self.used < SLICE and not self._serving:
            self.serve()
        elif not self._serving:
            self._wait()

    async def turn(self) -> None:
        """Return in the client's next turn. What ran before used one up, and so does what runs then."""
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def grant() -> None:
            if not granted.done():  # else who waited was cancelled
                granted.set_result(None)
                self.used = SLICE

        self._queues.use_up(self)
        self.put(grant)
        await granted

    def serve(self) -> None:
        """Have a turn."""
        self._serving, self._waits = True, False
        self._queues.serve(self)
        self._serving = False
        if self.parts:
            self._wait()

    def _wait(self) -> None:
        if not self._waits:
            self._waits = True
            self._queues.wait(self)


QUEUE: ContextVar[Queue | None] = ContextVar("QUEUE", default=None)  # of the client whose request is answered
