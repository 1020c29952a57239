"""A world in which only a seed decides: its time, its chance, and the order in which its processes go on.

A process is a greenlet, or several, which run in this one thread. One gives way where it waits: for the log, for a
store, for a timer. Each time something goes on is a *step*. Between two steps nothing else happens, and of the next
step the seed decides when it comes. So a run is repeated by its seed, to the last bit.

Source: the method is that of FoundationDB: Zhou et al., "FoundationDB: A Distributed Unbundled Transactional Key Value
Store", 2021, section 4.
"""

import random
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from heapq import heappop, heappush
from typing import Any

from greenlet import getcurrent, greenlet

TRACED = 40  # the last events that are told of a law that was broken


class Broken(BaseException):
    """A law does not hold. No `except Exception` of what is tested takes it for a fault."""

    def __init__(self, law: str, what: str):
        super().__init__(f"{law}: {what}")
        self.law = law


class Killed(BaseException):
    """The process is killed where it waits."""


class World:
    """See this module."""

    def __init__(self, seed: int):
        self.chance = random.Random(seed)
        self.now = 0.0  # seconds since it began
        self.step = 0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._n = 0  # things that were due at one time go on in the order in which they were asked for
        self._told: deque[tuple[int, float, str]] = deque(maxlen=TRACED)
        self.main = getcurrent()

    def at(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something after so many seconds."""
        self._n += 1
        heappush(self._due, (self.now + seconds, self._n, call))

    def go_on(self) -> None:
        """One step."""
        self.now, _, call = heappop(self._due)
        self.step += 1
        call()

    def happens(self, share: float) -> bool:
        """True by chance."""
        return share > 0.0 and self.chance.random() < share

    def delay(self, mean: float) -> float:
        """Seconds, most of them near the mean, and a few much longer."""
        return self.chance.expovariate(1.0 / mean) * (30.0 if self.happens(0.003) else 1.0)

    def tell(self, what: str) -> None:
        """Note an event, for the trace."""
        self._told.append((self.step, self.now, what))

    def trace(self) -> str:
        """The last events."""
        return "\n".join(f"  step {step}, {now:.3f} s: {what}" for step, now, what in self._told)


class Process:
    """A process, its threads, and what may befall it."""

    def __init__(self, world: World, name: str, slow: float = 1.0):
        self.world, self.name, self.slow = world, name, slow
        self.dead = False
        self.frozen = 0.0  # until when it stands still
        self.stop = Stop(self)
        self._tasks: list[greenlet] = []

    def run(self, call: Callable[[], Any]) -> None:
        """Have a thread of it run something."""

        def task() -> None:
            try:
                call()
            except Killed:
                pass
            except Exception as error:
                raise Broken("workers live on", f"{self.name} ended by {error!r}") from error

        one = greenlet(task, parent=self.world.main)
        self._tasks = [*(each for each in self._tasks if not each.dead), one]
        self.world.at(0.0, lambda: self._resume(one))

    def wait(self, seconds: float) -> None:
        """Give way for so many seconds. Here is where a process is killed, or stands still for long."""
        if self.dead:
            raise Killed
        one = getcurrent()
        self.world.at(seconds * self.slow, lambda: self._resume(one))
        self.world.main.switch()
        if self.dead:
            raise Killed

    def kill(self) -> None:
        """End it as SIGKILL does: it does nothing more."""
        self.dead = True
        for one in self._tasks:
            if one and not one.dead:
                one.throw(Killed)

    def freeze(self, seconds: float) -> None:
        """Let it stand still for so long, and then go on as if nothing had been."""
        self.frozen = self.world.now + seconds

    @property
    def ended(self) -> bool:
        """Whether all its threads have."""
        return self.dead or all(one.dead for one in self._tasks)

    def _resume(self, one: greenlet) -> None:
        if self.dead or one.dead:
            return
        if self.world.now < self.frozen:
            self.world.at(self.frozen - self.world.now, lambda: self._resume(one))
        else:
            one.switch()


class Stop:
    """In place of `threading.Event`."""

    def __init__(self, process: Process):
        self._process, self._set = process, False

    def set(self) -> None:
        """Tell the process to stop."""
        self._set = True

    def is_set(self) -> bool:
        """Whether it was told."""
        return self._set

    def wait(self, seconds: float) -> bool:
        """As that of an event; woken by the second."""
        end = self._process.world.now + seconds
        while not self._set and self._process.world.now < end:
            self._process.wait(min(1.0, seconds))
        return self._set


class Thread(Executor):
    """In place of a pool of one thread: what is submitted goes on beside the process."""

    def __init__(self, process: Process):
        self._process = process

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See Executor."""
        future = Waited(self._process)

        def run() -> None:
            try:
                future.set_result(call(*args, **kwargs))
            except Exception as error:
                future.set_exception(error)

        self._process.run(run)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See Executor."""


class Waited(Future[Any]):
    """A future that gives way until it is done."""

    def __init__(self, process: Process):
        super().__init__()
        self._process = process

    def result(self, timeout: float | None = None) -> Any:
        """See Future."""
        while not self.done():
            self._process.wait(0.01)
        return super().result(0.0)
