"""Clicks a second of SLIDR's training and inference, for every kind of network and the baselines.

    uv run --group dev python -m benchmarks.bench_train [--quick]

One JSON line a figure. Clicks are made up: 43 features, a million rows to train on, labels that depend on sums and
products of features. What is compiled once is compiled before the clock starts, and given apart.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.workloads import emit, rate
from onlineguard.slidr.learning.baselines import LogisticBaseline, TreesBaseline, VelocityRule
from onlineguard.slidr.learning.network import KINDS, NetworkConfig
from onlineguard.slidr.learning.train import Network, train
from onlineguard.slidr.learning.weights import cell_weights

WIDTH = 43
COUNTERS = [f"clicks_{e}_{w}" for e in ("user", "session", "ip", "prefix") for w in ("1m", "5m", "1h", "24h")]
NAMES = [*COUNTERS, *(f"other_{i}" for i in range(WIDTH - len(COUNTERS)))]


def clicks(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features (n, 43), hashes (n, 3), human (n,) with 5 % true, and cell weights (n,)."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, WIDTH), np.float32)
    hashes = rng.zipf(1.3, (n, 3)).astype(np.uint32) * np.uint32(2654435761)
    human = rng.random(n) < 0.1 / (1 + np.exp(-(X[:, 0] + X[:, 1] * X[:, 2])))
    weights = cell_weights(rng.integers(0, 24, n), rng.integers(0, 7, n), rng.random(n) < 0.5, human)
    return X, hashes, human, weights


def training(n: int, repeats: int) -> dict[str, Network]:
    """Whole calls of `train`, one pass whatever the default: standardisation, shuffling, steps."""
    X, hashes, human, weights = clicks(n)
    networks: dict[str, Network] = {}
    for kind in KINDS:
        config = NetworkConfig(kind=kind, epochs=1)

        def run(config: NetworkConfig = config) -> None:
            networks[config.kind] = train(X, hashes, human, weights, config)

        start = time.perf_counter()
        train(X[:20_000], hashes[:20_000], human[:20_000], weights[:20_000], config)
        compiled = time.perf_counter() - start
        emit(
            figure="training",
            kind=kind,
            hidden=config.hidden,
            clicks=n,
            batch=config.batch,
            **clicks_a_second(run, n, repeats),
            compile_s=round(compiled, 2),
        )
    return networks


def baselines(n: int) -> None:
    """Whole fits, once each: seconds for n clicks."""
    X, _, human, weights = clicks(n)
    fits: dict[str, Callable[[], Any]] = {
        "LogisticBaseline": lambda: LogisticBaseline.train(X, human, weights),
        "VelocityRule": lambda: VelocityRule.train(X, NAMES),
        "TreesBaseline": lambda: TreesBaseline.train(X, human, weights),
    }
    for name, fit in fits.items():
        start = time.perf_counter()
        model = fit()
        fitted = time.perf_counter()
        model.p_robot(X)
        scored = time.perf_counter()
        emit(
            figure="baseline",
            model=name,
            clicks=n,
            training_s=round(fitted - start, 2),
            p_robot_clicks_per_s=round(n / (scored - fitted)),
        )


def inference(networks: dict[str, Network], quick: bool) -> None:
    """Batches through JAX, copies to and from NumPy included, and single rows in NumPy."""
    X, hashes, _, _ = clicks(65_536, seed=1)
    for kind, network in networks.items():
        for batch in (1, 64, 1024, 65_536):
            n = min(len(X), batch * (20 if quick else 500))
            cuts = [slice(i, i + batch) for i in range(0, n, batch)]

            def batches(network: Network = network, cuts: list[slice] = cuts) -> None:
                for cut in cuts:
                    network.p_robot(X[cut], hashes[cut])

            batches()
            emit(figure="p_robot", kind=kind, batch=batch, **clicks_a_second(batches, n, 3 if quick else 7))
        rows = [(X[i : i + 1], hashes[i : i + 1]) for i in range(2_000)]

        def single(network: Network = network, rows: list[Any] = rows) -> None:
            for x, codes in rows:
                network.p_robot(x, codes)

        single()
        speed = clicks_a_second(single, len(rows), 3 if quick else 15)
        emit(figure="p_robot of one click", kind=kind, **speed, us=round(1e6 / speed["clicks_per_s"], 1))


def clicks_a_second(run: Callable[[], None], n: int, repeats: int) -> dict[str, float]:
    speed = rate(run, n, repeats)
    return {"clicks_per_s": speed.pop("events_per_s"), **speed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it runs")
    quick = parser.parse_args().quick
    emit(
        figure="machine",
        processor=platform.processor() or platform.machine(),
        cores=os.cpu_count(),
        device=jax.devices()[0].device_kind,
        python=platform.python_version(),
    )
    n = 20_000 if quick else 1_000_000
    inference(training(n, 1 if quick else 3), quick)
    baselines(n)


if __name__ == "__main__":
    main()
