"""A partitioned log in Kafka, or in whatever speaks its protocol: a consumer group whose outputs are transactions.

**Exactly once, in effect.** `publish` is one transaction: the outputs go to their topics, and the offsets of their
records to the group, together with the group's metadata. A consumer that reads with `isolation.level=read_committed`
sees all of it or nothing. Each output also has the headers `partition`, `offset` and `number` of what led to it.

**Fencing.** The broker takes the offsets only from a member of the group's current generation (KIP-447). So a process
that was taken for dead cannot publish when it wakes up, though its transactional id is like no other's. Two checks are
made here as well. The partition must be one that this member was assigned and was not told to give up. And the metadata
must name a member and a generation: a broker asks nothing of who names neither, as clients from before KIP-447 did. A
broker that ignores the generation fences nothing; docs/scale.md says which were tried.

**Generation.** `Owned.generation` is that of the group when the partition came to the member. Each rebalance has a
larger one, and a partition goes to its next owner in a later one than it came to its last. librdkafka has no function
that tells it, but it stands in the metadata that `consumer_group_metadata` returns for the broker: `CGMDv2:`, 32 bits
of generation, then group and member, each ended by a zero. Another beginning is refused when the member is opened. A
group that Kafka forgot, e.g. after `offsets.retention.minutes` without members, begins again at 1, so that snapshots of
before count as newer: delete them, or name another group.

**Published.** What the group has committed, less one. It is asked for with `read_committed`, by which the broker
answers only once no transaction of the partition is open.

**Time.** A record's time is the broker's where the topic has `message.timestamp.type=LogAppendTime`, as it should; else
it is the producer's, and need not grow.

**What goes wrong.** While brokers are away, `poll` finds nothing and `publish` waits. A transaction that could not be
ended in time is ended by the brokers; the same transactional id is then opened anew, and what the group has committed
says whether it was published. What no waiting mends, e.g. a wrong password, raises OnlineguardError.

Source: Apache Kafka, KIP-447 "Producer scalability for exactly once semantics", KIP-98 "Exactly Once Delivery and
Transactional Messaging", KIP-429 "Kafka Consumer Incremental Rebalance Protocol"; librdkafka, INTRODUCTION.md.
"""

import logging
import os
import secrets
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import Event
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from onlineguard.errors import OnlineguardError
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.partitions.kafka_client import FIRST_BACKOFF, LONGEST_BACKOFF, TIMEOUT, Kafka, produced
from onlineguard_service.partitions.log import NOTHING, OUTPUTS, Done, Fenced, Owned, Read, Record, RecordsGone, Turn

SLICE = 0.1  # seconds of one call of the consumer: who is assigned something hears of it that soon
TRANSACTION = 15_000  # ms after which brokers end the transaction of a process that died; readers wait as long
TELLS_GENERATION = b"CGMDv2:"
_STALE = {  # the group has gone on without this member, or is about to
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.FENCED_MEMBER_EPOCH,
    KafkaError.STALE_MEMBER_EPOCH,
}

_log = logging.getLogger(__name__)


