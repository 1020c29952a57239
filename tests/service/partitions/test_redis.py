"""What a log in Redis does beside what every log does."""

import logging
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.partitions import redis_writer
from onlineguard_service.partitions.log import Done, Fenced, Output, RecordsGone
from onlineguard_service.partitions.redis_names import digits, id_of, key, offset_of
from onlineguard_service.partitions.redis_streams import RedisMember
from onlineguard_service.partitions.redis_writer import RedisWriter

from onlineguard.errors import InvalidArgument, OnlineguardError
from tests.support.logs import PARTITIONS, Follower, RedisWorld, followers, until
from tests.support.redis_server import serving


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("redis")) as port:
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture
def world(url):
    return RedisWorld(url)


@pytest.fixture
def started(world):
    with followers(world) as start:
        yield start


IDS = st.tuples(st.integers(1, 2**42 - 1), st.integers(0, 2**21 - 1))


@given(IDS, IDS)
def test_offsets_grow_as_ids_do_and_fit_64_bits(one, other):
    offsets = [offset_of(b"%d-%d" % id) for id in (one, other)]
    assert (offsets[0] < offsets[1]) == (one < other)
    assert id_of(offsets[0]) == f"{one[0]}-{one[1]}"
    assert (digits(offsets[0]) < digits(offsets[1])) == (one < other)
    assert max(offsets) < 2**63


def test_an_id_without_an_offset_is_refused():
    with pytest.raises(OnlineguardError, match=r"entry 5-2097152 is one of more than 2,097,152 in a millisecond"):
        offset_of(b"5-2097152")


def test_the_number_of_partitions_is_given_once_and_checked(url):
    with pytest.raises(InvalidArgument, match=r"partitions is not given, and Redis has no log 'unknown' yet"):
        RedisWriter(url, "unknown")
    RedisWriter(url, "counted", partitions=3).close()
    assert RedisWriter(url, "counted").partitions == 3
    with pytest.raises(InvalidArgument, match=r"partitions is 4, but the log 'counted' has 3"):
        RedisMember(url, "counted", partitions=4)
    with pytest.raises(InvalidArgument, match="text without braces"):
        RedisMember(url, "a{b}", partitions=4)


def test_a_record_that_anybody_adds_is_read_with_the_time_of_redis(world, started):
    follower = started()
    with redis.Redis.from_url(world.url) as client:
        client.xadd(key(world.name, 2), {"value": b"hello"}, id="1700000000123-7")
    until(lambda: len(follower.read) == 1, follower)
    ((partition, record),) = follower.read
    assert (partition, record.t, record.value, record.kind) == (2, 1_700_000_000_123, b"hello", "events")


def test_streams_of_outputs_keep_about_as_many_entries_as_they_may(world, started):
    world.writer().close()
    follower = started(keep=100)
    until(lambda: len(follower.owned) == PARTITIONS, follower)
    for i in range(10):
        outputs = [Output(100 * i + n, 0, "decisions", b"", b"") for n in range(100)]
        follower.member.publish([Done(follower.owned[0], 100 * i + 99, outputs)])
    assert 100 <= len(world.outputs()) < 300


def test_records_that_were_dropped_before_they_were_read_are_noticed(world, started):
    writer = RedisWriter(world.url, world.name, partitions=PARTITIONS, keep_records=100)
    follower = started()
    writer.write(0, b"", b"first")
    writer.flush()
    until(lambda: len(follower.read) == 1, follower)
    for i in range(1_000):
        writer.write(0, b"", b"%d" % i)
    writer.close()
    with pytest.raises(RecordsGone, match=r"dropped \d+-\d+, the record that was applied last, and.*missing=skip"):
        until(lambda: len(follower.read) > 1, follower)
    follower.member.close()  # partition 0 is the other's then
    skips = started({0: follower.read[0][1].offset}, skip_missing=True)
    until(lambda: len(skips.read) >= 100, skips)
    assert skips.read[-1][1].value == b"999"


@pytest.mark.slow
def test_a_redis_that_is_away_is_waited_for_and_nothing_is_lost_or_done_twice(tmp_path):
    """It is killed, and restarted from its append-only file."""
    durable = ["--appendonly", "yes", "--appendfsync", "always"]
    with serving(tmp_path, *durable) as port:
        world = RedisWorld(f"redis://127.0.0.1:{port}/0")
        world.lease = 30.0
        follower, writer = Follower(world.member()), world.writer()
        until(lambda: len(follower.owned) == PARTITIONS, follower)
        for i in range(10):
            writer.write(i % PARTITIONS, b"", b"before %d" % i)
        writer.flush()
        until(lambda: len(follower.read) == 10, follower)
        follower.publish(follower.read[:5])
    for _ in range(3):
        assert not follower.poll(0.1).read  # nobody is there
    published = threading.Thread(target=follower.publish, args=[follower.read])
    published.start()  # waits
    for i in range(10):
        writer.write(i % PARTITIONS, b"", b"after %d" % i)
    time.sleep(0.3)
    assert published.is_alive()
    with serving(tmp_path, *durable, port=port):
        published.join(30)
        writer.close()
        until(lambda: len(follower.read) == 20, follower)
        follower.publish(follower.read[10:])
        assert sorted(kept.value for kept in world.outputs()) == sorted(record.value for _, record in follower.read)
        assert len({record.value for _, record in follower.read}) == 20
        follower.member.close()


