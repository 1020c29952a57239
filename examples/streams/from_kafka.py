"""Judge the records of a Kafka topic, and produce a verdict on each.

pip install 'onlineguard[kafka]'
python examples/streams/from_kafka.py localhost:9092 engine.onlineguard

One process reads all partitions; docs/scale.md has what several share. The offsets are saved with the engine, so a
process that was killed goes on where its state ends.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

from onlineguard import Engine

FEATURES = ["load", "latency"]
SAVE_EVERY = 10_000  # events


def judge(servers: str, state: Path, topic: str = "readings", to: str = "verdicts") -> Iterator[int]:
    """Judge records such as {"host": "web-1", "load": 0.5, "latency": 12.0}; how many events were judged so far."""
    engine = Engine.load(state) if state.exists() else Engine(features=FEATURES)
    saved = engine.n_events
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "onlineguard", "enable.auto.commit": False})
    producer = Producer({"bootstrap.servers": servers})
    partitions = consumer.list_topics(topic).topics[topic].partitions
    offsets = engine.notes.setdefault("offsets", {})  # by partition, as text: notes are JSON
    consumer.assign([TopicPartition(topic, number, offsets.get(str(number), 0)) for number in partitions])
    try:
        while True:
            records = [record for record in consumer.consume(1_000, timeout=1.0) if record.error() is None]
            events = [json.loads(record.value()) for record in records]
            verdicts = engine.update([event["host"] for event in events], events)
            for record, event, verdict in zip(records, events, verdicts, strict=True):
                said = {
                    "host": event["host"],
                    "score": verdict.score if verdict.ready else None,
                    "anomalous": verdict.anomalous,
                }
                producer.produce(to, json.dumps(said), key=record.key())
                offsets[str(record.partition())] = record.offset() + 1
            producer.flush()
            if engine.n_events - saved >= SAVE_EVERY:
                engine.save(state)
                saved = engine.n_events
            yield engine.n_events
    finally:
        engine.save(state)
        consumer.close()


if __name__ == "__main__":
    for n_events in judge(sys.argv[1], Path(sys.argv[2])):
        print(f"\r{n_events:,} events", end="", flush=True)
