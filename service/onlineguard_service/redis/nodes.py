"""The nodes of a Redis Cluster, by the keys that they hold: each command is sent to the node of its key.

Which node holds which of the 16,384 slots is asked once. It is asked again when a node says that a slot has moved, or
cannot be reached: its replica may hold them by then. Each time another node is asked first, since one that is cut off
from the rest does not know. A command that was answered so was not carried out, and is sent again; one that got no
answer is not.
"""

import asyncio
from binascii import crc_hqx
from collections.abc import Sequence
from typing import Any

import hiredis

from onlineguard_service.redis.wire import Wire

SLOTS = 16_384
TRIES = 4  # that a command is sent, while slots move
PAUSE = 0.02  # seconds before it is sent again
_NOT_CARRIED_OUT = ("MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN")


def slot_of(key: bytes) -> int:
    """The slot of a key: that of what stands between its first braces, if it has any.

    >>> slot_of(b"123456789"), slot_of(b"{user1000}.following") == slot_of(b"user1000")
    (12739, True)
    """
    begin = key.find(b"{") + 1
    end = key.find(b"}", begin)
    return crc_hqx(key[begin:end] if begin and end > begin else key, 0) % SLOTS


class Nodes:
    """The cluster that the Redis at a URL is a node of, or that Redis by itself; see `Wire` for the arguments."""

    def __init__(self, url: str, wait: float, replicas: int = 0):
        self._url, self._wait, self._replicas = url, wait, replicas
        self._asks = 0  # for slots
        self.first = Wire(url, wait)
        self._wires: dict[tuple[str, int], Wire] = {}
        self._of: list[Wire] | None = None  # by slot

    async def are_a_cluster(self) -> bool:
        """Whether the Redis at the URL is a node of one. Raises as `Wire.execute`, and what Redis answers."""
        (told,) = await self.first.execute([("INFO", "cluster")])
        if isinstance(told, Exception):
            raise told
        return b"cluster_enabled:1" in told

    async def answer(self, cluster: bool) -> None:
        """Return if all nodes that hold slots answer, or the Redis at the URL. Raises as `are_a_cluster` otherwise."""
        nodes = {*await self._asked()} if cluster else {self.first}
        for (told,) in await asyncio.gather(*(node.execute([("PING",)], self._replicas) for node in nodes)):
            if isinstance(told, Exception):
                raise told

    async def execute(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """See `Wire.execute`; all keys of a command are in one slot."""
        answers: list[Any] = [None] * len(commands)
        left = list(range(len(commands)))
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(PAUSE)
            of = self._of or await self._asked()
            groups: dict[Wire, list[int]] = {}
            for i in left:
                groups.setdefault(of[slot_of(_key_of(commands[i]))], []).append(i)
            sent = (wire.execute([commands[i] for i in group], self._replicas) for wire, group in groups.items())
            for group, got in zip(groups.values(), await asyncio.gather(*sent, return_exceptions=True), strict=True):
                if isinstance(got, BaseException):
                    self._of = None
                    raise got
                for i, answer in zip(group, got, strict=True):
                    answers[i] = answer
            left = [i for i in left if _not_carried_out(answers[i])]
            if not left:
                break
            for i in left:
                if str(answers[i]).startswith("ASK "):  # of a slot that is on its way
                    node = self._at(str(answers[i]))
                    _, answers[i] = await node.execute([("ASKING",), commands[i]], self._replicas)
            left = [i for i in left if _not_carried_out(answers[i])]
            self._of = None
            if not left:
                break
        return answers

    async def close(self) -> None:
        """See `Wire.close`."""
        for wire in (self.first, *self._wires.values()):
            await wire.close()

    async def _asked(self) -> list[Wire]:
        """Who holds which slot, as a node tells that can be reached. Raises as `Wire.execute`."""
        failed: Exception | None = None
        nodes = [self.first, *self._wires.values()]
        first, self._asks = self._asks % len(nodes), self._asks + 1
        for node in nodes[first:] + nodes[:first]:
            try:
                (told,) = await node.execute([("CLUSTER", "SLOTS")])
            except OSError as error:
                failed = error
                continue
            if isinstance(told, Exception):
                raise told
            held: list[Wire | None] = [None] * SLOTS
            for begin, end, (host, port, *_), *_ in told:
                held[begin : end + 1] = [self._wire(host.decode(), port)] * (end + 1 - begin)
            of = [wire for wire in held if wire is not None]
            if len(of) < SLOTS:
                raise ConnectionError(f"no node of the Redis Cluster holds slot {held.index(None)}")
            self._of = of
            return of
        raise failed or ConnectionError("no node of the Redis Cluster can be reached")

    def _at(self, answer: str) -> Wire:
        """The node that an answer such as `ASK 12 10.0.0.7:6379` names."""
        host, _, port = answer.split()[2].rpartition(":")
        return self._wire(host, int(port))

    def _wire(self, host: str, port: int) -> Wire:
        if (host, port) not in self._wires:
            self._wires[host, port] = Wire(self._url, self._wait, (host, port))
        return self._wires[host, port]


def _key_of(command: tuple[Any, ...]) -> bytes:
    key: bytes = command[3 if command[0] in ("EVAL", "EVALSHA") else 1]
    return key


def _not_carried_out(answer: Any) -> bool:
    return isinstance(answer, hiredis.ReplyError) and str(answer).startswith(_NOT_CARRIED_OUT)
