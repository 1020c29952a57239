"""Clicks that come with their counts: judged by these, however they are cut into calls, and by nobody who counts."""

import msgspec
import pytest
from onlineguard_service.entries import Clicks, Switch, encode
from onlineguard_service.models import Models
from onlineguard_service.partitions.log import Record
from onlineguard_service.partitions.records import Poison, counted, decoded

from onlineguard.slidr.counting.counters import ClickKeys, ProcessStore
from tests.support.shards import NOON, one_by_one, shard


@pytest.fixture(scope="module")
def models(model_folder, tmp_path_factory):
    kept = Models(tmp_path_factory.mktemp("models"))
    kept.first = kept.put(model_folder).version
    return kept


@pytest.fixture(scope="module")
def given(clicks):
    """A few clicks a record, some of them twice, as a replica writes them."""
    store, found = ProcessStore(), []
    for offset, start in enumerate(range(0, 120, 3)):
        part = clicks[start : start + 3]
        value = counted(part, store.count(ClickKeys.of(part)).tobytes())
        found.append(Record(2 * offset, NOON + 40 * offset, value, "counted"))
        if offset % 7 == 0:
            found.append(Record(2 * offset + 1, NOON + 40 * offset, value, "counted"))
    return found


@pytest.mark.parametrize("size", [3, 19, 200])
def test_counted_clicks_lead_to_the_same_however_they_are_cut_into_calls(models, given, size):
    whole, parts = shard(models, counting=False), shard(models, counting=False)
    expected, _ = one_by_one(whole, given)
    outputs = [o for start in range(0, len(given), size) for o in parts.apply(given[start : start + size]).outputs]
    assert outputs == expected
    assert parts.digest() == whole.digest()
    assert {output.to for output in outputs} >= {"decisions"}


def test_counted_clicks_are_decided_as_by_a_shard_that_counts_them_itself(models, given, clicks):
    there, here = shard(models, counting=False), shard(models)
    outputs, _ = one_by_one(there, given[:30])
    plain = [record._replace(kind="clicks", value=msgspec.json.encode(decoded(record).clicks)) for record in given[:30]]
    assert one_by_one(here, plain)[0] == outputs


def test_clicks_that_come_as_a_shard_does_not_take_them_are_dead_letters(models, given, clicks):
    with_counts, plain = given[0], Record(1, NOON, msgspec.json.encode(clicks[0]), "clicks")
    for one, record, told in (
        (shard(models), with_counts, b"begin them with --counted"),
        (shard(models, counting=False), plain, b"send them to a replica"),
    ):
        (letter,) = one.apply([record]).outputs
        assert letter.to == "dead"
        assert told in letter.value


@pytest.mark.parametrize("value", [b"", b"{}", encode(Switch("v", 0)), "few", "looked up"])
def test_what_holds_no_counted_clicks_is_poison(value, clicks):
    if value == "few":
        value = counted(clicks[:2], bytes(136))
    elif value == "looked up":
        value = encode(Clicks(clicks[:1], 0, bytes(136), b"1234"))
    with pytest.raises(Poison, match="make it with `counted`"):
        decoded(Record(0, NOON, value, "counted"))
