"""Counters in this process: their laws, their limits, and their equality with the definition."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onlineguard.slidr.counters import COLUMNS, ProcessStore
from slidr_oracle import Oracle
from slidr_streams import cut, gateway, streams


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


def test_distinct_users_of_a_gateway_are_counted_exactly_up_to_the_cap():
    keys = gateway(1_500, 500, 0)
    expected = Oracle().count(keys)
    np.testing.assert_array_equal(ProcessStore().count(keys), expected)
    for column in ("ip_users_24h", "ip_sessions_24h"):
        assert expected[:, COLUMNS.index(column)].max() == 256
    assert expected[:, COLUMNS.index("ip_users_1h")].max() < 256
