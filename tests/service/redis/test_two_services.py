"""Two real services on one Redis, each with a prefix of its own: neither reads or writes anything of the other."""

import pytest
import redis

from tests.support.real import Service
from tests.support.redis_server import serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("redis"), "--appendonly", "yes", "--appendfsync", "always") as port:
        yield port


@pytest.fixture(scope="module")
def pair(tmp_path_factory, environment, model_folder, port):
    flags = (
        *("--model", str(model_folder), "--n-features", "2", "--detector", "marginal", "--history", "off"),
        *("--redis", f"redis://127.0.0.1:{port}/0", "--journal", "redis", "--snapshot-every", "3600"),
    )
    pair = [Service(tmp_path_factory.mktemp(name), environment, *flags, "--redis-prefix", name) for name in ("a", "b")]
    for service in pair:
        service.begin()
    for service in pair:
        service.wait(200)
    yield pair
    for service in pair:
        service.kill()


def click(name, n):
    return {
        **{"click_id": f"c{n}", "ts": 1_790_000_000_000 + n, "ip": "192.0.2.1", "user_agent": "u", "device": "phone"},
        **{"user_id": name, "session_id": "s", "marketplace": "US", "ad_id": "ad", "logged_in": True},
    }


def test_two_services_on_one_redis_share_no_journal_no_counter_and_no_id(pair, port):
    one, other = pair
    one.post("/v1/update", [{"slice": "web", "x": [1.0, 2.0], "id": "same"}] + [{"slice": "web", "x": [0.0, 1.0]}] * 9)
    other.post("/v1/update", [{"slice": "web", "x": [7.0, 7.0], "id": "same"}])  # no conflict: the id is its own
    first = [one.post("/v1/clicks", [click("u", n) for n in range(20)]) for _ in range(1)]
    alone = other.post("/v1/clicks", [click("u", n) for n in range(20)])  # the same ids, and none came before
    assert [answer["p_robot"] for answer in alone] == [answer["p_robot"] for answer in first[0]]
    assert (one.slice("events", "web")["events"], other.slice("events", "web")["events"]) == (10, 1)
    with redis.Redis(port=port) as client:
        names = {name[:2].strip(b"{")[:1] for name in client.scan_iter()}
    assert names == {b"a", b"b"}
    other.kill()
    one.post("/v1/update", [{"slice": "web", "x": [2.0, 2.0]}] * 5)
    other.start()  # from its own journal alone
    assert other.slice("events", "web")["events"] == 1
    again = other.post("/v1/clicks", [click("u", n) for n in range(20)])  # its own answers are remembered
    assert again == alone
    assert one.slice("events", "web")["events"] == 15
