"""A load generator for `bench_service`, in a process of its own: `python -m benchmarks.load`, told by JSON on stdin.

Open loop: requests are due at Poisson times of a fixed rate, whatever the answers do, and each latency is counted from
when its request was due. So a server that stalls is charged for every request that had to wait meanwhile, sent or not,
which is what correcting for coordinated omission means. Closed loop: as many requests under way as there are
connections, each sent when the one before it was answered.
"""

import gc
import json
import random
import select
import socket
import ssl
import sys
import time
from collections import deque
from itertools import accumulate
from typing import Any

WAIT = 1.0  # seconds to wait for any answer before the time is looked at again


class Connection:
    """One HTTP/1.1 connection with one request under way at a time, read by no more than it takes to find its end.

    authority: a file of the certificate of who signs the server's; with one it speaks TLS, else not.
    """

    def __init__(self, port: int, address: str = "127.0.0.1", authority: str | None = None):
        self.socket = socket.create_connection(("127.0.0.1", port), source_address=(address, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if authority is not None:
            context = ssl.create_default_context(cafile=authority)
            self.socket = context.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self.due = 0.0  # of the request under way
        self._buffer = b""

    def fileno(self) -> int:
        return self.socket.fileno()

    def read(self) -> int | None:
        """The status of the answer, 0 where the connection broke; None where more of it has to come."""
        try:
            data = self.socket.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            return 0
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        whole = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self._buffer) < whole:
            return None
        self._buffer = self._buffer[whole:]
        return int(head[9:12])


def drive(
    port: int, requests: list[bytes], rate: float | None, connections: int, authority: str | None = None
) -> dict[str, Any]:
    """Send all requests; at a rate, or without one as soon as there is a connection that waits for no answer.

    Plain sockets and select(): what the generator takes of the processor, the server beside it lacks; and select()
    waits to the microsecond, epoll to the millisecond.
    """
    draw = random.Random(0)
    free = deque(Connection(port, authority=authority) for _ in range(connections))
    busy: list[Connection] = []
    latencies: list[float] = []
    statuses: dict[int, int] = {}
    begin = time.perf_counter() + 0.05
    steps = (draw.expovariate(rate) for _ in requests) if rate else (0.0 for _ in requests)
    waiting = deque(zip(accumulate(steps, initial=begin), requests, strict=False))
    while waiting or busy:
        now = time.perf_counter()
        while waiting and free and waiting[0][0] <= now:
            due, request = waiting.popleft()
            connection = free.popleft()
            connection.due = due if rate else now
            connection.socket.sendall(request)
            busy.append(connection)
            now = time.perf_counter()
        pause = max(waiting[0][0] - now, 0.0) if waiting and free else WAIT
        for connection in select.select(busy, (), (), pause)[0]:
            status = connection.read()
            if status is None:
                continue
            latencies.append(time.perf_counter() - connection.due)
            statuses[status] = statuses.get(status, 0) + 1
            busy.remove(connection)
            if status:
                free.append(connection)
            elif not busy and not free:
                sys.exit("the server closed every connection")
    return {"latencies": latencies, "statuses": statuses, "seconds": time.perf_counter() - begin}


def main() -> None:
    """Reads {port, path, rate or null, connections, bodies: a file of one body a line, result: a file to write}.

    Also authority, where it is to speak TLS: the certificate of who signs the server's.
    """
    task = json.loads(sys.stdin.readline())
    head = f"POST {task['path']} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
    with open(task["bodies"], "rb") as file:
        requests = [head.encode() + f"{len(body)}\r\n\r\n".encode() + body for body in file.read().splitlines()]
    gc.freeze()
    gc.disable()  # nothing here makes cycles, and a collection would be counted
    result = drive(task["port"], requests, task["rate"], task["connections"], task.get("authority"))
    with open(task["result"], "w") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
