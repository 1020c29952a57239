import asyncio
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onlineguard_service.http import cutting
from onlineguard_service.http.bodies import Items
from onlineguard_service.http.cutting import MOST_ITEM, PART, parts
from onlineguard_service.http.problems import Refused

from onlineguard.wire.requests import Event

TEXTS = st.text(st.sampled_from('ab"\\{}[],: \n\u65e5'), max_size=12)
VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
ITEMS = Items("event", Event)


@given(values=st.lists(VALUES, min_size=1, max_size=30), indent=st.none() | st.just(1), part=st.integers(1, 40))
def test_the_parts_of_an_array_hold_its_items_in_order_wherever_blocks_end(values, indent, part):
    body = json.dumps(values, indent=indent, ensure_ascii=False).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "PART", part)
        found = list(parts(body, False))
    assert [item for each in found for item in json.loads(each.body)] == values
    for each in found:
        inner = each.body[1:-1] if each is not found[-1] else each.body[1:]
        assert body[each.start + 1 :].startswith(inner)


@given(values=st.lists(VALUES, min_size=1, max_size=30), part=st.integers(1, 40))
def test_the_parts_of_lines_are_whole_lines(values, part):
    body = msgspec.json.Encoder().encode_lines(values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "PART", part)
        found = list(parts(body, True))
    assert b"".join(each.body for each in found) == body
    assert [each.lines for each in found] == [body[: each.start].count(b"\n") for each in found]


def decoded(body, lines=False, most=1_000_000):
    return asyncio.run(ITEMS.decoded(body, lines, most))


def events(n, **last):
    told = [{"slice": f"a {i}", "x": [1.0, 2.0]} for i in range(n)]
    return [*told, {"slice": "last", "x": [1.0], **last}]


@pytest.mark.parametrize("lines", [False, True])
def test_a_large_body_gives_the_same_items_as_if_it_were_decoded_whole(lines):
    encode = msgspec.json.Encoder()
    body = encode.encode_lines(events(5_000)) if lines else encode.encode(events(5_000))
    assert len(body) > 2 * PART
    assert decoded(body, lines) == ITEMS.decode(body, lines)


@pytest.mark.parametrize(
    ("body", "lines", "status", "told"),
    [
        (json.dumps(events(5_000, x=[[]])), False, 422, "event 5000 field x[0] is []; x must be a list of numbers"),
        (json.dumps(events(5_000, ts=1_790_000_000)), False, 422, "event 5000 field ts is 1790000000, which are sec"),
        (json.dumps(events(5_000, features={"a": 1})), False, 422, "event 5000 has x and features"),
        ("\n".join(map(json.dumps, events(5_000, ids="i"))), True, 422, "event 5000 has a field"),
        ("\n".join(map(json.dumps, events(5_000))) + "\n{,", True, 400, "line 5002 of the body is no JSON"),
        (json.dumps(events(5_000))[:-1] + ",]", False, 400, "the body is no JSON"),
        ("[," + json.dumps(events(5_000))[1:], False, 400, "the body is no JSON"),
        (json.dumps(events(5_000))[:-1] + "," + " " * 100_000 + "]", False, 400, "an item is missing beside a comma"),
        (json.dumps(events(5_000)) + "]", False, 400, "the body is no JSON"),
        (json.dumps(events(5_000))[:-9], False, 400, "it ends too early"),
        (json.dumps(events(5_000, x=[1] * MOST_ITEM)), False, 413, "has more than 262,144 bytes"),
        (" " * 4_000_000 + "{}", False, 400, "the body begins with 65,536 bytes of white space or more"),
        (" " * 4_000_000, True, 400, "the body begins with 65,536 bytes of white space or more"),
        (json.dumps(events(0, x=[1] * MOST_ITEM)[0]), False, 413, "has more than 262,144 bytes"),
        (json.dumps(events(0, x=[1] * MOST_ITEM)[0]), True, 413, "has more than 262,144 bytes"),
    ],
)
def test_what_is_wrong_in_a_large_body_is_told_with_its_place_in_the_whole(body, lines, status, told):
    with pytest.raises(Refused) as refused:
        decoded(body.encode(), lines)
    assert refused.value.status == status
    assert told in refused.value.detail


def test_the_place_of_a_byte_that_is_no_json_is_its_place_in_the_whole_body():
    body = json.dumps(events(5_000)).encode()
    at = body.index(b'"slice": "a 4321"') + 7
    broken = body[:at] + b";" + body[at + 1 :]
    with pytest.raises(msgspec.DecodeError) as whole:
        msgspec.json.decode(broken)
    with pytest.raises(Refused) as refused:
        decoded(broken)
    place = str(whole.value).rpartition("(byte ")[2]
    assert f"(byte {place}" in refused.value.detail


def test_more_items_than_there_may_be_are_refused_before_all_are_decoded():
    with pytest.raises(Refused, match=r"holds at least .*, more than the batch_limit of 100"):
        decoded(json.dumps(events(50_000)).encode(), most=100)
    with pytest.raises(Refused, match="holds 102 events, more than the batch_limit of 100"):
        decoded(json.dumps(events(101)).encode(), most=100)