def test_a_member_that_is_told_to_stop_waits_no_longer(tmp_path):
    stop = threading.Event()
    with serving(tmp_path) as port:
        follower = Follower(RedisMember(f"redis://127.0.0.1:{port}/0", "log", partitions=1, stop=stop))
        until(lambda: len(follower.owned) == 1, follower)
    stop.set()
    with pytest.raises(JournalUnavailable, match="Redis is away"):
        follower.member.publish([Done(follower.owned[0], 5)])
    follower.member.close()


def test_a_redis_that_takes_no_writes_for_a_while_is_waited_for(tmp_path):
    """It has too few replicas, and then it is a replica itself."""
    with serving(tmp_path) as port, redis.Redis(port=port) as own:
        world = RedisWorld(f"redis://127.0.0.1:{port}/0")
        world.lease = 30.0
        world.writer().close()
        follower = Follower(world.member())
        until(lambda: len(follower.owned) == PARTITIONS, follower)
        for offset, (refuse, take) in enumerate(
            [
                (("CONFIG SET", "min-replicas-to-write", "1"), ("CONFIG SET", "min-replicas-to-write", "0")),
                (("REPLICAOF", "127.0.0.1", str(port)), ("REPLICAOF", "NO", "ONE")),
            ]
        ):
            own.execute_command(*refuse)
            done = Done(follower.owned[0], offset, [Output(offset, 0, "decisions", b"", b"")])
            threads = [threading.Thread(target=follower.member.publish, args=[[done]])]
            threads.append(threading.Thread(target=lambda: world.writer().close()))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(0.2)
                assert thread.is_alive()
            own.execute_command(*take)
            for thread in threads:
                thread.join(30)
                assert not thread.is_alive()
            assert len(world.outputs()) == offset + 1
        follower.member.close()


@pytest.mark.slow
def test_nothing_counts_as_written_or_taken_or_published_before_a_replica_has_it(tmp_path, monkeypatch):
    monkeypatch.setattr(redis_writer, "PATIENCE", 0.1)
    folders = [tmp_path / name for name in ("primary", "replica")]
    for folder in folders:
        folder.mkdir()
    with serving(folders[0]) as port:
        world = RedisWorld(f"redis://127.0.0.1:{port}/0")
        world.lease, world.replicas = 30.0, 1
        follower, writer = Follower(world.member()), world.writer()
        writer.write(0, b"", b"once")
        with pytest.raises(JournalUnavailable, match="0 of 1 replicas had what was written after 1 s"):
            writer.flush()
        follower.poll(1.0)
        assert not follower.owned
        with serving(folders[1], "--replicaof", f"127.0.0.1 {port}", "--repl-diskless-sync-delay", "0"):
            until(lambda: writes(writer), follower)
            until(lambda: len(follower.read) == 1, follower)
        publishing = threading.Thread(target=follower.publish, args=[follower.read])
        publishing.start()  # waits
        publishing.join(1.5)
        assert publishing.is_alive()
        with serving(folders[1], "--replicaof", f"127.0.0.1 {port}", "--repl-diskless-sync-delay", "0"):
            publishing.join(30)
            assert not publishing.is_alive()
        assert [kept.value for kept in world.outputs()] == [b"once"]
        follower.member.close()
        writer.close()


def writes(writer):
    try:
        writer.flush()
    except JournalUnavailable:
        return False
    return True


def test_records_whose_answer_was_lost_are_there_once(world, started, monkeypatch):
    follower, writer = started(), world.writer()
    done, lost = writer._redis.run, [redis.ConnectionError("the answer is lost")] * 2

    def run(*given):
        answer = done(*given)
        if lost:
            raise lost.pop()
        return answer

    monkeypatch.setattr(writer._redis, "run", run)
    for i in range(3):
        writer.write(0, b"", b"%d" % i)
    writer.flush()
    writer.write(0, b"", b"3")
    writer.close()
    assert writer.lost == 0
    until(lambda: len(follower.read) >= 4, follower)
    assert follower.values(0) == [b"0", b"1", b"2", b"3"]


def test_a_writer_tells_of_records_that_redis_had_taken_and_lost(world, caplog):
    writer = world.writer()
    for i in range(5):
        writer.write(1, b"", b"%d" % i)
    writer.flush()
    with redis.Redis.from_url(world.url) as client:
        client.set(key(world.name, 1, writer._name), 2)  # as in a replica that got no more
    writer.write(1, b"", b"5")
    with caplog.at_level(logging.WARNING):
        writer.flush()
    assert writer.lost == 3
    assert "Redis lost 3 records of partition 1 that it had taken" in caplog.text
    writer._sent[1] -= 2 * redis_writer.REMEMBERED  # so long that Redis has forgotten how much it has
    with redis.Redis.from_url(world.url) as client:
        client.delete(key(world.name, 1, writer._name))
    writer.write(1, b"", b"6")
    writer.close()
    assert writer.lost == 3


