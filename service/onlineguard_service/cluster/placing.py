"""Actors of one deployment on a cluster of Ray: start them, see how they are, have more or fewer, stop them.

An actor has a name, `shards-0` and so on, in the namespace of the deployment, and lives until it is stopped. Ray's own
table of actors is the only list of them. Each asks for CPUs and maybe GPUs: Ray places it where they are free, and its
autoscaler, where there is one, adds a node for an actor that finds none.
"""

import logging
import os
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from onlineguard.errors import Conflict, InvalidArgument, OnlineguardError

# Read by Ray as it is imported. Nothing is sent out; and actors run in the Python of their node, though the command was
# started by `uv run`: Ray would pack the folder it was started in, and have every actor make an environment of that.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

import ray
import ray.exceptions

from onlineguard_service.cluster.actor import Asked, ShardActor, Told

PREFIX = "shards-"
PATIENCE = 5.0  # seconds for an actor to say how it is
LEAVING = 120.0  # seconds for an actor to leave snapshots, after which it is ended without
LOOK_EVERY = 0.5  # seconds between two looks at actors that are starting


class Actor(NamedTuple):
    """An actor of the deployment, and what it told; None where it does not answer now."""

    name: str
    told: Told | None

    @property
    def reason(self) -> str | None:
        """Why it is not ready; None: it is."""
        if self.told is None:
            return "it does not answer: it is restarting, or waits for a node with free CPUs (GPUs)"
        return self.told.reason


@contextmanager
def connected(address: str | None, name: str) -> Generator[None]:
    """With the cluster at an address, and the namespace of a deployment there.

    address: `host:6379`, `ray://host:10001`, or `auto`; None: RAY_ADDRESS, else the cluster that this machine is in.
    Raises OnlineguardError where there is none.
    """
    where = address or os.environ.get("RAY_ADDRESS") or "auto"
    try:
        ray.init(where, namespace=name, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise OnlineguardError(
            f"no cluster of Ray is found at {where}: {first}. Start one, e.g. `RAY_USAGE_STATS_ENABLED=0 ray start "
            "--head`, or give its --address"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def start(n: int, asked: Asked) -> None:
    """Have n actors. Raises Conflict where the deployment has some already."""
    if names := _names():
        raise Conflict(
            f"{len(names)} actors of this deployment are there; `onlineguard cluster rescale` changes their number, "
            "and --name begins another deployment"
        )
    _add(_at_least_one(n), asked)


def rescale(n: int) -> None:
    """Have n actors: more of the same, or those of the highest numbers leave. Raises Conflict where there are none."""
    names = [_name(i) for i in range(_at_least_one(n))]
    _add(n, _asked(_there()))
    _stop([name for name in _names() if name not in names])


def stop() -> None:
    """Have every actor leave snapshots, and end. Raises Conflict where there are none."""
    _stop(_there())


def status() -> list[Actor]:
    """How each actor is, in the order of their numbers."""
    return [Actor(name, told) for name, told in _answers(_names(), "told").items()]


def wait(seconds: float) -> list[Actor]:
    """How each actor is as soon as all are ready, and else after so many seconds."""
    until = time.monotonic() + seconds
    while True:
        found = status()
        if all(actor.reason is None for actor in found) or time.monotonic() >= until:
            return found
        time.sleep(LOOK_EVERY)


def _at_least_one(n: int) -> int:
    if n < 1:
        raise InvalidArgument("--shards", f"is {n}; it must be at least 1. `onlineguard cluster stop` ends all")
    return n


def _names() -> list[str]:
    """Of the actors that are there, dead ones apart."""
    names = [name for name in ray.util.list_named_actors() if name.startswith(PREFIX)]
    return sorted(names, key=lambda name: int(name.removeprefix(PREFIX)))


def _name(i: int) -> str:
    return f"{PREFIX}{i}"


def _there() -> list[str]:
    if names := _names():
        return names
    raise Conflict("no actor of this deployment is there; `onlineguard cluster start` starts them, --name names it")


def _add(n: int, asked: Asked) -> None:
    kind: Any = ray.remote(ShardActor)
    for i in range(n):
        kind.options(
            name=_name(i),
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            scheduling_strategy="SPREAD",
            **asked.resources,
        ).remote(asked, i)


def _asked(names: Sequence[str]) -> Asked:
    for asked in _answers(names, "asked").values():
        if asked is not None:
            return asked
    raise Conflict("no actor says what it was started with, since none answers now; see `onlineguard cluster status`")


def _stop(names: Sequence[str]) -> None:
    _answers(names, "stop", LEAVING)
    for name in names:
        try:
            ray.kill(ray.get_actor(name), no_restart=True)
        except ValueError:  # it is gone
            pass


def _answers(names: Sequence[str], method: str, seconds: float = PATIENCE) -> Mapping[str, Any]:
    """What each actor answers, asked all at once; None from one that does not answer in time."""
    calls = {}
    for name in names:
        try:
            calls[name] = getattr(ray.get_actor(name), method).remote()
        except ValueError:  # it is gone since the names were read
            calls[name] = None
    if waited := [call for call in calls.values() if call is not None]:
        ray.wait(waited, num_returns=len(waited), timeout=seconds)
    return {name: None if call is None else _answer(call) for name, call in calls.items()}


def _answer(call: Any) -> Any:
    try:
        return ray.get(call, timeout=0.01)
    except (ray.exceptions.GetTimeoutError, ray.exceptions.RayActorError):
        return None
