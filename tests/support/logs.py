"""The partitioned logs, as tests of what holds for all of them use them."""

import os
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from onlineguard_service.partitions.kafka import KafkaMember
from onlineguard_service.partitions.kafka_writer import KafkaWriter
from onlineguard_service.partitions.log import NOTHING, Done, Member, Output, Owned, Record, Turn, Writer
from onlineguard_service.partitions.memory import MemoryLog
from onlineguard_service.partitions.redis_names import key
from onlineguard_service.partitions.redis_streams import RedisMember
from onlineguard_service.partitions.redis_writer import RedisWriter
from onlineguard_service.redis.patient import PatientRedis

from tests.support.mock_kafka import mocked
from tests.support.redis_server import serving

PARTITIONS = 4
PATIENCE = 60.0  # seconds that a test waits for what must come
REAL = os.environ.get("ONLINEGUARD_KAFKA", "")  # brokers to test against, e.g. "localhost:9092"
PROTOCOL = os.environ.get("ONLINEGUARD_KAFKA_PROTOCOL", "classic")  # of their groups; "consumer" is that of KIP-848


class Kept(NamedTuple):
    """An output, as whoever reads it finds it."""

    partition: int
    offset: int
    number: int
    to: str
    key: bytes
    value: bytes


class World(ABC):
    """One log of `PARTITIONS` partitions and its group."""

    remembers = True  # whether the group keeps how far outputs are published, and refuses members that it gave up
    lease = 1.0  # seconds after which a member that does nothing is taken for dead

    @abstractmethod
    def member(self) -> Member:
        """One more member."""

    @abstractmethod
    def writer(self) -> Writer:
        """Appends to the log."""

    @abstractmethod
    def outputs(self) -> list[Kept]:
        """All that was published."""

    def bury(self, member: Member) -> None:
        """The group takes a member for dead, which does not know of it."""
        time.sleep(1.5 * self.lease)


class MemoryWorld(World):
    def __init__(self):
        self.log, self._n = MemoryLog(PARTITIONS), 0

    def member(self) -> Member:
        self._n += 1
        return self.log.member(f"member {self._n}")

    def writer(self) -> Writer:
        return self.log.writer()

    def outputs(self) -> list[Kept]:
        return [Kept(partition, *output) for partition, output in self.log.outputs]

    def bury(self, member: Any) -> None:
        self.log.expel(member.name)


class RedisWorld(World):
    def __init__(self, url: str):
        self.url, self.name = url, secrets.token_hex(4)
        self.replicas = 0  # that must have what is written, taken or published

    def member(self, **more: Any) -> RedisMember:
        own = {"lease": self.lease, "replicas": self.replicas}
        return RedisMember(self.url, self.name, partitions=PARTITIONS, **own | more)

    def writer(self) -> RedisWriter:
        return RedisWriter(self.url, self.name, partitions=PARTITIONS, replicas=self.replicas)

    def outputs(self) -> list[Kept]:
        kept: list[Kept] = []
        with closing(PatientRedis(self.url, Event())) as redis:
            for partition in range(PARTITIONS):
                for to in ("decisions", "alarms", "dead"):
                    found: Any = redis.client.xrange(key(self.name, partition, to))
                    for _, fields in found:
                        numbers = (int(fields[name]) for name in (b"partition", b"offset", b"number"))
                        kept.append(Kept(*numbers, to, fields[b"key"], fields[b"value"]))
        return kept


class KafkaWorld(World):
    lease = 6.0  # the least that brokers take
    protocol = PROTOCOL

    def __init__(self, servers: str, create: Callable[[str, int], None]):
        self.servers, self.topic = servers, f"test-{secrets.token_hex(4)}"
        self.group = f"group-{self.topic}"
        create(self.topic, PARTITIONS)
        for name in ("decisions", "alarms", "dead"):
            create(f"{self.topic}.{name}", 1)

    def member(self, **options: str) -> KafkaMember:
        ms = str(int(self.lease * 1_000))
        given = {"session.timeout.ms": ms, "heartbeat.interval.ms": "200"}
        if self.protocol == "consumer":  # by which brokers choose these two
            given = {"group.protocol": "consumer"}
        given |= {"max.poll.interval.ms": ms, "reconnect.backoff.max.ms": "200", "log_level": "0"}
        return KafkaMember(self.servers, self.topic, self.group, options=given | options)

    def writer(self) -> KafkaWriter:
        return KafkaWriter(self.servers, self.topic, options={"log_level": "0"})

    def outputs(self) -> list[Kept]:
        own = {"bootstrap.servers": self.servers, "group.id": "tests", "isolation.level": "read_committed"}
        consumer: Any = Consumer(own | {"enable.partition.eof": True, "log_level": 0})
        topics = {f"{self.topic}.{name}": name for name in ("decisions", "alarms", "dead")}
        consumer.assign([TopicPartition(topic, 0, 0) for topic in topics])
        kept: list[Kept] = []
        ends, until = 0, time.monotonic() + PATIENCE
        with closing(consumer):
            while ends < len(topics) and time.monotonic() < until:
                if (message := consumer.poll(0.1)) is None:
                    continue
                if message.error() is not None:
                    ends += 1
                    continue
                headers = dict(message.headers())
                numbers = (int(headers[name]) for name in ("partition", "offset", "number"))
                kept.append(Kept(*numbers, topics[message.topic()], message.key(), message.value()))
        return kept


