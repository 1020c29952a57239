"""Judge readings that arrive over NATS, and publish a verdict on each, by FastStream.

pip install onlineguard 'faststream[nats,cli]'
faststream run examples.streams.from_nats:app
"""

from faststream import FastStream
from faststream.nats import NatsBroker

from onlineguard import Engine

engine = Engine(features=["load", "latency"], target_rate=0.001)
broker = NatsBroker("nats://localhost:4222")
app = FastStream(broker)


@broker.subscriber("readings.*")
@broker.publisher("verdicts")
async def judge(reading: dict[str, str | float]) -> dict[str, str | float | bool | None]:
    """The verdict on a reading such as {"host": "web-1", "load": 0.5, "latency": 12.0}."""
    (verdict,) = await engine.aupdate([reading["host"]], [reading])
    score = verdict.score if verdict.ready else None
    return {"host": reading["host"], "score": score, "anomalous": verdict.anomalous}
