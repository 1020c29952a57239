import pytest
from onlineguard_service.partitions.urls import open_member, open_writer, parsed

from onlineguard import sentinels
from onlineguard.errors import InvalidArgument
from tests.support.logs import Follower, until
from tests.support.redis_server import serving


def test_a_url_of_kafka_names_brokers_topic_and_options(tmp_path):
    file = tmp_path / "kafka.properties"
    file.write_text("# ours\nsasl.mechanisms = PLAIN\nclient.id=from the file\n")
    log = parsed(f"kafka://a:9092,b:9093/clicks?group=g&security.protocol=SASL_SSL&client.id=x&options={file}")
    assert (log.kind, log.where, log.name, log.query["group"]) == ("kafka", "a:9092,b:9093", "clicks", "g")
    assert log.options == {"sasl.mechanisms": "PLAIN", "client.id": "x", "security.protocol": "SASL_SSL"}


def test_a_url_of_redis_names_the_stream_and_keeps_the_rest_for_redis():
    log = parsed("rediss://user:secret@host:6380/2?stream=clicks&partitions=8&lease=5")
    assert (log.kind, log.where, log.name) == ("redis", "rediss://user:secret@host:6380/2", "clicks")
    assert parsed("unix:///run/redis.sock?stream=clicks").where == "unix:///run/redis.sock"


def test_a_url_of_sentinels_has_the_primary_s_name_database_and_password():
    log = parsed(
        "rediss+sentinel://me:s%40cret@one:1,two/primary/2?stream=clicks&sentinel_password=a%26b&ssl_ca_certs=c"
    )
    found = sentinels.parsed(log.where)
    assert log.name == "clicks"
    assert found is not None
    assert (found.addresses, found.name) == ([("one", 1), ("two", 26_379)], "primary")
    tls = {"ssl": True, "ssl_ca_certs": "c"}
    assert found.primary == {"username": "me", "password": "s@cret", "db": 2, **tls}
    assert {"username": None, "password": "a&b", **tls}.items() <= found.own.items()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://host/x", r"'http://host/x' is no log; name one as kafka://host:9092/topic or redis://"),
        ("memory:", r"'memory:' is no log; name one as kafka"),
        ("kafka://host:9092", r"names no topic; write kafka://host:9092/topic"),
        ("kafka:///topic", r"names no broker; write kafka://host:9092/topic"),
        ("kafka://me:secret@host/topic", r"no user and password; give sasl.username and sasl.password as options"),
        ("kafka://host/topic?groop=a", r"has 'groop', which is unknown; did you mean group"),
        ("kafka://host/topic?group=a&group=b", r"has group twice; give it once"),
        ("kafka://host/topic?group=", r"has group without a value"),
        ("redis://host/0?security.protocol=SSL", r"has 'security.protocol', which is unknown"),
        ("redis://host/0?partitions=many", r"partitions is 'many'; it must be a number"),
        ("redis://host/0?replicas=-1", r"replicas is -1; it must be 0, or as many as each primary has"),
        ("redis://host/0?missing=perhaps", r"missing is 'perhaps'; it must be stop or skip"),
        (
            "redis+sentinel://me:secret@host:26379/?stream=a",
            r"names no Sentinel or no primary; write redis\+sentinel://",
        ),
        ("redis+sentinel:///primary", r"names no Sentinel or no primary"),
        ("redis+sentinel://host:port/primary", r"names no Sentinel or no primary"),
        ("redis+sentinel://host/primary/first", r"the database after 'primary' is 'first'; it must be a number"),
        ("kafka://host/topic?options=/no/such/file", r"options is '/no/such/file', which cannot be read"),
        ("kafka://host/topic?enable.idempotence=false", r"it is decided by this program; leave it out"),
        ("kafka://host/topic?no.such.option=1", r"an option of Kafka is wrong: No such configuration property"),
    ],
)
def test_a_wrong_url_is_refused_with_the_way_out(url, told):
    with pytest.raises(InvalidArgument, match=told) as error:
        open_member(url)
    assert "secret" not in str(error.value)


def test_a_line_of_options_that_is_none_is_refused_with_its_number(tmp_path):
    file = tmp_path / "kafka.properties"
    file.write_text("a.b=1\nwhat\n")
    with pytest.raises(InvalidArgument, match="whose line 2 is 'what'; it must be name=value"):
        parsed(f"kafka://host/topic?options={file}")


def test_outputs_must_be_in_the_same_place_as_the_log():
    with pytest.raises(InvalidArgument, match="they must be in one place, so that what is read and what is written"):
        open_member("redis://a/0", to="redis://b/0")
    with pytest.raises(InvalidArgument, match="outputs to kafka at b:9092 of a log in redis at redis://a/0"):
        open_member("redis://a/0", to="kafka://b:9092/out")


def test_a_log_in_redis_is_opened_by_its_url(tmp_path):
    with serving(tmp_path) as port:
        url = f"redis://127.0.0.1:{port}/0?stream=log&group=g"
        writer = open_writer(f"redis://127.0.0.1:{port}/0?stream=log&partitions=2")
        writer.write(1, b"", b"here")
        writer.close()
        follower = Follower(open_member(url, to=f"redis://127.0.0.1:{port}/0?stream=out"))
        until(lambda: len(follower.read) == 1, follower)
        assert follower.member.partitions == writer.partitions == 2
        follower.member.close()
