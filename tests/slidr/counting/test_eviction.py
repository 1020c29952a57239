"""Counters that may hold so many entities and no more: who goes, what stays exact, and what is kept of long names."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlineguard.slidr.counting.counters import CLICKS, ClickKeys, ProcessStore
from onlineguard.slidr.counting.tables import PAIRS
from onlineguard.slidr.counting.windows import COLUMNS, PRIOR_SPREAD
from tests.support.same import assert_same
from tests.support.slidr_oracle import Oracle
from tests.support.slidr_streams import HOUR, MINUTE, NOON, cut, streams

MOST = 512
SEEN = [COLUMNS.index(name) for name in ("user_24h", "session_24h", "ip_24h", "ip_users_24h", "ip_sessions_24h")]


def visits(visitors, at, serial):
    """A click of each visitor, who has a session and an address of their own."""
    ids = [f"click {serial + i}" for i in range(len(visitors))]
    users, sessions = [f"user {v}" for v in visitors], [f"session {v}" for v in visitors]
    ips = [f"10.{v >> 16}.{v >> 8 & 255}.{v & 255}" for v in visitors]
    return ClickKeys(ids, np.full(len(ids), at), users, sessions, ips, ["ad"] * len(ids), [True] * len(ids))


@pytest.fixture(scope="module")
def flooded():
    """A store after twice as many new visitors as it may hold, among whom 100 regulars clicked before."""
    store, serial = ProcessStore(MOST), 0
    for k in range(3):
        store.count(visits(range(100), NOON + k * MINUTE, serial))
        serial += 100
    for k in range(2 * MOST // 32):
        store.count(visits(range(1_000 + 32 * k, 1_032 + 32 * k), NOON + 5 * MINUTE + k, serial))
        serial += 32
    return store


@given(streams())
def test_while_nothing_was_evicted_a_bound_changes_no_number_and_no_state(keys):
    bounded, free = ProcessStore(400), ProcessStore()
    counts = np.concatenate([bounded.count(part) for part in cut(keys, list(range(0, len(keys.ts), 7)))])
    np.testing.assert_array_equal(counts, Oracle().count(keys))
    free.count(keys)
    assert not any(bounded.evicted.values())
    assert_same(bounded.dump(), free.dump())


def test_a_flood_of_new_visitors_pushes_itself_out_and_regulars_count_on(flooded):
    store = ProcessStore.restored(flooded.dump(), MOST)
    assert store.evicted["users"] > MOST // 2
    counts = store.count(visits(range(60), NOON + 9 * MINUTE, 10_000))[:, SEEN]
    assert counts.tolist() == [[4, 4, 4, 1, 1]] * 60  # the same session each time


def test_whatever_comes_no_more_is_held_than_the_bound(flooded):
    sizes = flooded.sizes()
    assert max(size for kind, size in sizes.items() if kind != "pairs") <= MOST
    assert sizes["pairs"] <= PAIRS * MOST
    store = ProcessStore(128)
    for k in range(60):
        store.count(visits(range(10 * k, 10 * k + 10), NOON + k * MINUTE, 10 * k))
    dump = store.dump()["ids"]
    assert sum(map(len, dump["hours"])) == sum(len(ids) for _, ids in dump["order"]) == CLICKS * 128
    assert (
        store.count(visits(range(595, 600), NOON + HOUR, 595))[:, SEEN[0]].tolist() == [1] * 5
    )  # the newest are remembered


def test_who_was_evicted_counts_from_zero(flooded):
    store = ProcessStore.restored(flooded.dump(), MOST)
    gone = next(v for v in range(1_000, 1_100) if not store._tables.users.place(f"user {v}"))
    (counts,) = store.count(visits([gone], NOON + 9 * MINUTE, 20_000))
    assert counts[SEEN].tolist()[:1] == [1]
    assert counts[COLUMNS.index("user_spread")] == PRIOR_SPREAD


@given(streams(), st.integers(1, 6), st.integers(0, 60), st.sampled_from([1, 1, 3]))
def test_counts_under_any_bound_are_between_zero_and_the_true_ones_and_a_restored_store_evicts_the_same(
    keys, most, at, step
):
    store = ProcessStore(most)
    before, after = cut(keys, [min(at, len(keys.ts))])
    counts = [store.count(part) for part in cut(before, list(range(0, len(before.ts), step)))]
    again = ProcessStore.restored(store.dump(), most)
    parts = cut(after, list(range(0, len(after.ts), step)))
    peeked = [store.peek(part.part(0, 1)) for part in parts if len(part.ts)]
    assert all((row >= 0).all() for row in peeked)
    rest = [store.count(part) for part in parts]
    np.testing.assert_array_equal(np.concatenate([again.count(part) for part in parts]), np.concatenate(rest))
    assert_same(again.dump(), store.dump())
    found = np.concatenate([*counts, *rest])
    assert (found >= 0).all()
    if len(set(keys.click_ids)) == len(keys.ts):  # else one that was forgotten may count again
        days = [COLUMNS.index(f"{entity}_24h") for entity in ("user", "session", "ip", "prefix")]
        assert (found[:, days] <= Oracle().count(keys)[:, days]).all()


def test_of_those_that_count_the_same_the_one_clicked_longest_ago_goes():
    store = ProcessStore(64)
    for hour in range(5):
        store.count(visits(range(20 * hour, 20 * hour + 20), NOON + hour * HOUR, 20 * hour))
    kept = [v for v in range(100) if store._tables.users.place(f"user {v}")]
    assert kept[0] >= 30
    assert set(range(80, 100)) <= set(kept)


def test_a_lower_bound_takes_effect_at_once_and_the_most_useful_stay(flooded):
    store = ProcessStore.restored(flooded.dump(), MOST)
    store.keep(250)
    assert max(size for kind, size in store.sizes().items() if kind != "pairs") <= 250
    assert (store.count(visits(range(60), NOON + 9 * MINUTE, 30_000))[:, SEEN[0]] == 4).all()


def test_a_dump_of_before_there_was_a_bound_is_read():
    store, keys = ProcessStore(), visits(range(30), NOON, 0)
    store.count(keys)
    old = store.dump()
    for name in ("epoch", "evicted"):
        del old[name]
    for name in store.sizes():
        del old[name]["born"], old[name]["hand"]
    again, more = ProcessStore.restored(old, MOST), visits(range(30), NOON + MINUTE, 30)
    np.testing.assert_array_equal(again.count(more), store.count(more))
    assert_same(again.dump(), store.dump())


@given(streams(30))
def test_a_long_name_is_kept_as_a_hash_and_counts_the_same(keys):
    long = keys._replace(
        click_ids=[f"{'long' * 60}{id_}" for id_ in keys.click_ids],
        users=[None if user is None else "é" * 200 + user for user in keys.users],
        ads=["x" * 65 + ad for ad in keys.ads],
    )
    store = ProcessStore()
    counts = [store.count(part) for part in cut(long, list(range(0, len(keys.ts), 4)))]
    np.testing.assert_array_equal(np.concatenate(counts), ProcessStore().count(keys))
    np.testing.assert_array_equal(ProcessStore().count(long), ProcessStore().count(keys))
    np.testing.assert_array_equal(
        store.peek(long.part(0, 1)), ProcessStore.restored(store.dump()).peek(long.part(0, 1))
    )


def test_an_erased_user_counts_from_zero_and_is_named_nowhere():
    store = ProcessStore()
    for k in range(2):
        store.count(visits(range(5), NOON + k * MINUTE, 5 * k))
    store.erase("user 3")
    assert b"user 3" not in msgspec.msgpack.encode(store.dump(), enc_hook=np.ndarray.tolist)
    after = store.count(visits([3, 4], NOON + 5 * MINUTE, 10))[:, SEEN].tolist()
    assert after == [[1, 3, 3, 2, 1], [3, 3, 3, 1, 1]]  # the ip has seen two users: who came again is another one to it
