"""Appends records to a log in Kafka."""

from collections.abc import Mapping
from threading import Event
from typing import Any

from confluent_kafka import Producer

from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.partitions.division import placed
from onlineguard_service.partitions.kafka_client import Kafka, produced

PATIENCE = 10.0  # seconds that brokers may be away


class KafkaWriter:
    """A `Writer` of a log in Kafka. Its producer is idempotent: a record that is sent again is there once, in order.

    servers, topic, partitions, options: as of `KafkaMember`.

    Raises JournalUnavailable where brokers are away for `PATIENCE`, here and in `flush`.
    """

    def __init__(
        self,
        servers: str,
        topic: str,
        *,
        partitions: int | None = None,
        options: Mapping[str, str] | None = None,
    ):
        self._kafka, self._topic = Kafka(servers, options or {}, Event(), PATIENCE), topic
        self._failed: list[str] = []
        self._producer: Any = self._kafka.made(Producer, enable_idempotence=True, linger_ms=5, compression_type="lz4")
        self._partitions = self._kafka.count(self._producer, topic, partitions)

    @property
    def partitions(self) -> int:
        """How many the log has."""
        return self._partitions

    def write(self, partition: int | None, key: bytes, value: bytes, kind: str = "events") -> None:
        """See `Writer.write`. Waits where more is written than brokers take."""
        partition = placed(partition, key, self._partitions)
        headers = [] if kind == "events" else [("kind", kind.encode())]
        produced(self._producer, self._topic, key, value, headers, partition=partition, on_delivery=self._delivered)
        self._producer.poll(0)

    def flush(self) -> None:
        """See `Writer.flush`: all replicas in sync have it then. What waits may be written after JournalUnavailable."""
        left = self._producer.flush(PATIENCE)
        self._kafka.check()
        if failed := self._failed:
            self._failed = []
            raise JournalUnavailable(f"{len(failed):,} records were not written to topic {self._topic}: {failed[0]}")
        if left:
            raise JournalUnavailable(f"Kafka at {self._kafka.servers} is away: {left:,} records wait to be written")

    def close(self) -> None:
        """See `Writer.close`."""
        self.flush()

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failed.append(error.str())
