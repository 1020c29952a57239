"""A load generator for `bench_service`, in a process of its own: `python -m benchmarks.load`, told by JSON on stdin.

Open loop: requests are due at Poisson times of a fixed rate, whatever the answers do, and each latency is counted from
when its request was due. So a server that stalls is charged for every request that had to wait meanwhile, sent or not,
which is what correcting for coordinated omission means. Closed loop: as many requests under way as there are
connections, each sent when the one before it was answered.
"""

import asyncio
import json
import random
import selectors
import sys
import time
from typing import Any


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection with one request under way at a time, read by no more than it takes to find its end."""

    def __init__(self) -> None:
        self._buffer = b""
        self._answered: asyncio.Future[int] | None = None
        self._transport: Any = None
        self.closed = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self._buffer) >= end + 4 + length and self._answered is not None:
            self._buffer = self._buffer[end + 4 + length :]
            answered, self._answered = self._answered, None
            answered.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(0)

    def send(self, request: bytes) -> asyncio.Future[int]:
        """The status of the answer; 0 where the connection broke."""
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answered


async def connect(port: int, n: int) -> list[Connection]:
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(n)]


async def open_loop(port: int, requests: list[bytes], rate: float, connections: int) -> dict[str, Any]:
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for connection in await connect(port, connections):
        free.put_nowait(connection)
    latencies: list[float] = []
    statuses: dict[int, int] = {}
    draw = random.Random(0)
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def one(request: bytes, due: float) -> None:
        connection = await free.get()
        status = await connection.send(request)
        latencies.append(time.perf_counter() - due)
        statuses[status] = statuses.get(status, 0) + 1
        free.put_nowait(connection)

    begin = due = time.perf_counter() + 0.05
    for request in requests:
        due += draw.expovariate(rate)
        ahead = due - time.perf_counter()
        if ahead > 0.0:
            await asyncio.sleep(ahead)
        task = loop.create_task(one(request, due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    while tasks:
        await asyncio.sleep(0.01)
    return {"latencies": latencies, "statuses": statuses, "seconds": time.perf_counter() - begin}


async def closed_loop(port: int, requests: list[bytes], connections: int) -> dict[str, Any]:
    waiting = iter(requests)
    latencies: list[float] = []
    statuses: dict[int, int] = {}

    async def one(connection: Connection) -> None:
        for request in waiting:
            start = time.perf_counter()
            status = await connection.send(request)
            latencies.append(time.perf_counter() - start)
            statuses[status] = statuses.get(status, 0) + 1

    start = time.perf_counter()
    await asyncio.gather(*map(one, await connect(port, connections)))
    return {"latencies": latencies, "statuses": statuses, "seconds": time.perf_counter() - start}


def main() -> None:
    """Reads {port, path, rate or null, connections, bodies: a file of one body a line, result: a file to write}."""
    task = json.loads(sys.stdin.readline())
    head = f"POST {task['path']} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
    with open(task["bodies"], "rb") as file:
        requests = [head.encode() + f"{len(body)}\r\n\r\n".encode() + body for body in file.read().splitlines()]
    # select() waits to the microsecond; epoll, the usual choice, to the millisecond, which would be counted.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        if task["rate"] is None:
            result = runner.run(closed_loop(task["port"], requests, task["connections"]))
        else:
            result = runner.run(open_loop(task["port"], requests, task["rate"], task["connections"]))
    with open(task["result"], "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
