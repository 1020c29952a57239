"""Judge the entries of a Redis stream, and add a verdict on each to another stream.

pip install 'onlineguard[redis]'
python examples/streams/from_redis.py redis://localhost:6379 engine.onlineguard

The id of the last entry is saved with the engine, so a loop that was killed goes on where its state ends.
"""

import asyncio
import sys
from pathlib import Path

import redis.asyncio

from onlineguard import Engine

FEATURES = ["load", "latency"]
SAVE_EVERY = 10_000  # events


async def judge(url: str, state: Path, last: str | None = None) -> None:
    """Judge entries such as `XADD readings * host web-1 load 0.5 latency 12`, for ever or up to the id `last`."""
    engine = Engine.load(state) if state.exists() else Engine(features=FEATURES)
    saved = engine.n_events
    async with redis.asyncio.from_url(url, decode_responses=True) as server:
        while engine.notes.get("id", "0") != last:
            found = await server.xread({"readings": engine.notes.get("id", "0")}, count=1_000, block=1_000)
            if not found:
                continue
            ids, entries = zip(*found[0][1], strict=True)  # of the one stream
            verdicts = await engine.aupdate([entry["host"] for entry in entries], list(entries))
            async with server.pipeline(transaction=False) as writing:
                for id_, entry, verdict in zip(ids, entries, verdicts, strict=True):
                    said = {"host": entry["host"], "score": verdict.score, "anomalous": int(verdict.anomalous)}
                    writing.xadd("verdicts", {"of": id_, **said}, maxlen=1_000_000)
                await writing.execute()
            engine.notes["id"] = ids[-1]
            if engine.n_events - saved >= SAVE_EVERY or ids[-1] == last:
                await asyncio.to_thread(engine.save, state)
                saved = engine.n_events


if __name__ == "__main__":
    asyncio.run(judge(sys.argv[1], Path(sys.argv[2])))
