"""What members and writers of a Kafka log share: options of librdkafka, the topic, errors in words."""

import logging
import random
import time
from collections.abc import Callable, Mapping
from threading import Event
from typing import Any

from onlineguard.errors import InvalidArgument, OnlineguardError
from onlineguard.extras import require
from onlineguard_service.errors import JournalUnavailable

require("Kafka", "kafka")

from confluent_kafka import KafkaError, KafkaException  # noqa: E402

FIRST_BACKOFF, LONGEST_BACKOFF = 0.1, 5.0  # seconds
TIMEOUT = 5.0  # seconds of one call
TRIES = 20  # of looking whether a topic is there
OURS = {  # options that exactly once rests on, and where they come from
    "bootstrap.servers": "the host of the URL",
    "group.id": "group=",
    "auto.offset.reset": "missing=",
    **dict.fromkeys(
        ("isolation.level", "enable.auto.commit", "enable.auto.offset.store", "transactional.id", "enable.idempotence"),
        "this program",
    ),
}
_CONSUMERS = (  # what options begin with that are for consumers alone
    "auto.",
    "check.crcs",
    "fetch.",
    "group.",
    "heartbeat.",
    "isolation.",
    "max.partition.",
    "max.poll.",
    "partition.assignment.",
    "queued.",
    "session.",
)
_PRODUCERS = (  # and for producers
    "acks",
    "batch.",
    "compression.",
    "delivery.",
    "linger.",
    "message.timeout",
    "partitioner",
    "queue.buffering.",
    "request.timeout",
    "retries",
    "sticky.",
    "transaction",
)
_HELPLESS = {  # what no waiting mends, and the way out
    KafkaError._AUTHENTICATION: "give security.protocol, sasl.mechanisms, sasl.username and sasl.password",
    KafkaError.SASL_AUTHENTICATION_FAILED: "give sasl.username and sasl.password that it takes",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "let this user read the topic, and write those of outputs",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "let this user read as a member of the group",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "let this user write with ids that begin with the group",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "let this user write idempotently",
    KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT: "use brokers from version 2.5 on, which have transactions of groups",
}

_log = logging.getLogger(__name__)


class Kafka:
    """The brokers, and the patience to wait while they are away.

    servers: e.g. "host:9092,host2:9092".
    options: of librdkafka, e.g. {"security.protocol": "SASL_SSL"}. Raises InvalidArgument for those of `OURS`.
    stop: nothing is waited for once it is set.
    most: seconds that are waited at most; by default without end.
    """

    def __init__(self, servers: str, options: Mapping[str, str], stop: Event, most: float = float("inf")):
        for name in options.keys() & OURS.keys():
            raise InvalidArgument(name, f"is {options[name]!r}; it is decided by {OURS[name]}; leave it out")
        self.servers, self._options, self._stop, self._most = servers, dict(options), stop, most
        self._helpless: KafkaError | None = None

    def made[C](self, kind: Callable[..., C], **own: Any) -> C:
        """A client with the options that are for its kind. Raises InvalidArgument for one that librdkafka refuses."""
        others = _PRODUCERS if "group_id" in own else _CONSUMERS
        given = {name: value for name, value in self._options.items() if not name.startswith(others)}
        names = {name.replace("_", "."): value for name, value in own.items()}
        try:
            return kind({"bootstrap.servers": self.servers, **names, **given, "error_cb": self._noted}, logger=_log)
        except KafkaException as error:
            raise InvalidArgument(f"an option of Kafka is wrong: {error.args[0].str()}") from None

    def count(self, client: Any, topic: str, partitions: int | None) -> int:
        """How many partitions a topic has. Raises InvalidArgument where there is no such topic, or with others."""
        found: Any = None
        for _ in range(TRIES):
            found = self.patiently(lambda: client.list_topics(topic, TIMEOUT)).topics[topic]
            if found.error is None and found.partitions:
                break
            self._stop.wait(FIRST_BACKOFF)  # it may be about to be created
        else:
            told = found.error.str() if found.error is not None else "it has no partitions"
            raise InvalidArgument(
                f"topic {topic} is not to be had: {told}; create it, one that is read with as many partitions as there "
                "will ever be workers, e.g. 64"
            )
        n = len(found.partitions)
        if partitions not in (None, n):
            raise InvalidArgument("partitions", f"is {partitions}, but topic {topic} has {n}; leave it out")
        return n

    def patiently[T](self, call: Callable[[], T]) -> T:
        """What the call returns, tried again while Kafka says that this may help.

        Raises JournalUnavailable when told to stop, OnlineguardError where no waiting helps, and KafkaException where
        something else must be done first.
        """
        until, backoff = time.monotonic() + self._most, FIRST_BACKOFF
        while True:
            self.check()
            try:
                return call()
            except KafkaException as caught:
                error: KafkaError = caught.args[0]
                if error.code() in _HELPLESS:
                    raise self._hopeless(error) from caught
                passes = error.retriable() or error.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT)
                if error.txn_requires_abort() or error.fatal() or not (passes or _is_away(error)):
                    raise
                if self._stop.is_set() or time.monotonic() >= until:
                    raise JournalUnavailable(f"Kafka at {self.servers} is away: {error.str()}") from caught
                _log.warning("Kafka at %s is away: %s; trying again", self.servers, error.str())
                self._stop.wait(min(backoff * random.uniform(0.5, 1.0), max(until - time.monotonic(), 0.0)))
                backoff = min(2 * backoff, LONGEST_BACKOFF)

    def check(self) -> None:
        """Raises OnlineguardError where Kafka said something in the meantime that no waiting mends."""
        if self._helpless is not None:
            raise self._hopeless(self._helpless)

    def _noted(self, error: KafkaError) -> None:
        """What librdkafka tells beside any call; that one broker is away for a while is no news."""
        if error.code() in _HELPLESS:
            self._helpless = error
        passes = error.code() in (KafkaError._TRANSPORT, KafkaError._RESOLVE, KafkaError._TIMED_OUT)
        _log.log(logging.DEBUG if passes else logging.WARNING, "Kafka at %s: %s", self.servers, error.str())

    def _hopeless(self, error: KafkaError) -> OnlineguardError:
        return OnlineguardError(f"Kafka at {self.servers} refuses: {error.str()}; {_HELPLESS[error.code()]}")


def produced(
    producer: Any, topic: str, key: bytes, value: bytes, headers: list[tuple[str, bytes]], **more: Any
) -> None:
    """Hand a message to librdkafka, once it has memory for it."""
    while True:
        try:
            return producer.produce(topic, value, key, headers=headers, **more)
        except BufferError:
            producer.poll(FIRST_BACKOFF)


def _is_away(error: KafkaError) -> bool:
    return error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError.COORDINATOR_NOT_AVAILABLE)
