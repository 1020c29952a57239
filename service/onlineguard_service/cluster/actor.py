"""A worker of shards inside an actor of Ray.

It is a member of the log's group, as a worker that was started by hand is: the group gives it partitions, their
snapshots give it their shards, and who was replaced is refused. So nothing of what is learned passes through Ray, and
nothing depends on what Ray knows: it starts the process again somewhere, and that one joins the group.

- What an operator has to mend, e.g. a log that is away, is told as the reason and tried again.
- What nobody expected ends the process, and Ray starts another: the state of this one is not to be trusted.
"""

import logging
import os
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import ray

from onlineguard.errors import InvalidArgument, OnlineguardError
from onlineguard_service.config import Settings
from onlineguard_service.environment import compute_in_one_thread

AGAIN = 5.0  # seconds until what failed is tried again

log = logging.getLogger("onlineguard.worker")


class Asked(NamedTuple):
    """What actors are started with. It holds no module that imports JAX, so that it can be sent before one does."""

    options: Settings  # of which those count that decide what shards learn
    flags: Mapping[str, Any]  # the other fields of `ShardSettings`
    resources: Mapping[str, Any]  # of one actor, as Ray's `options` takes them


class Told(NamedTuple):
    """What an actor says of itself."""

    pid: int
    node: str  # Ray's id of it
    address: str  # of the node
    restarts: int
    partitions: tuple[int, ...]  # whose shards go on here
    lag: float  # seconds; the largest of these partitions
    rate: float  # records a second
    reason: str | None  # why it is not ready
    metrics: str | None = None  # where it serves them, as host:port


class ShardActor:
    """See this module. Ray makes it in a process of its own, and again in another one when that is gone.

    number: of this actor in its deployment. Its metrics are at `metrics_port` and so many more, or at a free one for 0.
    """

    def __init__(self, asked: Asked, number: int = 0):
        compute_in_one_thread()
        from onlineguard_service import logs

        logs.configure(asked.options.log_level)
        self._asked, self._number, self._stop = asked, number, threading.Event()
        self._owner, self._port, self._reason = None, None, "it is starting"
        self._thread = threading.Thread(target=self._work, name="shards")
        self._thread.start()

    def told(self) -> Told:
        """How it is."""
        context, owner = ray.get_runtime_context(), self._owner
        partitions, lag, rate, reason, port = (), 0.0, 0.0, self._reason, self._port
        if owner is not None:
            reason = "; ".join([*owner.reasons(), *filter(None, [owner.stuck()])]) or None
            partitions = tuple(sorted(at for at, held in owner.held.copy().items() if held.shard is not None))
            lag, rate = max(owner.behind.lags.values(), default=0.0), owner.behind.rate
        node, address = context.get_node_id(), ray.util.get_node_ip_address()
        metrics = None if port is None else f"{address}:{port}"
        return Told(os.getpid(), node, address, _restarts(), partitions, lag, rate, reason, metrics)

    def asked(self) -> Asked:
        """What it was started with, so that others like it can be."""
        return self._asked

    def stop(self) -> None:
        """Return when its shards have left snapshots and its partitions are free."""
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        from onlineguard_service.recovery import options_of
        from onlineguard_service.shards.running import ShardSettings, owning

        while not self._stop.is_set():
            try:
                _find_gpus(self._asked.resources.get("num_gpus", 0))
                flags = {name: value for name, value in self._asked.flags.items() if name != "counted"}
                if base := flags.get("metrics_port"):
                    flags["metrics_port"] = base + self._number
                chosen = options_of(self._asked.options, counting="counted" not in self._asked.flags)
                settings = ShardSettings(options=chosen, **flags)
                with owning(settings, self._stop) as (owner, port):
                    self._owner, self._port, self._reason = owner, port, None
                    owner.run(self._stop)
            except (OnlineguardError, OSError) as error:
                self._reason = _told_of(error)
                log.error("it is tried again in %g s: %s", AGAIN, self._reason)
            except BaseException:
                log.exception("this process ends, and Ray starts another")
                self._stop.wait(AGAIN)  # not to start and end without pause
                os._exit(1)
            finally:
                self._owner = self._port = None
            self._stop.wait(AGAIN)


def _find_gpus(asked: float) -> None:
    """Raises InvalidArgument where Ray reserved a GPU for this actor, and JAX would compute on the CPU."""
    if not asked:
        return
    from onlineguard.engine.device import accelerator
    from onlineguard.plugins import devices

    found = accelerator()
    if found is None or found.platform != "gpu":
        given, node = ", ".join(map(str, ray.get_gpu_ids())), ray.util.get_node_ip_address()
        kinds = ", ".join(sorted({each.platform for each in devices()}))
        problem = (
            f"is {asked:g}, and Ray gave GPU {given} of node {node}, but JAX finds only: {kinds}; install a driver and "
            "'onlineguard[gpu]' there, or start without --gpus"
        )
        raise InvalidArgument("gpus", problem)


def _told_of(error: Exception) -> str:
    if isinstance(error, InvalidArgument) and error.argument is not None:
        flag = {"source": "from"}.get(error.argument, error.argument.replace("_", "-"))
        return f"--{flag} {error.problem}"
    return f"{error}"


def _restarts() -> int:
    """How often Ray has started this actor again. It is asked as Ray asks itself: its own API needs its dashboard."""
    from ray._private.state import actors

    about: Any = actors(ray.get_runtime_context().get_actor_id())
    return int(about["NumRestarts"])
