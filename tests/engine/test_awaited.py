"""Updates that are awaited: they run in another thread, one after the other, and give the bits of plain calls."""

import asyncio
import copy
import threading

import numpy as np
import pytest

from onlineguard import Engine, InvalidArgument
from onlineguard.engine import slices


class Held:
    """One event that cannot be read before it is released."""

    def __init__(self):
        self.begun, self.released = threading.Event(), threading.Event()

    def __array__(self, dtype=None, copy=None):
        self.begun.set()
        assert self.released.wait(60.0)
        return np.zeros((1, 2), dtype)

    async def reached(self):
        """Return when an update reads it, while the loop goes on."""
        while not self.begun.is_set():
            await asyncio.sleep(0.001)


def test_the_loop_goes_on_while_an_update_runs():
    async def main():
        engine, held = Engine(2), Held()
        update = asyncio.create_task(engine.aupdate("a", held))
        await held.reached()  # only another thread can hold it while this line is run
        assert not update.done()
        held.released.set()
        assert len(await update) == 1
        return engine.n_events

    assert asyncio.run(main()) == 1


def test_updates_that_are_awaited_together_are_learned_in_the_order_of_their_calls():
    rng = np.random.default_rng(0)
    keys, X = rng.integers(0, 5, 3_000).tolist(), rng.normal(size=(3_000, 2))
    once, engine = Engine(2), Engine(2)
    expected = once.update(keys, X)

    async def main():
        parts = (slice(start, start + 100) for start in range(0, 3_000, 100))
        return await asyncio.gather(*(engine.aupdate(keys[part], X[part]) for part in parts))

    found = asyncio.run(main())
    np.testing.assert_array_equal(np.concatenate([verdicts.judgements for verdicts in found]), expected.judgements)
    assert engine.slices == once.slices


def test_an_update_that_cannot_be_read_fails_alone():
    async def main():
        engine = Engine(2)
        found = await asyncio.gather(
            engine.aupdate("a", [[0.0, 0.0]]),
            engine.aupdate("a", [["x", "y"]]),
            engine.aupdate("a", [[0.0, 0.0]]),
            return_exceptions=True,
        )
        return engine.n_events, [type(each) for each in found][1]

    assert asyncio.run(main()) == (2, InvalidArgument)


def test_an_update_that_is_cancelled_is_learned_unless_it_still_waits():
    async def main():
        engine, held = Engine(2), Held()
        runs = asyncio.create_task(engine.aupdate("runs", held))
        waits = asyncio.create_task(engine.aupdate("waits", [[0.0, 0.0]]))
        await held.reached()
        for task in (runs, waits):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        held.released.set()
        await engine.aupdate("next", [[0.0, 0.0]])
        return engine.slices

    assert asyncio.run(main()) == ["runs", "next"]


def test_an_engine_that_was_awaited_can_be_copied_and_used_by_another_loop():
    engine = Engine(2)
    asyncio.run(engine.aupdate("a", np.zeros((5, 2))))
    other = copy.deepcopy(engine)
    for each in (engine, other):
        asyncio.run(each.aupdate("a", np.zeros((5, 2))))
        assert each.n_events == 10


def test_keys_that_are_looked_up_in_pieces_have_the_rows_of_all_at_once(monkeypatch):
    keys = [f"k{number}" for number in np.random.default_rng(0).integers(0, 50, 1_000).tolist()]
    whole = Engine(1).update(keys, np.zeros((1_000, 1)))
    monkeypatch.setattr(slices, "PIECE", 7)
    np.testing.assert_array_equal(Engine(1).update(keys, np.zeros((1_000, 1))).slice_numbers, whole.slice_numbers)
