"""`python -m tests.simulation --seed N --steps M --shards K`: a run of the simulation, with a line a second."""

import argparse
import sys
import time

from tests.simulation.deployment import Deployment, LawBroken, Progress, simulated, summary


def main() -> int:
    """0 if every law held."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.strftime("%Y%m%d")), help="decides everything")
    parser.add_argument("--steps", type=int, default=1_000_000, help="in which there are faults")
    parser.add_argument("--shards", type=int, default=2_000)
    parser.add_argument("--seeds", type=int, default=1, help="runs, with this seed and those after it")
    chosen = parser.parse_args()
    for seed in range(chosen.seed, chosen.seed + chosen.seeds):
        print(f"seed {seed}", flush=True)
        began = time.monotonic()
        try:
            deployment = simulated(Deployment(seed, chosen.steps, chosen.shards), Progress())
        except LawBroken as broken:
            print(broken, file=sys.stderr)
            return 1
        took = time.monotonic() - began
        print(f"all laws held: {summary(deployment)}, {deployment.world.step / took:,.0f} steps/s in {took:.0f} s")
        print(f"seed {seed}: {', '.join(f'{n} {name}' for name, n in sorted(deployment.counts.items()))}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
