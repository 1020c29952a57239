"""Counters in this process: their laws, their limits, and their equality with the definition."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlineguard.slidr.counting import entities
from onlineguard.slidr.counting.click_clock import Clock
from onlineguard.slidr.counting.counters import ClickKeys, ProcessStore
from onlineguard.slidr.counting.windows import COLUMNS, FIRST
from tests.support.same import assert_same
from tests.support.slidr_oracle import Oracle
from tests.support.slidr_streams import DAY, HOUR, MINUTE, NOON, SECOND, cut, gateway, streams


@given(streams(), st.lists(st.integers(0, 60), max_size=4))
def test_the_process_store_counts_as_defined_however_the_stream_is_cut(keys, cuts):
    expected = Oracle().count(keys)
    store = ProcessStore()
    parts = cut(keys, [min(c, len(keys.ts)) for c in cuts])
    np.testing.assert_array_equal(np.concatenate([store.count(part) for part in parts]), expected)


@given(streams(30))
def test_click_by_click_equals_a_batch(keys):
    whole, single = ProcessStore(), ProcessStore()
    one_by_one = [single.count(part) for part in cut(keys, list(range(1, len(keys.ts))))]
    np.testing.assert_array_equal(np.concatenate(one_by_one), whole.count(keys))


@pytest.mark.slow
def test_distinct_users_of_a_gateway_are_counted_exactly_up_to_the_cap():
    keys = gateway(1_500, 500, 0)
    expected = Oracle().count(keys)
    np.testing.assert_array_equal(ProcessStore().count(keys), expected)
    for column in ("ip_users_24h", "ip_sessions_24h"):
        assert expected[:, COLUMNS.index(column)].max() == 256
    assert expected[:, COLUMNS.index("ip_users_1h")].max() < 256


def keys(*clicks, user="anna", ip="192.0.2.1"):
    """Clicks of one user as (id, milliseconds after NOON)."""
    ids, after = zip(*clicks, strict=True)
    n = len(ids)
    return of_one_ad(list(ids), NOON + np.array(after, np.int64), [user] * n, [None] * n, [ip] * n)


def of_one_ad(ids, ts, users, sessions, ips):
    return ClickKeys(ids, ts, users, sessions, ips, ["ad"] * len(ids), [False] * len(ids))


def column(counts, name):
    return counts[:, COLUMNS.index(name)].tolist()


@given(streams())
def test_dropping_old_entities_changes_no_number(stream):
    with mock.patch.object(entities, "FIRST_ROOM", 2):
        store = ProcessStore()
        counts = np.concatenate([store.count(part) for part in cut(stream, list(range(0, len(stream.ts), 5)))])
    np.testing.assert_array_equal(counts, Oracle().count(stream))


@given(streams(), st.integers(0, 60))
def test_a_store_that_was_dumped_and_restored_counts_on_as_if_nothing_had_happened(stream, at):
    with mock.patch.object(entities, "FIRST_ROOM", 2):  # so that rows are dropped and tables grow
        store = ProcessStore()
        before, after = cut(stream, [min(at, len(stream.ts))])
        store.count(before)
        dump = store.dump()
        again = ProcessStore.restored(dump)
        np.testing.assert_array_equal(again.count(after), store.count(after))
        assert_same(again.dump(), store.dump())
        assert_same(ProcessStore.restored(dump).dump(), dump)  # which counting on has not changed


@given(streams())
def test_to_peek_is_to_count_without_counting(stream):
    store = ProcessStore()
    parts = cut(stream, list(range(1, len(stream.ts))))
    for part in parts:
        peeked = store.peek(part)
        np.testing.assert_array_equal(store.peek(part), peeked)
        np.testing.assert_array_equal(store.count(part), peeked)


def test_memory_holds_the_users_of_two_days_and_the_ips_of_eight_and_no_more():
    store = ProcessStore()
    sizes = []
    for day in range(24):
        names = [f"{day}-{i}" for i in range(1_000)]
        ts = NOON + day * DAY + np.arange(1_000) * (DAY // 1_000)
        store.count(ClickKeys(names, ts, names, names, names, names, [False] * 1_000))
        sizes.append([len(store._tables.ips), len(store._tables.users), len(store._tables.ads)])
    # 194 h and 50 h of 1,000 a day are alive, and others are dropped once all room is taken, which grows by doubling
    ips, users, ads = np.array(sizes).T
    assert max(ips[16:]) <= max(ips) < 16_384
    for shorter in (users, ads):
        assert max(shorter[4:]) <= max(shorter) < 4_096
    ids = store._ids._hours
    assert sum(map(len, ids)) <= 2 * 1_000


def test_even_pauses_have_a_small_spread_and_a_day_of_silence_forgets_it():
    store = ProcessStore()
    even = column(store.count(keys(*((f"{i}", i * (2**13 - 1)) for i in range(60)))), "user_spread")
    assert even[:3] == [90**2, 2 * 90**2 // 3, 2 * 90**2 // 4]  # a weak opinion, that each pause outweighs more
    assert even[-1] < 90**2 / 8
    store.count(keys(*((f"else {i}", i * 20 * MINUTE) for i in range(1, 4)), user="else"))
    long, short = column(store.count(keys(("a", HOUR), ("b", HOUR + 100))), "user_spread")
    assert long == even[-1]  # more than half an hour is no pause
    assert short > even[-1]
    store.count(keys(*((f"else {i}", i * 20 * MINUTE) for i in range(4, 80)), user="else"))
    assert column(store.count(keys(("c", 26 * HOUR))), "user_spread") == [90**2]


def test_the_spread_is_the_variance_of_the_pauses_logarithms():
    rng = np.random.default_rng(0)
    for deviation in (0.3, 1.2):
        pauses = np.exp(9.5 + deviation * rng.standard_normal(400)).astype(int)
        ts = np.cumsum(pauses.clip(max=29 * MINUTE))
        spread = column(ProcessStore().count(keys(*((f"{i}", t) for i, t in enumerate(ts.tolist())))), "user_spread")
        octaves = np.sqrt(np.array(spread[16:])).mean() / 64
        assert octaves == pytest.approx(deviation / np.log(2), rel=0.2)


def test_a_week_counts_the_clicks_of_seven_days_of_ips():
    store = ProcessStore()
    stream = keys(*((f"{i}", i * 30 * MINUTE) for i in range(10 * 48)))
    counts = store.count(stream)
    day = stream.ts // DAY
    expected = [int((day[: i + 1] > day[i] - 7).sum()) for i in range(len(day))]
    assert max(expected) == 7 * 48
    assert column(counts, "ip_7d") == expected
    assert [name for name in COLUMNS if name.endswith("7d")] == ["ip_7d"]


def test_windows_are_their_buckets_at_the_second():
    """NOON begins a bucket of 10 s, and lies 20 s into its minute, 200 s into its 5 min, and 800 s into its hour."""
    edges = {"1m": 60 * SECOND, "5m": 280 * SECOND, "1h": 3_400 * SECOND, "24h": 24 * HOUR - 800 * SECOND}
    for i, (window, edge) in enumerate(edges.items()):
        for j, (after, expected) in enumerate(((edge - 1, 2), (edge, 1))):
            fresh = ProcessStore()
            fresh.count(keys(("a", 0)))
            # steps that the stream's clock follows
            steps = [(f"{i}{j}{k}", t) for k, t in enumerate(range(20 * MINUTE, after, 20 * MINUTE))]
            if steps:
                fresh.count(keys(*steps, user="else"))
            assert column(fresh.count(keys(("b", after))), f"user_{window}") == [expected], (window, after)


def test_an_ad_counts_the_signed_in_and_the_unknown_among_its_visitors_of_a_day():
    """NOON lies 800 s into its hour, so the clicks at 50 min are in the next one."""
    stream = ClickKeys(
        ["a", "b", "b", "c", "d", "e"],  # the third is a duplicate
        NOON + np.array([0, 25, 25, 50, 50, 24 * 60]) * MINUTE,
        ["anna", None, None, "bert", None, "anna"],
        [None] * 6,
        ["192.0.2.1"] * 6,
        ["one", "one", "one", "two", "one", "one"],
        [True, True, False, False, False, True],
    )
    steps = range(70 * MINUTE, 24 * HOUR, 20 * MINUTE)  # that the stream's clock follows
    store = ProcessStore()
    counts = [store.count(part) for part in (stream.part(0, 5), keys(*((f"{t}", t) for t in steps)), stream.part(5, 6))]
    first, others, last = (
        np.stack([column(part, f"ad_{what}_24h") for what in ("clicks", "signed", "unknown")], axis=1).tolist()
        for part in counts
    )
    assert first == [[1, 1, 0], [2, 2, 1], [2, 2, 1], [1, 0, 0], [3, 2, 2]]
    assert others[0] == [1, 0, 0]
    assert last == [[2, 1, 1]]


def test_a_late_click_counts_into_its_own_bucket_and_does_not_move_the_head():
    counts = ProcessStore().count(keys(("a", 0), ("late", -10 * MINUTE), ("b", SECOND)))
    assert column(counts, "user_5m") == [1, 1, 2]
    assert column(counts, "user_1h") == [1, 2, 3]
    assert column(counts, "user_since") == [FIRST, 0, SECOND]


def test_a_duplicate_sees_its_numbers_and_is_counted_once_until_a_day_has_passed():
    store = ProcessStore()
    counts = store.count(keys(("a", 0), ("a", SECOND), ("a", 2 * SECOND)))
    assert column(counts, "user_24h") == [1, 1, 1]
    assert column(counts, "user_since") == [FIRST, SECOND, 2 * SECOND]
    store.count(keys(*((f"{i}", i * 20 * MINUTE) for i in range(1, 72)), user="else"))
    again = store.count(keys(("a", 23 * HOUR + 30 * MINUTE)))
    assert (column(again, "user_24h"), column(again, "user_since")) == ([1], [23 * HOUR + 30 * MINUTE])
    assert column(store.count(keys(("b", 23 * HOUR + 50 * MINUTE), ("a", 24 * HOUR))), "user_24h") == [1, 2]


@pytest.mark.parametrize("ahead", [31 * MINUTE, HOUR, 5 * HOUR, 3 * DAY, 900 * DAY])
def test_one_click_from_the_future_counts_now_and_wipes_nothing(ahead):
    before = keys(*((f"{i}", i * SECOND) for i in range(5)))
    store = ProcessStore()
    store.count(before)
    counts = store.count(keys(("wrong", 5 * SECOND + ahead), ("right", 6 * SECOND)))
    assert column(counts, "user_1m") == [6, 7]
    assert column(counts, "user_since") == [0, 2 * SECOND]


def test_a_machine_whose_clock_is_wrong_changes_nothing_for_the_others():
    rng = np.random.default_rng(0)
    n = 5_000
    wrong = rng.random(n) < 0.3
    wrong[0] = False
    ts = NOON + np.maximum.accumulate(np.where(wrong, 0, np.arange(n) * 100))  # its clicks come right after others
    users = ["machine" if w else f"u{u}" for w, u in zip(wrong, rng.integers(0, 50, n), strict=True)]
    stream = of_one_ad([str(i) for i in range(n)], ts, users, [None] * n, ["192.0.2.1"] * n)
    faulty = stream._replace(ts=ts + np.where(wrong, 400 * DAY, 0))
    np.testing.assert_array_equal(ProcessStore().count(faulty), ProcessStore().count(stream))


def test_a_click_far_behind_is_answered_and_not_counted():
    store = ProcessStore()
    store.count(keys(("a", 0)))
    counts = store.count(keys(("old", -DAY), ("older", -9_000 * DAY), ("b", SECOND)))
    assert column(counts, "user_24h") == [1, 1, 2]


@pytest.mark.parametrize(("silence", "clicks"), [(HOUR, 6), (4 * HOUR, 8), (7 * DAY, 14)])
def test_a_silent_stream_catches_up_within_a_few_clicks(silence, clicks):
    clock = Clock()
    reading = clock.read(np.concatenate([[NOON], np.full(clicks, NOON + silence)]))
    assert reading.times.tolist() == [NOON] * clicks + [NOON + silence]
    assert reading.counted.all()


def test_a_stream_that_begins_with_a_wrong_clock_heals():
    """A first click 73 years ahead: all others are far behind it, until 26 of them in a row set the clock back."""
    wrong = NOON + 73 * 365 * DAY
    ts = np.concatenate([[wrong], NOON + np.arange(40) * SECOND])
    stream = of_one_ad([str(i) for i in range(41)], ts, ["anna"] * 41, [None] * 41, ["192.0.2.1"] * 41)
    counts = ProcessStore().count(stream)
    np.testing.assert_array_equal(counts, Oracle().count(stream))
    assert column(counts, "user_24h")[24:28] == [1, 1, 1, 2]
    assert column(counts, "user_since")[24:28] == [0, 0, FIRST, SECOND]


@given(streams())
def test_the_clock_reads_the_same_however_the_stream_is_cut(stream):
    whole = Clock().read(stream.ts)
    clock = Clock()
    singles = [clock.read(stream.ts[i : i + 1]) for i in range(len(stream.ts))]
    for part, column in zip(zip(*singles, strict=True), whole, strict=True):
        np.testing.assert_array_equal(np.concatenate(part), column)
