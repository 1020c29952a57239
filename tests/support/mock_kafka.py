"""The mock cluster that librdkafka has for its own tests: brokers on loopback that speak Kafka's protocol.

confluent-kafka starts one by `test.mock.num.brokers`. Here it is started through the library's C interface, which can
also create topics, take a broker away and have requests refused.
"""

import ctypes
from collections.abc import Generator
from contextlib import contextmanager
from ctypes import c_char_p, c_int, c_int32, c_size_t, c_void_p
from pathlib import Path

import confluent_kafka

REQUESTS = {"FindCoordinator": 10, "AddOffsetsToTxn": 25, "EndTxn": 26, "TxnOffsetCommit": 28}  # by their numbers
REFUSALS = {
    "coordinator not available": 15,
    "not coordinator": 16,
    "illegal generation": 22,
    "unknown member": 25,
    "rebalance in progress": 27,
    "invalid producer epoch": 47,
    "producer fenced": 90,
}


class MockKafka:
    """A mock cluster, for as long as `mocked` runs."""

    def __init__(self, library: ctypes.CDLL, cluster: c_void_p):
        self._library, self._cluster = library, cluster
        self.servers: str = library.rd_kafka_mock_cluster_bootstraps(cluster).decode()

    def create(self, topic: str, partitions: int) -> None:
        """A topic."""
        self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1)

    def down(self, broker: int) -> None:
        """Take a broker away, from 1 on; its connections end."""
        self._library.rd_kafka_mock_broker_set_down(self._cluster, broker)

    def up(self, broker: int) -> None:
        """It is back."""
        self._library.rd_kafka_mock_broker_set_up(self._cluster, broker)

    def lead(self, topic: str, partition: int, broker: int) -> None:
        """Which broker leads a partition."""
        self._library.rd_kafka_mock_partition_set_leader(self._cluster, topic.encode(), partition, broker)

    def coordinate(self, group: str, broker: int) -> None:
        """Which broker coordinates a group."""
        self._library.rd_kafka_mock_coordinator_set(self._cluster, b"group", group.encode(), broker)

    def drop(self, topic: str, partition: int, before: int) -> None:
        """Drop the records of a partition before an offset."""
        self._library.rd_kafka_mock_partition_delete_records(self._cluster, topic.encode(), partition, before)

    def refuse(self, request: str, *why: str) -> None:
        """Refuse the next requests of a kind, each for its reason."""
        errors = (c_int * len(why))(*(REFUSALS[each] for each in why))
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, REQUESTS[request], len(why), errors)


@contextmanager
def mocked(brokers: int = 3) -> Generator[MockKafka]:
    """A mock cluster of so many brokers."""
    library = _library()
    text = ctypes.create_string_buffer(512)
    conf = library.rd_kafka_conf_new()
    library.rd_kafka_conf_set(conf, b"log_level", b"0", text, 512)
    handle = library.rd_kafka_new(0, conf, text, 512)
    cluster = library.rd_kafka_mock_cluster_new(handle, brokers)
    library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 100)
    try:
        yield MockKafka(library, cluster)
    finally:
        library.rd_kafka_mock_cluster_destroy(cluster)
        library.rd_kafka_destroy(handle)


def _library() -> ctypes.CDLL:
    """The library that confluent-kafka brings along, with the functions that are used."""
    folder = Path(confluent_kafka.__file__).parent
    (path,) = [*folder.parent.glob("confluent_kafka.libs/librdkafka-*"), *folder.glob(".dylibs/librdkafka*")]
    library = ctypes.CDLL(str(path))
    pointer, text = c_void_p, c_char_p
    for name, result, *arguments in (
        ("rd_kafka_conf_new", pointer),
        ("rd_kafka_conf_set", c_int, pointer, text, text, text, c_size_t),
        ("rd_kafka_new", pointer, c_int, pointer, text, c_size_t),
        ("rd_kafka_destroy", None, pointer),
        ("rd_kafka_mock_cluster_new", pointer, pointer, c_int),
        ("rd_kafka_mock_cluster_destroy", None, pointer),
        ("rd_kafka_mock_cluster_bootstraps", text, pointer),
        ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, pointer, c_int32),
        ("rd_kafka_mock_topic_create", c_int, pointer, text, c_int, c_int),
        ("rd_kafka_mock_broker_set_down", c_int, pointer, c_int32),
        ("rd_kafka_mock_broker_set_up", c_int, pointer, c_int32),
        ("rd_kafka_mock_partition_set_leader", c_int, pointer, text, c_int32, c_int32),
        ("rd_kafka_mock_coordinator_set", c_int, pointer, text, text, c_int32),
        ("rd_kafka_mock_partition_delete_records", c_int, pointer, text, c_int32, ctypes.c_int64),
        ("rd_kafka_mock_push_request_errors_array", None, pointer, ctypes.c_int16, c_size_t, pointer),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
