"""A service of asyncio that judges large batches while it goes on answering.

python examples/streams/in_a_loop.py
"""

import asyncio
import json

import numpy as np

from onlineguard import Engine

engine = Engine(features=["load", "latency"])


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a JSON list of readings by the list of what is anomalous, and an empty line by how many were judged."""
    while line := await reader.readline():
        readings = json.loads(line) if line.strip() else None
        if readings is None:
            writer.write(b"%d\n" % engine.n_events)
            continue
        verdicts = await engine.aupdate([reading["host"] for reading in readings], readings)
        writer.write(json.dumps(verdicts.anomalous.tolist()).encode() + b"\n")
        await writer.drain()
    writer.close()


async def main() -> None:
    """Serve, send a few batches, and print what comes back."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0, limit=2**24)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), limit=2**24)
    rng, odd = np.random.default_rng(0), 0
    for _ in range(5):
        latencies = rng.normal(12.0, 3.0, 1_000)
        latencies[-1] = 90.0
        batch = [{"host": "web-1", "load": 0.5, "latency": latency} for latency in latencies]
        writer.write(json.dumps(batch).encode() + b"\n")
        odd += sum(json.loads(await reader.readline()))
    writer.write(b"\n")
    print(int(await reader.readline()), "events,", odd, "anomalous")
    writer.close()
    server.close()
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(main())
