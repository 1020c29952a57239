"""Odd runs that are over: what opens a slice, and what does not."""

import numpy as np

from onlineguard.core.spread import Memory
from onlineguard.models.joint.returning import ONE, SHARE, Returning, returned, widened

PATIENCE = np.float32(5_000.0)


def after(state, lasted, over=True, replays=False, seen=20_000.0, usable=True):
    flags = map(np.bool_, (over, replays))
    return returned(state, np.int32(lasted), *flags, np.float32(seen), np.bool_(usable), PATIENCE)


def test_one_run_opens_nothing_however_long_it_was_and_two_do():
    once = after(Returning.blank(), 5_000)
    assert np.isclose(once.share, ONE)
    assert not once.open
    assert after(once, 5_000).open


def test_what_has_opened_stays_so_until_a_tenth_of_the_share_is_left():
    opened = Returning(np.float32(0.5 * SHARE), np.float32(0.0), np.bool_(True))
    assert after(opened, 0).open
    assert not after(opened._replace(share=np.float32(0.09 * SHARE)), 0).open
    assert not after(opened._replace(open=np.bool_(False)), 0).open


def test_a_run_that_lasts_counts_nothing_yet_and_a_replayed_one_never():
    state = Returning.blank()
    for _ in range(10):
        state = after(state, 1_000, over=False, replays=True)
    assert state.share == 0.0
    ended = after(state, 1_000)
    assert ended.share == 0.0
    assert ended.replayed == 0.0  # the next run is judged by itself


def test_an_event_with_nothing_in_it_changes_nothing():
    state = Returning(np.float32(0.1), np.float32(0.3), np.bool_(False))
    assert after(state, 1_000, usable=False) == state


def test_only_the_scales_of_an_open_slice_reach_towards_the_fast_memory():
    slow = Memory(*np.array([[0.0, 0.0], [1.0, 8.0], [0.0, 0.0]], np.float32))
    fast = slow._replace(location=np.array([10.0, 10.0], np.float32))
    np.testing.assert_array_equal(widened(slow, fast, np.bool_(True)).scale, [5.0, 8.0])
    np.testing.assert_array_equal(widened(slow, fast, np.bool_(False)).scale, slow.scale)
