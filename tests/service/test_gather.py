"""Gathered requests: each gets its own answers, in order, from as few calls as there can be."""

import asyncio

import pytest
from onlineguard_service.core import Core
from onlineguard_service.gather import Gather

from tests.support.cores import chosen, crashed
from tests.support.events import events


def test_what_comes_while_a_call_is_under_way_goes_into_the_next_one():
    calls = []

    async def work(items):
        calls.append(list(items))
        await asyncio.sleep(0.01)
        return [b"%d" % item for item in items]

    async def run():
        gather = Gather(work)
        first = asyncio.create_task(gather.submit([1, 2]))
        await asyncio.sleep(0.001)
        later = [asyncio.create_task(gather.submit(items)) for items in ([3], [], [4, 5, 6])]
        assert await first == [b"1", b"2"]
        assert [await task for task in later] == [[b"3"], [], [b"4", b"5", b"6"]]
        assert await gather.submit([7]) == [b"7"]

    asyncio.run(run())
    assert calls == [[1, 2], [3, 4, 5, 6], [7]]


def test_an_error_reaches_all_whose_items_it_met_and_nobody_else():
    async def work(items):
        if 2 in items:
            raise ValueError("two")
        return [b"" for _ in items]

    async def run():
        gather = Gather(work)
        wrong = await asyncio.gather(gather.submit([1]), gather.submit([2]), return_exceptions=True)
        assert [str(error) for error in wrong] == ["two", "two"]
        assert await gather.submit([3]) == [b""]
        gone = asyncio.create_task(gather.submit([4]))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert await gather.submit([5]) == [b""]

    asyncio.run(run())


def test_a_core_that_gathers_answers_as_one_that_does_not_with_fewer_entries(tmp_path, model_folder, clicks):
    async def run():
        gathering = await Core.open(chosen(tmp_path / "a", model_folder, n_features=2))
        plain = await Core.open(chosen(tmp_path / "b", model_folder, n_features=2))
        gathering._gathering = True
        requests = [events(7, seed) for seed in range(20)]
        together = await asyncio.gather(*(gathering.update(request) for request in requests))
        assert list(together) == [await plain.update(request) for request in requests]
        judged = await asyncio.gather(*(gathering.clicks(clicks[i : i + 3]) for i in range(0, 60, 3)))
        assert [len(answers) for answers in judged] == [3] * 20
        await plain.clicks(clicks[:60])
        assert gathering.status()["journal"]["sequence"] < plain.status()["journal"]["sequence"]
        for core in (gathering, plain):
            await crashed(core)

    asyncio.run(run())
