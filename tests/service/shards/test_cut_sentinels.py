"""A primary is cut from its replicas and most Sentinels, with clients on both sides: one log is left, and is exact."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from onlineguard_service.partitions.redis_streams import RedisMember

from tests.support.cut_sentinels import cut_sentinels
from tests.support.logs import PARTITIONS, RedisWorld
from tests.support.workers import Workers

pytestmark = pytest.mark.slow

PRODUCER = """
import sys
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.partitions.redis_writer import RedisWriter
url, name = sys.argv[1:]
writers = {replicas: RedisWriter(url, name, replicas=replicas) for replicas in (0, 1)}
for when in sys.stdin:
    for replicas, writer in writers.items():
        for i in range(3):
            writer.write(0, b"", b'{"slice": "%d replicas %s", "x": [1, 2]}' % (replicas, when.strip().encode()))
        try:
            writer.flush()
            print(f"{replicas} taken, {writer.lost} lost", flush=True)
        except JournalUnavailable as error:
            print(f"{replicas} refused: {error}", flush=True)
"""


@pytest.fixture
def apart():
    with tempfile.TemporaryDirectory(prefix="og") as folder, cut_sentinels(Path(folder)) as found:
        yield found


class Producer:
    """On the machine of the primary of before: writes with and without waiting for a replica."""

    def __init__(self, apart, name):
        command = [*apart.afar, sys.executable, "-c", PRODUCER, apart.url, name]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def write(self, when):
        """What became of three records, without and with a replica."""
        self.process.stdin.write(f"{when}\n")
        self.process.stdin.flush()
        return [self.process.stdout.readline().strip() for _ in range(2)]

    def end(self):
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


def test_a_primary_that_is_cut_from_most_sentinels_loses_what_it_took_and_says_so(
    apart, tmp_path, model_folder, environment
):
    world = RedisWorld(apart.url)
    world.replicas = 1
    url = f"{apart.url}?stream={world.name}&partitions={PARTITIONS}&lease=4&replicas=1"
    reader = lambda name: RedisMember(apart.url, world.name, name, partitions=PARTITIONS)  # noqa: E731
    group = Workers(world, url, reader, tmp_path, model_folder, environment)
    group.write(50)
    producer = Producer(apart, world.name)
    try:
        group.start("afar", within=apart.afar)
        group.start("beside")
        for name in group.running:
            group.told(name, "is owned in generation")
        assert producer.write("before") == ["0 taken, 0 lost", "1 taken, 0 lost"]
        with group.load():
            group.go_on()
            apart.cut()
            first, second = producer.write("while it is cut off")
            assert first == "0 taken, 0 lost"
            assert second.startswith("1 refused: Redis is away: 0 of 1 replicas had what was written")
            group.until(apart.promoted)
            group.go_on()  # by the worker beside, which has all partitions by then
            apart.heal()
            group.until(apart.demoted)
            assert producer.write("after") == ["0 taken, 3 lost", "1 taken, 0 lost"]
        group.settled()
        group.stop()
        group.check()
        values = [record.value.decode() for record in group.records()[0] if b"replicas" in record.value]
        told = {when: [sum(f"{n} replicas {when}" in value for value in values) for n in (0, 1)] for when in WHEN}
        assert told == {"before": [3, 3], "while it is cut off": [0, 3], "after": [3, 3]}
        assert group.writer.lost == 0
        assert [len(given) for given in group.records()[1:]] == [50 + group.written] * (PARTITIONS - 1)
    finally:
        producer.end()
        group.kill()


WHEN = ("before", "while it is cut off", "after")