def test_who_leaves_or_is_not_wanted_any_more_hands_over_at_once_however_long_its_lease(world, started):
    world.lease = 3_600.0
    one, other = started(), started()
    until(lambda: len(one.owned) == len(other.owned) == PARTITIONS // 2, one, other)
    one.member.close()
    until(lambda: len(other.owned) == PARTITIONS, other)


def test_a_partition_that_is_given_up_comes_back_in_a_newer_generation(world, started):
    follower = started()
    until(lambda: len(follower.owned) == PARTITIONS, follower)
    before = follower.owned[2]
    assert before.follows is None
    follower.member.give_up(before)
    until(lambda: follower.owned.get(2, before) != before, follower)
    assert follower.lost == [before]
    assert follower.owned[2].generation > follower.owned[2].follows == before.generation
    follower.member.give_up(before)  # which it is not any more
    follower.poll()
    assert follower.lost == [before]


def test_a_name_that_moves_to_the_new_primary_is_followed():
    """It is a socket, which becomes another Redis's while the old one is a replica and keeps its connections."""
    with tempfile.TemporaryDirectory(prefix="og") as name:
        folder = Path(name)
        socket, old, new = (folder / each for each in ("s", "old", "new"))
        for each in (old, new):
            each.mkdir()
        with (
            serving(old, "--unixsocket", f"{old}/s") as port,
            serving(new, "--unixsocket", f"{new}/s", "--shutdown-timeout", "0") as other,
            redis.Redis(port=port) as before,
            redis.Redis(port=other) as after,
        ):
            socket.symlink_to(old / "s")
            stop = threading.Event()
            follower = Follower(RedisMember(f"unix://{socket}", "log", partitions=1, lease=60.0, stop=stop))
            until(lambda: len(follower.owned) == 1, follower)
            after.restore(owner := key("log", 0, "group:onlineguard"), 0, before.dump(owner))
            before.execute_command("REPLICAOF", "127.0.0.1", str(other))
            socket.unlink()
            socket.symlink_to(new / "s")
            patience = threading.Timer(30.0, stop.set)
            patience.start()
            follower.member.publish([Done(follower.owned[0], 9, [Output(9, 0, "decisions", b"", b"9")])])
            patience.cancel()
            assert after.xlen(key("log", 0, "decisions")) == 1
            follower.member.close()


def test_a_redis_that_forgot_all_fences_who_owned_and_begins_anew(world, started):
    follower = started()
    until(lambda: len(follower.owned) == PARTITIONS, follower)
    before = follower.owned[0]
    with redis.Redis.from_url(world.url) as client:
        client.delete(*(key(world.name, p, "group:onlineguard") for p in range(PARTITIONS)))
    with pytest.raises(Fenced):
        follower.member.publish([Done(before, 5)])
    until(lambda: follower.owned.get(0, before) != before, follower)
    assert follower.owned[0].generation > before.generation


FROZEN = """
import sys
from onlineguard_service.partitions.log import Done, Fenced, NOTHING, Output
from onlineguard_service.partitions.redis_streams import RedisMember
member = RedisMember(sys.argv[1], sys.argv[2], lease=1.0)
gained = []
while len(gained) < member.partitions:
    gained += member.poll(0.1, 100).gained
print("owns", flush=True)
sys.stdin.readline()  # it is stopped here, and woken up long after its lease
try:
    member.publish([Done(owned, 2**60, [Output(2**60, 0, "decisions", b"", b"zombie")]) for owned in gained])
    print("published", flush=True)
except Fenced as error:
    print(error, flush=True)
"""


@pytest.mark.slow
def test_a_process_that_is_stopped_and_wakes_up_after_its_partitions_moved_publishes_nothing(world, started):
    world.writer().close()
    command = [sys.executable, "-c", FROZEN, world.url, world.name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "owns\n"
        process.send_signal(signal.SIGSTOP)
        follower = started()
        until(lambda: len(follower.owned) == PARTITIONS, follower)
        process.send_signal(signal.SIGCONT)
        process.stdin.write("\n")
        process.stdin.flush()
        assert "another process owns partition" in process.stdout.readline()
    assert world.outputs() == []


@pytest.mark.slow
def test_a_cluster_holds_a_log_each_script_touching_one_slot(tmp_path):
    with serving(tmp_path, "--cluster-enabled", "yes") as port, redis.Redis(port=port) as own:
        own.execute_command("CLUSTER ADDSLOTSRANGE 0 16383")
        while "ok" not in str(own.execute_command("CLUSTER INFO")["cluster_state"]):
            time.sleep(0.05)
        world = RedisWorld(f"redis://127.0.0.1:{port}/0")
        follower, writer = Follower(world.member()), world.writer()
        for i in range(12):
            writer.write(i % PARTITIONS, b"", b"%d" % i)
        writer.close()
        until(lambda: len(follower.read) == 12, follower)
        follower.publish(follower.read)
        follower.publish(follower.read)
        own.close()
        streams = [own.xlen(key(world.name, partition, "decisions")) for partition in range(PARTITIONS)]
        assert streams == [3] * PARTITIONS
        follower.member.close()
