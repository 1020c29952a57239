import asyncio
import gc
from itertools import pairwise

import pytest
from onlineguard_service import fair_queues
from onlineguard_service.fair_queues import KEPT, QUEUE, REST, FairQueues
from onlineguard_service.patience import give_way


@pytest.fixture(autouse=True)
def every_part_is_large(monkeypatch):
    monkeypatch.setattr(fair_queues, "SLICE", 1e-9)


async def turned(times=1):
    for _ in range(times):
        await asyncio.sleep(0)


def test_a_client_whose_turn_is_not_over_need_not_wait():
    async def run():
        queues, done = FairQueues(), []
        queues.of("a").put(lambda: done.append(1))
        assert done == [1]

    asyncio.run(run())


def test_another_client_waits_for_one_part_of_each_whatever_is_outstanding():
    async def run():
        queues, done = FairQueues(), []
        held = [queues.of(name) for name in ("one", "other", "good")]
        for name in ("one", "other"):
            for _ in range(100):
                queues.of(name).put(lambda name=name: done.append(name))
        assert done == ["one", "other"]  # which had come first
        for _ in range(5):
            before = len(done)
            await asyncio.sleep(0)
            queues.of("good").put(lambda: done.append("good"))
            while "good" not in done[before:]:
                await asyncio.sleep(0)
            between = done[before : done.index("good", before)]
            assert between.count("one") <= 1
            assert between.count("other") <= 1
            await turned(REST + 2)
        del held

    asyncio.run(run())


def test_a_request_in_parts_waits_for_one_part_of_another_client_however_many_requests_that_has():
    async def run():
        queues, parts = FairQueues(), []

        async def in_parts(name, n):
            QUEUE.set(queues.of(name))
            for _ in range(n):
                parts.append(name)
                await give_way()

        attack = [asyncio.create_task(in_parts("attacker", 20)) for _ in range(30)]
        await turned(3)
        before = len(parts)
        await asyncio.create_task(in_parts("good", 10))
        mine = [at for at, name in enumerate(parts) if name == "good"]
        assert mine[0] - before <= 1
        assert max(later - earlier for earlier, later in pairwise(mine)) == 2
        await asyncio.gather(*attack)
        assert parts.count("attacker") == 600

    asyncio.run(run())


def test_the_parts_of_one_client_are_begun_in_the_order_in_which_they_came():
    async def run():
        queue, done = FairQueues().of("a"), []
        for n in range(50):
            queue.put(lambda n=n: done.append(n), at_once=n % 2 == 0)
        while len(done) < 50:
            await asyncio.sleep(0)
        assert done == list(range(50))

    asyncio.run(run())


def test_small_parts_have_a_turn_together(monkeypatch):
    monkeypatch.setattr(fair_queues, "SLICE", 60.0)

    async def run():
        queue, done = FairQueues().of("a"), []
        for n in range(50):
            queue.put(lambda n=n: done.append(n))
        assert len(done) == 50

    asyncio.run(run())


def test_a_part_that_asks_for_another_does_not_run_it_inside_itself():
    async def run():
        queue, done = FairQueues().of("a"), []

        def part(n):
            if n:
                queue.put(lambda: part(n - 1))
            done.append(n)

        part_of = 2_000  # deeper than Python may call
        queue.put(lambda: part(part_of))
        while len(done) <= part_of:
            await asyncio.sleep(0)
        assert done == list(range(part_of, -1, -1))

    asyncio.run(run())


def test_a_part_that_fails_and_one_that_nobody_waits_for_any_more_cost_nobody_a_turn():
    async def run():
        told, done = [], []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
        queue = FairQueues().of("a")
        queue.put(lambda: done.append("first"))
        queue.put(lambda: 1 / 0)
        leaving = asyncio.create_task(queue.turn())
        await asyncio.sleep(0)
        leaving.cancel()
        queue.put(lambda: done.append("last"))
        while len(done) < 2:
            await asyncio.sleep(0)
        assert [type(error) for error in told] == [ZeroDivisionError]

    asyncio.run(run())


def test_the_queue_of_a_client_that_has_gone_is_forgotten():
    async def run():
        queues = FairQueues()
        queues.of("gone").put(lambda: None)
        await turned(REST + 2)
        gc.collect()
        assert not queues._queues

    asyncio.run(run())


class Clock:
    """Time that goes on when a part is said to take some."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def part(self, done, name, seconds):
        def run():
            self.now += seconds
            done.append(name)

        return run


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(fair_queues, "SLICE", 1.0)
    monkeypatch.setattr(fair_queues, "perf_counter", clock := Clock())
    return clock


def test_time_that_was_not_spent_is_kept_up_to_a_bound(clock):
    async def run():
        queues, done = FairQueues(), []
        queue = queues.of("seldom")
        await _rounds(queues, 10)
        for _ in range(10):
            queue.put(clock.part(done, "seldom", 1.0))
        assert len(done) == 1 + KEPT

    asyncio.run(run())


def test_a_new_client_has_nothing_to_spend_but_its_turn(clock):
    async def run():
        queues, done = FairQueues(), []
        await _rounds(queues, 10)
        queue = queues.of("new")
        for _ in range(10):
            queue.put(clock.part(done, "new", 1.0))
        assert len(done) == 1

    asyncio.run(run())


def test_clients_with_large_and_with_small_parts_have_as_much_time(clock):
    async def run():
        queues, done = FairQueues(), []
        held = [queues.of(name) for name in ("large", "small")]
        for queue, name, seconds in zip(held, ("large", "small"), (1.0 + KEPT, 0.5), strict=True):
            for _ in range(200):
                queue.put(clock.part(done, name, seconds))
        while done.count("small") < 200:
            await asyncio.sleep(0)
        assert done.count("large") * (1.0 + KEPT) == pytest.approx(100.0, abs=2 * (1.0 + KEPT))

    asyncio.run(run())


def test_work_that_does_not_wait_is_charged_up_to_a_bound(clock):
    async def run():
        queues, done = FairQueues(), []
        queue, other = queues.of("charged"), queues.of("other")
        for _ in range(100):
            queue.charge(1.0)
        queue.put(clock.part(done, "charged", 0.5))
        for _ in range(10):
            other.put(clock.part(done, "other", 1.0))
        while "charged" not in done:
            await asyncio.sleep(0)
        assert 2 <= done.index("charged") <= 2 + KEPT

    asyncio.run(run())


def test_new_clients_that_use_up_their_turns_again_and_again_do_not_put_off_the_next_round(clock):
    async def run():
        queues, done = FairQueues(), []
        waiting = queues.of("waiting")
        for _ in range(5):
            waiting.put(clock.part(done, "waiting", 1.0))
        for number in range(1_000):
            if number % 3 == 0:
                queues.of(f"new {number}").put(clock.part([], "new", 2.0))
            await asyncio.sleep(0)
        assert len(done) == 5

    asyncio.run(run())


def test_a_part_that_begins_one_of_another_client_is_not_charged_for_it(clock):
    async def run():
        queues, done = FairQueues(), []
        proxy, client = queues.of("proxy"), queues.of("client")
        proxy.put(lambda: client.put(clock.part(done, "client", 20.0)))
        proxy.put(clock.part(done, "proxy", 0.5))
        client.put(clock.part(done, "late", 0.5))
        assert done == ["client", "proxy"]

    asyncio.run(run())


async def _rounds(queues, n):
    end = queues.round + n
    while queues.round < end:
        queues.ask()
        await asyncio.sleep(0)
