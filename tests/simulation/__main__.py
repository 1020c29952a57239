"""`python -m tests.simulation --seed N --steps M --shards K`: a simulated world, with a line a second.

With `--seconds` there are worlds of several sizes, each of the seed after the one before, until the time is over.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterator

from tests.simulation.deployment import Deployment, LawBroken, Progress, command, simulated, summary

SIZES = 12, 1_000, 60, 300  # shards of the worlds that come one after another
STEPS = 20_000  # of each of them


def main() -> int:
    """0 if every law held."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=int(time.strftime("%Y%m%d")), help="decides everything; today's date"
    )
    parser.add_argument("--steps", type=int, default=1_000_000, help="in which there are faults")
    parser.add_argument("--shards", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, help="worlds of several sizes, for so long")
    chosen = parser.parse_args()
    until = None if chosen.seconds is None else time.monotonic() + chosen.seconds
    steps = 0
    for deployment in worlds(chosen.seed, chosen.steps, chosen.shards, until):
        print(command(deployment), flush=True)
        began = time.monotonic()
        try:
            simulated(deployment, Progress(until))
        except LawBroken as broken:
            print(broken, file=sys.stderr)
            return 1
        rate = deployment.world.step / (time.monotonic() - began)
        steps += deployment.world.step
        faults = ", ".join(f"{n} {name}" for name, n in sorted(deployment.counts.items()))
        print(f"all laws held: {summary(deployment)}, {rate:,.0f} steps/s; {faults}", flush=True)
    print(f"{steps:,} steps in all")
    return 0


def worlds(seed: int, steps: int, shards: int, until: float | None) -> Iterator[Deployment]:
    """One, or one after another until the time is over."""
    if until is None:
        yield Deployment(seed, steps, shards)
        return
    for n in itertools.count():
        yield Deployment(seed + n, STEPS, SIZES[n % len(SIZES)])
        if time.monotonic() > until:
            return


if __name__ == "__main__":
    sys.exit(main())
