"""Counting in a real Redis: namespaces with the same users never see each other's counts."""

import asyncio
from collections import Counter

import numpy as np
import pytest
from onlineguard_service.redis.counting import Counting

from onlineguard.slidr.counting.counters import ClickKeys, ProcessStore
from tests.support.redis_server import serving

SPACES = ("", "acme", "acme2", "other")
PART = 25  # clicks of a request


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("redis")) as port:
        yield f"redis://127.0.0.1:{port}/0"


def test_each_namespace_counts_as_a_process_of_its_own_would_whoever_comes_between(url, clicks):
    async def run():
        counting, rng = Counting(url, "apart"), np.random.default_rng(0)
        alone = {name: ProcessStore(None) for name in SPACES}
        taken = dict.fromkeys(SPACES, 0)
        for name in rng.permutation(np.repeat(SPACES, 8)).tolist():  # all are sent the same clicks, at other times
            keys = ClickKeys.of(clicks[taken[name] : taken[name] + PART])
            taken[name] += PART
            np.testing.assert_array_equal(await counting.count(keys, name), alone[name].count(keys))
        assert set(taken.values()) == {8 * PART}
        again = ClickKeys.of(clicks[:PART])  # new to a namespace that has not had them, whoever has
        late, here = await counting.count(again, "late"), await counting.count(again, "acme")
        await counting.close()
        np.testing.assert_array_equal(late, ProcessStore(None).count(again))
        assert not np.array_equal(late, here)

    asyncio.run(run())


def test_a_user_who_is_erased_in_one_namespace_is_still_counted_in_the_others(url, clicks):
    user, n = Counter(click.user_id for click in clicks if click.user_id is not None).most_common(1)[0]
    mine = [click for click in clicks if click.user_id == user]
    before, last = ClickKeys.of(mine[:-1]), ClickKeys.of(mine[-1:])
    assert n > 2

    async def run():
        counting, alone = Counting(url, "erased"), ProcessStore(None)
        for name in ("", "acme"):
            await counting.count(before, name)
        alone.count(before)
        await counting.erase(user, "acme")
        kept, gone = await counting.count(last), await counting.count(last, "acme")
        await counting.close()
        np.testing.assert_array_equal(kept, alone.count(last))
        assert not np.array_equal(gone, kept)

    asyncio.run(run())