class MockWorld(KafkaWorld):
    remembers = False  # librdkafka's mock cluster takes offsets of transactions and forgets them
    lease = 2.0
    protocol = "classic"


@contextmanager
def worlds(kind: str, folder: Path) -> Generator[Callable[[], World]]:
    """Makes logs of a kind: "memory", "redis", "kafka mock", or "kafka" where brokers are named."""
    if kind == "memory":
        yield MemoryWorld
    elif kind == "redis":
        with serving(folder) as port:
            yield lambda: RedisWorld(f"redis://127.0.0.1:{port}/0")
    elif kind == "kafka mock":
        with mocked() as mock:
            yield lambda: MockWorld(mock.servers, mock.create)
    else:
        yield lambda: KafkaWorld(REAL, _create)


class Follower:
    """A member, what it owns, and what it read. It reads each partition from where it is told to, or the beginning."""

    def __init__(self, member: Any, places: dict[int, int] | None = None):
        self.member = member
        self.places = places if places is not None else {}  # where partitions are read from; shared as a store would be
        self.owned: dict[int, Owned] = {}
        self.lost: list[Owned] = []
        self.read: list[tuple[int, Record]] = []

    def poll(self, seconds: float = 0.05, most: int = 500) -> Turn:
        """One turn, taken note of."""
        turn: Turn = self.member.poll(seconds, most)
        for owned in turn.lost:
            assert self.owned.pop(owned.partition) == owned
            self.lost.append(owned)
        for owned in turn.gained:
            assert owned.partition not in self.owned
            self.owned[owned.partition] = owned
            self.member.seek(owned, self.places.get(owned.partition, NOTHING))
        for owned, records in turn.read:
            assert self.owned[owned.partition] == owned
            self.read += [(owned.partition, record) for record in records]
        return turn

    def values(self, partition: int) -> list[bytes]:
        """The values that were read of a partition, in order."""
        return [record.value for of, record in self.read if of == partition]

    def publish(self, records: Sequence[tuple[int, Record]], to: str = "decisions") -> None:
        """An output for each record, in one call."""
        done: list[Done] = []
        for partition in {partition for partition, _ in records}:
            those = [record for of, record in records if of == partition]
            outputs = [Output(record.offset, 0, to, b"key", record.value) for record in those]
            done.append(Done(self.owned[partition], those[-1].offset, outputs))
        self.member.publish(done)


@contextmanager
def followers(world: Any) -> Generator[Callable[..., Follower]]:
    """Makes followers, by their places and the options of their members, which are closed in the end.

    Each of them is, whatever another one says: librdkafka may hang where a consumer is only dropped.
    """
    with ExitStack() as members:

        def start(places: dict[int, int] | None = None, **options: Any) -> Follower:
            member = members.enter_context(closing(world.member(**options)))
            return Follower(member, places)

        yield start


def fill(world: World, n: int = 5, partitions: Iterable[int] = range(PARTITIONS)) -> None:
    """Append n records to each partition: "0 of 3", "1 of 3" and so on."""
    with closing(world.writer()) as writer:
        for i in range(n):
            for partition in partitions:
                writer.write(partition, b"key", b"%d of %d" % (i, partition))


def until(holds: Callable[[], bool], *followers: Follower) -> None:
    """Let members take turns until it holds."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "what was waited for did not come"
        for follower in followers:
            follower.poll()


def _create(topic: str, partitions: int) -> None:
    admin = AdminClient({"bootstrap.servers": REAL})
    (made,) = admin.create_topics([NewTopic(topic, partitions, 1)]).values()
    made.result()
