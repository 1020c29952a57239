"""Where items belong among partitions."""

import msgspec
import pytest

from onlineguard.wire.placement import key_of, key_of_slice, partition_of
from onlineguard.wire.requests import Click, Event
from tests.support.answering import click


@pytest.mark.parametrize(
    ("key", "murmur2"),
    [
        (b"21", -973932308),
        (b"abc", 479470107),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    ],
)
def test_a_key_is_where_kafkas_own_clients_put_it(key, murmur2):
    for partitions in (2, 7, 64):
        assert partition_of(key, partitions) == (murmur2 & 0x7FFFFFFF) % partitions
    assert partition_of(key, 1) == 0


def test_the_key_of_an_event_is_that_of_its_slice():
    assert [key_of_slice(key) for key in ("web-1", 7, ("DE", 7))] == [b"web-1", b"7", b'["DE",7]']
    for key in ("web-1", 7, ("DE", 7)):
        sent = msgspec.json.decode(msgspec.json.encode({"slice": key, "x": [1.0]}))  # a tuple is a list there
        assert key_of(sent) == key_of(Event(key, [1.0])) == key_of_slice(key)


def test_the_key_of_a_click_is_its_user_or_its_session_or_itself():
    fields = click("c")
    for more, key in ({"user_id": "u", "session_id": "s"}, b"u"), ({"session_id": "s"}, b"s"), ({}, b"c"):
        assert key_of(fields | more) == key
        assert key_of(msgspec.convert(fields | more, Click)) == key
