"""How long an event loop waits while two million events are learned by `aupdate`.

uv run --group dev python -m benchmarks.bench_loop

A ticker sleeps for 5 ms at a time. A wait is how much longer a tick took. Where other programs have the cores, a wait
of the clock says little; so the time that this process computed during a tick is given too, over all its threads.
"""

import argparse
import asyncio
import time

import numpy as np

from onlineguard import Detector, Engine

TICK = 0.005


async def longest_ticks(engine: Engine, keys: object, X: np.ndarray) -> tuple[float, float, float]:
    """Seconds of the update, the longest wait by the clock, and the longest by computing."""
    clock, computed = [0.0], [0.0]
    done = asyncio.Event()

    async def ticker() -> None:
        at, cpu = time.perf_counter(), time.process_time()
        while not done.is_set():
            await asyncio.sleep(TICK)
            now, cpu_now = time.perf_counter(), time.process_time()
            clock.append(now - at - TICK)
            computed.append(cpu_now - cpu)
            at, cpu = now, cpu_now

    ticking = asyncio.create_task(ticker())
    await asyncio.sleep(10 * TICK)
    start = time.perf_counter()
    await engine.aupdate(keys, X)
    took = time.perf_counter() - start
    done.set()
    await ticking
    return took, max(clock), max(computed)


async def main() -> None:
    """Print a row for each kind of keys, and for the first call, which compiles, and later ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few events, to see that it runs")
    n = 20_000 if parser.parse_args().quick else 2_000_000
    rng = np.random.default_rng(0)
    numbers, X = rng.integers(0, 1_000, n), rng.normal(size=(n, 2))
    print(f"{n:,} events of 1,000 slices\nkeys     call  update s  longest wait ms  longest computing ms")
    for name, keys in (("ints", numbers), ("texts", [f"k{number}" for number in numbers.tolist()])):
        engine = Engine(2, estimator=Detector())
        for call in (1, 2, 3):
            took, clock, computed = await longest_ticks(engine, keys, X)
            print(f"{name:8} {call:4} {took:9.2f} {1e3 * clock:16.0f} {1e3 * computed:21.0f}")


if __name__ == "__main__":
    asyncio.run(main())
