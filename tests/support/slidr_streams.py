"""Streams of clicks for property tests: late, doubled, tied, unknown, behind gateways, with wrong clocks."""

import itertools

import numpy as np
from hypothesis import strategies as st

from onlineguard.slidr.counting.counters import ClickKeys

NOON = 1_700_000_000_000  # 2023-11-14 22:13:20 UTC
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000

STEPS = st.one_of(
    st.sampled_from([0, 0, 0, 1, SECOND, 9 * SECOND, 10 * SECOND, 30 * SECOND, MINUTE, 5 * MINUTE, 25 * MINUTE]),
    st.integers(0, 20 * MINUTE),
    st.sampled_from([HOUR, 5 * HOUR, 23 * HOUR, DAY, 2 * DAY, 60 * HOUR]),
)
FAULTS = st.one_of(  # added to one click's time alone
    st.just(0),
    st.just(0),
    st.just(0),
    st.integers(-20 * MINUTE, 0),
    st.sampled_from([-HOUR, -23 * HOUR, -DAY, -3 * DAY, 31 * MINUTE, 5 * HOUR, 2 * DAY, 900 * DAY, -15_000 * DAY]),
)
_IPS = ["10.0.0.1", "10.0.0.2", "10.0.1.1", "77"]
CLICKS = st.tuples(
    STEPS,
    FAULTS,
    st.sampled_from([None, "a", "b", "c", "d"]),  # user
    st.sampled_from([None, "a", "s", "t", "u", "v", "w"]),  # session
    st.sampled_from(_IPS),
    st.sampled_from(["x", "y", "z"]),  # ad
    st.booleans(),  # signed in
    st.integers(0, 20),  # 0: an earlier click's id again
)


@st.composite
def streams(draw: st.DrawFn, most: int = 60) -> ClickKeys:
    """Up to `most` clicks in order of arrival."""
    clicks = draw(st.lists(CLICKS, min_size=1, max_size=most))
    steps, faults, users, sessions, ips, ads, signed_in, fresh = zip(*clicks, strict=True)
    times = NOON + np.cumsum(np.array(steps, np.int64))
    ids = [str(i) if fresh[i] else str(draw(st.integers(0, i))) for i in range(len(clicks))]
    ts = np.maximum(times + np.array(faults, np.int64), 0)
    return ClickKeys(ids, ts, list(users), list(sessions), list(ips), list(ads), list(signed_in))


def gateway(n: int, members: int, seed: int) -> ClickKeys:
    """Clicks of many users and sessions behind one ip within some hours, a fifth of them late by up to 40 min."""
    rng = np.random.default_rng(seed)
    ts = NOON + np.sort(rng.integers(0, 5 * HOUR, n)) - rng.integers(0, 40 * MINUTE, n) * (rng.random(n) < 0.2)
    users = [None if u == 0 else f"u{u}" for u in rng.integers(0, members, n)]
    sessions = [f"s{s}" for s in rng.integers(0, members, n)]
    ads = [f"ad{ad}" for ad in rng.integers(0, 10, n)]
    return ClickKeys([str(i) for i in range(n)], ts, users, sessions, ["10.9.9.9"] * n, ads, (ts % 2 > 0).tolist())


def cut(keys: ClickKeys, at: list[int]) -> list[ClickKeys]:
    """The stream in parts."""
    ends = [0, *sorted(at), len(keys.ts)]
    return [keys.part(a, b) for a, b in itertools.pairwise(ends)]