class KafkaMember:
    """A `Member` of a log in Kafka; see this module's docstring.

    servers: e.g. "host:9092,host2:9092".
    topic, group: of the records, and of those who share them.
    partitions: of the topic, to be checked; None: any number.
    topics: of outputs, by "decisions", "alarms" and "dead"; by default `<topic>.decisions` and so on.
    skip_missing: go on without records that were dropped before they were applied, instead of raising RecordsGone.
    options: of librdkafka, e.g. {"security.protocol": "SASL_SSL"}.
    stop: nothing is waited for once it is set.

    Waits until brokers are there. Raises InvalidArgument for a topic that is not there, or a wrong option.
    """

    def __init__(
        self,
        servers: str,
        topic: str,
        group: str = "onlineguard",
        *,
        partitions: int | None = None,
        topics: Mapping[str, str] | None = None,
        skip_missing: bool = False,
        options: Mapping[str, str] | None = None,
        stop: Event | None = None,
    ):
        self._stop = stop or Event()
        self._kafka = Kafka(servers, options or {}, self._stop)
        self._topic, self._group = topic, group
        self._topics = {name: f"{topic}.{name}" for name in OUTPUTS} | dict(topics or {})
        self._cooperative = "cooperative" in _strategy(options or {})
        self._name = f"{group}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._owned: dict[int, Owned] = {}
        self._published: dict[int, int] = {}
        self._places: dict[int, int] = {}  # the offset that was read last of each partition that is read
        self._assigned: dict[int, int] = {}  # generation of partitions that came and were not looked at yet
        self._lost: list[Owned] = []  # to be told
        self._early: list[Message] = []  # read while a rebalance was waited for
        self._closed = False
        self._consumer: Any = self._kafka.made(
            Consumer,
            group_id=group,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest" if skip_missing else "error",
            **{}
            if "group.protocol" in (options or {})
            else {"partition_assignment_strategy": _strategy(options or {})},
        )
        try:
            if not self._consumer.consumer_group_metadata().startswith(TELLS_GENERATION):
                raise OnlineguardError(
                    "this confluent-kafka does not tell a group's generation; install the one in constraints.txt"
                )
            self._partitions = self._kafka.count(self._consumer, topic, partitions)
            self._producer: Any = self._opened()
            for name in self._topics.values():
                self._kafka.count(self._producer, name, None)  # where brokers may create topics, this does
            self._consumer.subscribe(
                [topic], on_assign=self._was_assigned, on_revoke=self._was_revoked, on_lost=self._was_revoked
            )
        except BaseException:
            self._consumer.close()
            raise

    @property
    def partitions(self) -> int:
        """See `Member.partitions`."""
        return self._partitions

    def poll(self, seconds: float, most: int) -> Turn:
        """See `Member.poll`."""
        until = time.monotonic() + seconds
        found, self._early = self._early, []
        while not self._closed and not (found or self._assigned or self._lost):
            left = until - time.monotonic()
            if (message := self._consumer.poll(max(min(left, SLICE), 0.0))) is not None:
                found.append(message)
            elif left <= 0:
                break
        if found and len(found) < most and not self._closed:
            found += self._consumer.consume(most - len(found), 0)
        self._kafka.check()
        gained = self._looked_at()
        read = self._records(found)
        lost, self._lost = self._lost, []
        return Turn(gained, lost, read)

    def seek(self, owned: Owned, after: int) -> None:
        """See `Member.seek`."""
        if self._owned.get(owned.partition) != owned:
            return
        place = self._place(owned.partition, after + 1 if after > NOTHING else OFFSET_BEGINNING)
        self._kafka.patiently(lambda: self._consumer.seek(place))
        self._consumer.resume([place])
        self._places[owned.partition] = after

    def pause(self, owned: Owned, paused: bool) -> None:
        """See `Member.pause`."""
        if self._owned.get(owned.partition) == owned and owned.partition in self._places:
            (self._consumer.pause if paused else self._consumer.resume)([self._place(owned.partition)])

    def give_up(self, owned: Owned) -> None:
        """See `Member.give_up`: generations come from one place."""

    def publish(self, done: Sequence[Done]) -> None:
        """See `Member.publish`. All partitions' are published, or none."""
        backoff = FIRST_BACKOFF
        while new := [each for each in done if self._is_new(each)]:
            generation, metadata = self._membership()
            try:
                if generation >= 0:
                    self._transact(new, metadata)
                    self._published |= {each.owned.partition: each.upto for each in new}
                    return
            except KafkaException as caught:
                error: KafkaError = caught.args[0]
                if error.fatal() or error.code() in (KafkaError._FENCED, KafkaError._STATE):
                    self._reopen(error)
                    continue
                if not error.txn_requires_abort():
                    raise OnlineguardError(f"outputs cannot be published: {error.str()}") from caught
                self._abort(error)
                if error.code() not in _STALE:
                    self._stop.wait(backoff)
                    backoff = min(2 * backoff, LONGEST_BACKOFF)
                    continue
            self._settle(generation, new)

    def end(self, partition: int) -> int:
        """See `Member.end`. The end of a transaction counts as a record."""
        place = self._place(partition)
        low, high = self._kafka.patiently(lambda: self._consumer.get_watermark_offsets(place, TIMEOUT))
        return high - 1 if high > low else NOTHING

    def close(self) -> None:
        """See `Member.close`. Where brokers are away, they find out by themselves."""
        if self._closed:
            return
        self._closed = True
        try:
            self._consumer.close()
        except Exception as error:  # also what the calls within `close` raised; the consumer is gone all the same
            _log.warning("the group %s was not left in order: %s", self._group, error)
        self._owned.clear()
        self._give_up_producer()

    # --- who owns what. The three methods are called by the consumer, within its `poll` and `close`.

    def _was_assigned(self, consumer: Any, came: Sequence[Any]) -> None:
        places = [self._place(each.partition, 0) for each in came]
        (consumer.incremental_assign if self._cooperative else consumer.assign)(places)
        if places:
            consumer.pause(places)  # until `seek` says from where to read
        generation, _ = self._membership()
        if generation >= 0:  # else the group has given this member up in the meantime, and takes them away again
            self._assigned |= {each.partition: generation for each in came}

    def _was_revoked(self, consumer: Any, went: Sequence[Any]) -> None:
        for each in went:
            self._lose(each.partition)

    def _lose(self, partition: int) -> None:
        self._assigned.pop(partition, None)
        self._places.pop(partition, None)
        self._early = [message for message in self._early if message.partition() != partition]
        if partition in self._owned:
            self._lost.append(self._owned.pop(partition))

    def _looked_at(self) -> list[Owned]:
        """Partitions that came, with how far their outputs go; none while that cannot be found out."""
        if not self._assigned:
            return []
        try:
            published = self._committed(list(self._assigned))
        except KafkaException as error:
            _log.warning("how far outputs go cannot be found out yet: %s", error.args[0].str())
            self._stop.wait(SLICE)
            return []
        gained = [Owned(each, generation, published[each]) for each, generation in sorted(self._assigned.items())]
        self._assigned.clear()
        self._owned |= {owned.partition: owned for owned in gained}
        self._published |= published
        return gained

    def _committed(self, partitions: Sequence[int]) -> dict[int, int]:
        """The offset up to which outputs are published, of each."""
        found = self._consumer.committed([self._place(each) for each in partitions], TIMEOUT)
        for each in found:
            if each.error is not None:
                raise KafkaException(each.error)
        return {each.partition: each.offset - 1 if each.offset > 0 else NOTHING for each in found}

    def _membership(self) -> tuple[int, bytes]:
        """The group's generation as this member knows it, -1 outside of one, and the metadata that it stands in."""
        metadata: bytes = self._consumer.consumer_group_metadata()
        (generation,) = struct.unpack_from("=i", metadata, len(TELLS_GENERATION))
        _, name, *_ = metadata[len(TELLS_GENERATION) + 4 :].split(b"\0")
        return generation if name else -1, metadata

    def _settle(self, generation: int, done: Sequence[Done]) -> None:
        """Wait until the group has another generation, or has taken one of the partitions; then `_is_new` tells."""
        while all(self._owned.get(each.owned.partition) == each.owned for each in done):
            if self._membership()[0] not in (generation, -1):
                return
            if self._stop.is_set():
                raise JournalUnavailable(f"the group {self._group} divides its partitions anew")
            if (message := self._consumer.poll(SLICE)) is not None:
                self._early.append(message)

    # --- records and outputs

    def _records(self, messages: Sequence[Message]) -> list[Read]:
        """The records among what the consumer found, by partition."""
        found: dict[int, list[Record]] = {}
        for message in messages:
            if (error := message.error()) is not None:
                self._told(message, error)
                continue
            partition, offset = message.partition(), message.offset()
            if (
                partition is not None
                and offset is not None
                and partition in self._places
                and offset > self._places[partition]
            ):
                self._places[partition] = offset
                found.setdefault(partition, []).append(_record(message, offset))
        return [Read(self._owned[partition], records) for partition, records in found.items()]

    def _told(self, message: Message, error: KafkaError) -> None:
        """What the consumer says in a message's place."""
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            partition = message.partition()
            raise RecordsGone(
                f"partition {partition} of topic {self._topic} has no record after offset "
                f"{self._places.get(partition or 0, NOTHING)}: it was dropped before it was applied, or the topic was "
                "made anew. Let the topic keep records longer (retention.ms); to go on without them, add missing=skip "
                "to the URL"
            )
        if error.fatal():
            raise OnlineguardError(f"the member of the group cannot go on: {error.str()}")
        _log.warning("topic %s: %s", self._topic, error.str())

    def _opened(self) -> Any:
        producer: Any = self._kafka.made(
            Producer, transactional_id=self._name, transaction_timeout_ms=TRANSACTION, linger_ms=5
        )
        self._kafka.patiently(lambda: producer.init_transactions(TIMEOUT))
        return producer

    def _is_new(self, done: Done) -> bool:
        """Whether there is something to publish. Raises Fenced where the partition is another's."""
        partition = done.owned.partition
        if self._owned.get(partition) != done.owned:
            raise Fenced(partition)
        return done.upto > self._published[partition]

    def _transact(self, done: Sequence[Done], metadata: bytes) -> None:
        """One transaction. Raises KafkaException."""
        producer, patiently = self._producer, self._kafka.patiently
        producer.begin_transaction()
        for (partition, *_), _, outputs in done:
            for output in outputs:
                if output.offset > self._published[partition]:
                    headers = [(name, b"%d" % getattr(output, name)) for name in ("offset", "number")]
                    headers.append(("partition", b"%d" % partition))
                    to = self._topics.get(output.to, f"{self._topic}.{output.to}")
                    produced(producer, to, output.key, output.value, headers)
        offsets = [self._place(each.owned.partition, each.upto + 1) for each in done]
        patiently(lambda: producer.send_offsets_to_transaction(offsets, metadata, TIMEOUT))
        patiently(lambda: producer.commit_transaction(TIMEOUT))

    def _abort(self, error: KafkaError) -> None:
        _log.warning("outputs were not published: %s", error.str())
        try:
            self._kafka.patiently(lambda: self._producer.abort_transaction(TIMEOUT))
        except KafkaException as caught:
            self._reopen(caught.args[0])

    def _reopen(self, error: KafkaError) -> None:
        """Open the transactional id anew, which ends its open transaction, and look whether that was published."""
        _log.warning("the transactional producer is opened anew: %s", error.str())
        self._give_up_producer()
        self._producer = self._opened()
        if self._owned:
            self._published |= self._kafka.patiently(lambda: self._committed(list(self._owned)))

    def _give_up_producer(self) -> None:
        """What an open transaction holds is nobody's."""
        with suppress(KafkaException):  # of a producer that was fenced
            self._producer.purge()
            self._producer.flush(0)

    def _place(self, partition: int, offset: int | None = None) -> TopicPartition:
        return (
            TopicPartition(self._topic, partition) if offset is None else TopicPartition(self._topic, partition, offset)
        )


def _record(message: Message, offset: int) -> Record:
    kinds = [value for name, value in message.headers() or () if name == "kind"]
    kind = kinds[-1].decode(errors="replace") if kinds and isinstance(kinds[-1], bytes) else "events"
    value: Any = message.value()
    return Record(offset, max(message.timestamp()[1], 0), value or b"", kind)


def _strategy(options: Mapping[str, str]) -> str:
    """How partitions are assigned. Brokers that do so themselves, by `group.protocol=consumer`, are cooperative."""
    return options.get("partition.assignment.strategy", "cooperative-sticky")
