from contextlib import suppress

import msgspec
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from onlineguard_service import entries
from onlineguard_service.partitions.division import divided
from onlineguard_service.partitions.log import Record
from onlineguard_service.partitions.records import (
    MOST,
    MOST_VALUE,
    DeadLetter,
    Poison,
    controlled,
    dead_letter,
    decoded,
    parted,
)

from onlineguard.wire import arrow
from onlineguard.wire.placement import key_of_slice, partition_of
from onlineguard.wire.requests import Click, Event, Label

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SLICES = TEXT | st.integers(-(2**63), 2**63 - 1) | st.lists(TEXT | st.integers(0, 9), min_size=1, max_size=3).map(tuple)
NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)
EVENTS = st.builds(Event, slice=SLICES, x=st.lists(NUMBERS | st.none(), max_size=4), id=st.none() | TEXT)
CLICK = {"click_id": "c", "ts": 1_700_000_000_000, "ip": "192.0.2.1", "user_agent": "a", "device": "phone"}
CLICK |= {"marketplace": "US", "ad_id": "ad", "logged_in": True}


@given(st.lists(EVENTS, min_size=1, max_size=5), st.integers(0, 2**45))
def test_events_that_are_sent_as_json_come_back_as_an_entry_at_the_time_of_the_record(events, t):
    assert decoded(Record(7, t, msgspec.json.encode(events))) == entries.Events(events, t)


def test_one_event_needs_no_array():
    assert decoded(Record(0, 5, b'{"slice": "a", "x": [1]}')) == entries.Events([Event("a", [1.0])], 5)


@given(st.lists(st.lists(NUMBERS, min_size=2, max_size=2), min_size=1, max_size=5))
def test_a_stream_of_arrow_is_the_same_entry_as_json(rows):
    table = pa.table({"slice": [f"s{i}" for i in range(len(rows))], "x": rows})
    (body,) = arrow.parts(table, False, MOST)
    assert decoded(Record(0, 5, body)) == entries.Events([Event(f"s{i}", x) for i, x in enumerate(rows)], 5)


def test_clicks_and_labels_are_entries_of_their_kind():
    value = msgspec.json.encode([CLICK])
    assert decoded(Record(0, 9, value, "clicks")) == entries.Clicks([Click(**CLICK)], 9)
    assert decoded(Record(0, 9, b'{"click_id": "c", "rfm": 4}', "labels")) == entries.Labels([Label("c", rfm=4.0)], 9)


def test_what_the_operator_sends_happens_at_the_time_of_the_record():
    for entry in (entries.Switch("v2", 1), entries.Tune(entries.Options(target_rate=0.02), 1), entries.Erase("u", 1)):
        assert decoded(Record(0, 77, controlled(entry), "control")) == msgspec.structs.replace(entry, t=77)


@pytest.mark.parametrize(
    ("value", "kind", "reason"),
    [
        (b"", "events", "the body is empty"),
        (b'{"slice": 1.5, "x": []}', "events", "event field slice is 1.5; slice must be text, a whole number"),
        (b'{"slice": "a"}', "events", "event has neither x nor features"),
        (b'[{"slice": "a", "x": [1]}, {"slice": "a", "y": 2}]', "events", "event 1 has a field 'y', which is unknown"),
        (b"\xff\xff\xff\xff\x10", "events", "the body is no stream of Arrow"),
        (msgspec.json.encode(CLICK | {"ts": 1_700_000_000}), "clicks", "which are seconds"),
        (b"{}", "pictures", "kind is 'pictures'; it must be one of events, clicks, labels, counted, control"),
        (b"\x91\xa4what", "control", "no entry of the operator"),
        (controlled(entries.Events([], 0)), "control", "the record holds Events, which no operator sends"),
        (msgspec.json.encode([{"slice": "a", "x": []}] * (MOST + 1)), "events", "the record holds 10,001 events"),
    ],
)
def test_a_record_that_is_nothing_is_refused_with_the_reason(value, kind, reason):
    with pytest.raises(Poison) as error:
        decoded(Record(0, 0, value, kind))
    assert reason.replace("'", '"') in str(error.value).replace("'", '"')


@given(st.sampled_from(["events", "clicks", "labels", "control", ""]), st.binary(max_size=40))
def test_any_bytes_are_an_entry_or_poison(kind, value):
    record = Record(0, 3, value, kind)
    with suppress(Poison):
        assert decoded(record).t == 3


@given(st.binary(max_size=30) | st.just(b"\xff" * (MOST_VALUE + 1)) | st.just(b"x" * (MOST_VALUE + 1)))
def test_a_dead_letter_holds_the_value_its_place_and_the_reason_within_bounds(value):
    output = dead_letter(3, Record(41, 9, value), "why")
    letter = msgspec.json.decode(output.value, type=DeadLetter)
    assert (output.offset, output.number, output.to, output.key) == (41, 0, "dead", b"3:41")
    assert (letter.reason, letter.partition, letter.offset, letter.kind, letter.t) == ("why", 3, 41, "events", 9)
    assert letter.size == len(value)
    kept = letter.value.encode() or msgspec.json.decode(f'"{letter.base64}"', type=bytes)
    assert kept == value[:MOST_VALUE]


@given(st.binary(max_size=40), st.integers(1, 1000))
def test_a_key_belongs_to_one_of_the_partitions(key, partitions):
    assert 0 <= partition_of(key, partitions) < partitions


@given(st.lists(EVENTS, max_size=20), st.integers(1, 5))
def test_a_batch_is_divided_by_slice_in_order(events, partitions):
    found = parted(events, partitions)
    assert sorted(map(repr, events)) == sorted(repr(item) for items in found.values() for item in items)
    for partition, items in found.items():
        assert items == [event for event in events if partition_of(key_of_slice(event.slice), partitions) == partition]


@example(members={"a"}, partitions=1)
@given(st.sets(st.text(min_size=1, max_size=5), min_size=1, max_size=8), st.integers(1, 40))
def test_partitions_are_divided_evenly_and_alike_whoever_asks(members, partitions):
    names = sorted(members)
    chosen = divided(partitions, names)
    counts = [chosen.count(name) for name in names]
    assert max(counts) - min(counts) <= 1
    assert chosen == divided(partitions, names[::-1])


def test_few_partitions_move_when_a_member_joins():
    names = [f"worker-{i}" for i in range(10)]
    before, after = divided(1000, names), divided(1000, [*names, "worker-10"])
    assert sum(a != b for a, b in zip(before, after, strict=True)) < 300  # 91 is the least
