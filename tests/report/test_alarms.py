"""Alarms: every anomalous event is in one, and no two could be one."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onlineguard.report import merge_alarms


@given(anomalous=hnp.arrays(np.bool_, st.integers(0, 60)), gap=st.integers(0, 12))
def test_alarms_are_the_runs_with_no_longer_gap(anomalous, gap):
    at = np.flatnonzero(anomalous)
    scores, p = np.arange(60.0)[at] % 7, 1 / (1 + np.arange(60.0)[at] % 5)
    alarms = merge_alarms(at, scores, p, gap)
    covered = np.zeros(len(anomalous) + 1, np.bool_)
    for alarm in alarms:
        assert anomalous[alarm.start]
        assert anomalous[alarm.end]
        covered[alarm.start : alarm.end + 1] = True
        inside = (at >= alarm.start) & (at <= alarm.end)
        assert (alarm.peak_score, alarm.p_value) == (scores[inside].max(), p[inside].min())
        assert np.diff(at[inside], prepend=alarm.start).max() <= gap + 1
    assert covered[:-1][anomalous].all()
    assert all(b.start - a.end - 1 > gap for a, b in pairwise(alarms))
