"""The programs in `examples/streams`, against a Redis, a mock cluster of Kafka, and FastStream's brokers for tests."""

import asyncio
import importlib.util
import json
import threading
from contextlib import closing
from pathlib import Path

import confluent_kafka
import numpy as np
import pytest
import redis
from faststream.mqtt import TestMQTTBroker
from faststream.nats import TestNatsBroker

from onlineguard import Engine
from tests.support.mock_kafka import mocked
from tests.support.redis_server import serving

EXAMPLES = Path(__file__).parents[2] / "examples" / "streams"
N = 1_500


def program(name):
    """A program, imported from its file."""
    spec = importlib.util.spec_from_file_location(f"streams_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def readings():
    rng = np.random.default_rng(0)
    loads, latencies = rng.normal(0.5, 0.1, N), rng.normal(12.0, 3.0, N)
    latencies[-1] = 90.0
    return [
        {"host": f"web-{i % 2}", "load": load, "latency": latency}
        for i, (load, latency) in enumerate(zip(loads.tolist(), latencies.tolist(), strict=True))
    ]


def expected(events, target_rate=0.01):
    engine = Engine(features=["load", "latency"], target_rate=target_rate)
    verdicts = engine.update([event["host"] for event in events], events)
    assert verdicts.anomalous[-1]
    return [
        (event["host"], verdict.score if verdict.ready else None, verdict.anomalous)
        for event, verdict in zip(events, verdicts, strict=True)
    ]


def test_a_redis_stream_is_judged_and_goes_on_where_the_state_ends(tmp_path):
    judge, events, state = program("from_redis").judge, readings(), tmp_path / "engine"
    with serving(tmp_path) as port, closing(redis.Redis(port=port, decode_responses=True)) as server:
        url = f"redis://localhost:{port}"
        for part in (events[:700], events[700:]):  # by a process, and by another one
            last = [server.xadd("readings", event) for event in part][-1]
            asyncio.run(judge(url, state, last))
        found = [entry for _, entry in server.xrange("verdicts")]
    assert Engine.load(state).notes == {"id": last}
    told = [(entry["host"], float(entry["score"]), entry["anomalous"] == "1") for entry in found]
    ready = [each for each in expected(events) if each[1] is not None]
    assert told[-len(ready) :] == ready
    assert len(told) == N


@pytest.mark.slow  # librdkafka takes seconds to begin and to leave
def test_a_kafka_topic_is_judged_and_goes_on_where_the_state_ends(tmp_path):
    judge, events, state = program("from_kafka").judge, readings(), tmp_path / "engine"
    with mocked(1) as cluster:
        for topic in ("readings", "verdicts"):
            cluster.create(topic, 1)
        producer = confluent_kafka.Producer({"bootstrap.servers": cluster.servers})
        for end, part in ((700, events[:700]), (N, events[700:])):  # by a process, and by another one
            for event in part:
                producer.produce("readings", json.dumps(event))
            producer.flush()
            judged = judge(cluster.servers, state)
            while next(judged) < end:
                pass
            judged.close()
        found = consumed(cluster.servers, "verdicts", N)
    assert Engine.load(state).notes == {"offsets": {"0": N}}
    assert [(each["host"], each["score"], each["anomalous"]) for each in found] == expected(events)


def consumed(servers, topic, n):
    with closing(confluent_kafka.Consumer({"bootstrap.servers": servers, "group.id": "test"})) as consumer:
        consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
        found = []
        while len(found) < n:
            found += [json.loads(record.value()) for record in consumer.consume(n, timeout=1.0)]
        return found


def test_readings_over_nats_are_judged_in_their_order():
    app, events = program("from_nats"), readings()[-600:]

    async def main():
        async with TestNatsBroker(app.broker) as broker:
            for event in events:
                await broker.publish(event, f"readings.{event['host']}")

    said = []

    @app.broker.subscriber("verdicts")
    async def hear(verdict: dict) -> None:
        said.append((verdict["host"], verdict["score"], verdict["anomalous"]))

    asyncio.run(main())
    assert said == expected(events, 0.001)


def test_a_sensor_over_mqtt_is_heard_of_when_it_is_odd():
    app = program("from_mqtt")
    rng, said = np.random.default_rng(0), []

    @app.broker.subscriber("alarms")
    async def hear(alarm: dict) -> None:
        said.append(alarm)

    async def main():
        async with TestMQTTBroker(app.broker) as broker:
            for celsius, humidity in rng.normal([21.5, 40.0], [0.5, 2.0], (1_000, 2)).tolist():
                reading = {"sensor": "attic", "celsius": celsius, "humidity": humidity}
                await broker.publish(reading, "sensors/attic")
            said.clear()
            await broker.publish({"sensor": "attic", "celsius": 80.0, "humidity": 40.0}, "sensors/attic")

    asyncio.run(main())
    assert [alarm["sensor"] for alarm in said] == ["attic"]
    assert said[0]["p_value"] < 0.001


def test_a_loop_judges_what_it_is_sent(capsys):
    asyncio.run(program("in_a_loop").main())
    events, _, anomalous, _ = capsys.readouterr().out.split()
    assert events == "5000"
    assert 5 <= int(anomalous) < 150  # the last reading of each batch is odd


def test_a_loop_answers_while_a_batch_is_judged():
    app, begun, released = program("in_a_loop"), threading.Event(), threading.Event()

    class Slow(Engine):
        """Begins a batch, and goes on when it is released."""

        def update(self, slices, X, y=None):
            begun.set()
            assert released.wait(60.0)
            return super().update(slices, X, y)

    async def main():
        app.engine = Slow(features=["load", "latency"])
        async with await asyncio.start_server(app.answer, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            (judged, sends), (told, asks) = [await asyncio.open_connection(*address) for _ in range(2)]
            sends.write(json.dumps(readings()[:100]).encode() + b"\n")
            while not begun.is_set():
                await asyncio.sleep(0.001)
            asks.write(b"\n")
            meanwhile = await told.readline()
            released.set()
            verdicts = json.loads(await judged.readline())
            for each in (sends, asks):
                each.close()
        return meanwhile, verdicts

    assert asyncio.run(main()) == (b"0\n", [False] * 100)
