"""Fair queues: clients take turns, so that each waits for little of every other client's work, however much there is.

A client has one queue for all its connections. What it sends and the parts of its requests wait there, first come first
served. In a round every queue is given `SLICE` seconds and has a turn: parts are begun until these are spent. A client
that has some left need not wait, so that alone it hardly ever does.

What is not spent is kept for later rounds, and what a large part takes beyond is missing in them, up to `KEPT` slices
either way. So a client that now and then sends four requests at a time is served at once, and one with large parts gets
no more of the time than one with small ones. Work that does not wait, as taking a connection, is charged to its client.
What runs after `Queue.turn` cannot be measured, and counts as one slice.

After a round with a turn that was used up the loop turns a few times before the next one. Requests of others that came
meanwhile are read, begun and answered in these.

Source: M. Shreedhar and G. Varghese, Efficient fair queuing using deficit round robin, SIGCOMM 1995. How long a part
takes is known only afterwards here, so that a turn may end in debt; and a queue that is empty keeps what it has, as
long as somebody holds it.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from time import perf_counter
from weakref import WeakValueDictionary

SLICE = 0.002  # seconds of a turn, which ends with the part that is under way
KEPT = 2  # slices; with none, 200 clicks a second waited 10 to 66 ms at their p99 beside a flood of connections
REST = 4  # turns of the loop after a round in which a turn was used up: to read, to begin, to go on and to send


class FairQueues:
    """The queues of all clients, for one event loop."""

    def __init__(self) -> None:
        self._queues: WeakValueDictionary[str, Queue] = WeakValueDictionary()
        self._waiting: list[Queue] = []
        self.round = 0  # its number
        self.spent = 0.0  # seconds of all parts; of one within another once
        self._rest = 0  # turns of the loop until the next round
        self._rested = -1  # the round after which there was a rest
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
        self.ask()

    def rest(self) -> None:
        """A turn was used up. There is one rest a round: clients that keep coming cannot put off the next for ever."""
        if self._rested != self.round:
            self._rested, self._rest = self.round, REST

    def ask(self) -> None:
        """Have a next round."""
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._have_round)

    def _have_round(self) -> None:
        self._due = False
        if self._rest:
            self._rest -= 1
            self.ask()
            return
        self.round += 1
        waiting, self._waiting = self._waiting, []
        for queue in waiting:
            queue.serve()


class Queue:
    """The work of one client that waits. Made by `FairQueues.of`."""

    def __init__(self, queues: FairQueues):
        self._queues = queues
        self._parts: deque[Callable[[], None]] = deque()
        self._round, self._left = queues.round, SLICE  # seconds that it has left in that round; negative: a debt
        self._serving = self._waits = False
        self.large = asyncio.Lock()  # of a request that takes much memory: of each client one at a time

    def put(self, begin: Callable[[], None], at_once: bool = True) -> None:
        """Call it in the client's turn: now, if that is not over and nothing waits, unless `at_once` is false."""
        self._parts.append(begin)
        if at_once and len(self._parts) == 1 and not self._serving and self._has_time():
            self.serve()
        elif not self._serving:
            self._wait()

    def charge(self, seconds: float) -> None:
        """Take so much of the client's time, for work that did not wait for its turn."""
        self._renew()
        self._left = max(self._left - seconds, -KEPT * SLICE)

    async def turn(self) -> None:
        """Return in the client's next turn. What ran before used one up, and so does what runs then."""
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def grant() -> None:
            if not granted.done():  # else who waited was cancelled
                granted.set_result(None)
                self._use_up()

        self._use_up()
        self.put(grant)
        await granted

    def serve(self) -> None:
        """Have a turn: begin parts until it ends."""
        self._serving, self._waits = True, False
        while self._parts and self._has_time():
            began, spent = perf_counter(), self._queues.spent
            try:
                self._parts.popleft()()
            except Exception as error:
                told = {"message": "a part of a client's work failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(told)
            within = self._queues.spent - spent  # parts of others, which begin a request of theirs in here
            mine = perf_counter() - began - within
            self._queues.spent += mine
            self.charge(mine)
            if self._left <= 0.0:
                self._queues.rest()
        self._serving = False
        self._queues.ask()
        if self._parts:
            self._wait()

    def _has_time(self) -> bool:
        """Whether the turn is not over."""
        self._renew()
        return self._left > 0.0

    def _renew(self) -> None:
        """Give the client the time of the rounds that have passed."""
        if self._round != self._queues.round:
            given = SLICE * (self._queues.round - self._round)
            self._round, self._left = self._queues.round, min(self._left + given, (1 + KEPT) * SLICE)

    def _use_up(self) -> None:
        if self._has_time():
            self._left = 0.0
        self._queues.rest()
        self._queues.ask()

    def _wait(self) -> None:
        if not self._waits:
            self._waits = True
            self._queues.wait(self)


QUEUE: ContextVar[Queue | None] = ContextVar("QUEUE", default=None)  # of the client whose request is answered
