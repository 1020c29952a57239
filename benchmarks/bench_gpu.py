"""The kernel for GPUs: is it right, how fast is it, and how much of that is the memory's own speed?

    uv run --group dev python -m benchmarks.bench_gpu [--to FOLDER] [--quick] [--interpret]

One command of under six minutes on a GPU. It checks answers against the CPU's on fresh random events, measures how fast
memory is copied, and then times the kernel on slices uniform and by Zipf's law, whole calls of the Engine from host to
host, and from how many events on a GPU is quicker than the CPU. It prints a JSON line a figure, and writes them to
`bench_gpu.json` and as tables to `bench_gpu.md` in FOLDER.

Without a GPU it says so and ends; `--interpret` runs all of it in plain JAX, at a tiny size, to see that it works.
"""

import argparse
import json
import secrets
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.workloads import emit
from onlineguard import (
    Chain,
    ClippedSGD,
    Constant,
    Detector,
    Engine,
    Experts,
    JointDetector,
    Judged,
    LogScale,
    Mean,
    Quantile,
    SliceModel,
)
from onlineguard.engine import kernel, table
from onlineguard.engine.device import accelerator
from onlineguard.engine.parts import FIRST_ROW, WASTE
from onlineguard.engine.table import Layout
from onlineguard.models.base import FIELDS

SECONDS = 320.0  # after so many no new figure is begun
BLOCKS = {  # slices, events of one call, and the exponent of Zipf's law
    "1,000 uniform": (1_000, 1_000_000, None),
    "100,000 uniform": (100_000, 4_000_000, None),
    "1,000,000 uniform": (1_000_000, 16_000_000, None),
    "100,000 Zipf 1.1": (100_000, 4_000_000, 1.1),
}
TINY = {"12 uniform": (12, 60, None), "12 Zipf 1.1": (12, 60, 1.1)}
TOLERANCE = 1e-3  # of a score, as in tests/engine/test_kernel.py


def chain(d: int) -> SliceModel:
    """Location, scale and quantile, each at one rate."""
    scale = ClippedSGD(LogScale(np.zeros(d, np.float32)), Constant(0.01))
    return Judged(Chain((ClippedSGD(Mean(d), Constant(0.01)), scale, ClippedSGD(Quantile(0.99), Constant(0.01)))))


MODELS: dict[str, Callable[[int], SliceModel]] = {
    "chain": chain,
    "Detector": lambda d: Detector(),
    "JointDetector": lambda d: JointDetector(),
    "Experts": lambda d: Judged(Experts(Mean(d))),
}


class Prepared:
    """A model of d features with a table of so many slices, on the device that JAX prefers."""

    def __init__(self, name: str, d: int, slices: int):
        model = MODELS[name](d)
        self.width = model.width(d)
        start = model.init(d) if self.width == d else model.init(d, self.width)  # type: ignore[call-arg]
        self.params: Any = jax.tree.map(jnp.float32, model)
        self.layout = Layout.of(start)
        row = jnp.asarray(self.layout.pack(start))
        self.table = jax.jit(lambda row: jnp.tile(row, (FIRST_ROW + slices, 1)))(row)
        self.bytes_per_slice = 8 * self.layout.length  # read and written

    def events(self, slices: np.ndarray, d: int, seed: int) -> tuple[Any, Any]:
        """Rows that are read and written, and normal events, of which the columns behind d are missing."""
        rows = jnp.asarray(np.tile((FIRST_ROW + slices).astype(np.int32), (2, 1)))
        x = jax.random.normal(jax.random.key(seed), (len(slices), self.width), jnp.float32)
        return rows, x.at[:, d:].set(jnp.nan)


def slice_numbers(slices: int, n: int, zipf: float | None, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if zipf is None:
        return rng.integers(0, slices, n)
    shares = np.arange(1, slices + 1) ** -zipf
    return np.searchsorted(np.cumsum(shares / shares.sum()), rng.random(n)).clip(0, slices - 1)


def seconds(call: Callable[[], Any], repeats: int) -> float:
    """The median time of a call that has been warmed up twice."""
    times = []
    for i in range(repeats + 2):
        start = time.perf_counter()
        jax.block_until_ready(call())
        if i >= 2:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def correct(name: str, d: int, n: int, interpret: bool) -> dict[str, Any]:
    """How far the kernel's answers are from those of the CPU's loop, on events from a seed of this run."""
    seed = secrets.randbits(31)
    rng = np.random.default_rng(seed)
    slices, cpu = 12, jax.local_devices(backend="cpu")[0]
    ours = Prepared(name, d, slices)
    rows = np.full((2, n), WASTE, np.int32)
    rows[:] = FIRST_ROW + np.minimum(rng.zipf(1.3, n), slices) - 1
    events = rng.standard_t(2.5, (n, ours.width)).astype(np.float32)
    events[rng.random(events.shape) < 0.05] = np.nan
    events[3], events[4], events[5] = np.nan, 3e38, np.inf
    events[:, d:] = np.nan
    params, states = jax.tree.map(lambda leaf: jnp.array(leaf, device=cpu), (ours.params, ours.table))
    _, expected = table.advance(params, ours.layout, states, rows, events, np.int32(n))
    jax.block_until_ready(jnp.full((n, FIELDS), 1e9))  # what a kernel that writes nothing would find
    _, found = kernel.advance(ours.params, ours.layout, ours.table, rows, events, n, interpret)
    expected, found = np.asarray(expected), np.asarray(found)
    close = np.isclose(found, expected, rtol=TOLERANCE, atol=1e-5, equal_nan=True)
    away = np.nan_to_num(abs(found - expected) / np.maximum(abs(expected), 1e-3))
    return {"right": bool(close.all()), "share": float(close.mean()), "ulps": round(away.max() / 2**-23), "seed": seed}


def bandwidth(size: int, repeats: int) -> float:
    """Bytes a second that an array is copied at, read and written."""
    x = jnp.zeros(size, jnp.float32)
    return 8 * size / seconds(lambda: _more(x), repeats)


@jax.jit
def _more(x: Any) -> Any:
    return x + 1.0


def timed(name: str, d: int, law: str, blocks: dict[str, Any], speed: float, options: Any) -> dict[str, Any]:
    """One call of the kernel: the sorting alone, the whole, and what copying all that it must read would take."""
    slices, n, zipf = blocks[law]
    ours = Prepared(name, d, slices)
    numbers = slice_numbers(slices, n, zipf, seed=0)
    counts = np.bincount(numbers)
    rows, events = ours.events(numbers, d, seed=0)
    count = jnp.int32(n)

    def call() -> Any:
        ours.table, judgements = kernel.run(
            ours.params, ours.layout, True, options.interpret, ours.table, rows, events, count
        )
        return judgements

    whole = seconds(call, options.repeats)
    programs = min(n, slices + FIRST_ROW)
    sorting = seconds(lambda: _sorted(rows[1], count, programs), options.repeats)
    floor = (int((counts > 0).sum()) * ours.bytes_per_slice + n * (4 * ours.width + 4 * FIELDS + 12)) / speed
    return {
        "figure": "kernel",
        "model": name,
        "features": d,
        "slices": law,
        "events": n,
        "longest_slice": int(counts.max()),
        "sort_ms": round(1e3 * sorting, 3),
        "call_ms": round(1e3 * whole, 3),
        "events_per_s": round(n / whole),
        "share_of_floor": round(floor / max(whole - sorting, 1e-9), 3),
        "ns_a_link": round(1e9 * (whole - sorting) / int(counts.max())),
    }


_sorted = jax.jit(lambda writes, n, programs: kernel.by_slice(writes, n, True, programs), static_argnums=(2,))


def host_to_host(d: int, n: int, repeats: int) -> dict[str, Any]:
    """Whole updates of the Engine, keys and verdicts in NumPy, and the copies of their events and judgements alone.

    The same with events that lie on the GPU and verdicts that stay there.
    """
    numbers = slice_numbers(1_000, n, None, seed=0)
    x = np.random.default_rng(0).standard_normal((n, d)).astype(np.float32)
    engines = {where: Engine(d, estimator=Detector(), device=where) for where in ("cpu", "gpu")}
    taken = {}
    for where, engine in engines.items():
        taken[where] = seconds(lambda engine=engine: engine.update(numbers, x).anomalous, repeats)
    there = jax.block_until_ready(jnp.asarray(x))
    stays = seconds(lambda: engines["gpu"].update(numbers, there).on_device(), repeats)
    back = jnp.zeros((n, FIELDS), jnp.float32)
    copies = seconds(lambda: (jnp.array(x), np.asarray(back + 0.0)), repeats)
    return {
        "figure": "host to host",
        "features": d,
        "events": n,
        "events_per_s": round(n / taken["gpu"]),
        "cpu_events_per_s": round(n / taken["cpu"]),
        "copies_share": round(copies / taken["gpu"], 3),
        "device_events_per_s": round(n / stays),
    }


def crossover(d: int) -> dict[str, Any]:
    """From how many events on a call is quicker on the GPU, as `Engine.warmup` measures it."""
    engine = Engine(d, estimator=Detector())
    engine.warmup(65_536)
    return {"figure": "crossover", "features": d, "engine": repr(engine)}


def as_markdown(figures: list[dict[str, Any]]) -> str:
    """A table for each kind of figure."""
    parts: list[str] = []
    for kind in dict.fromkeys(figure["figure"] for figure in figures):
        rows = [figure for figure in figures if figure["figure"] == kind]
        columns = [name for name in rows[0] if name != "figure"]
        lines = [" | ".join(columns), " | ".join(["---"] * len(columns))]
        lines += [" | ".join(str(row.get(name, "")) for name in columns) for row in rows]
        parts += [f"## {kind}", "", *(f"| {line} |" for line in lines), ""]
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few sizes, to see that it runs")
    parser.add_argument("--interpret", action="store_true", help="without a GPU, in plain JAX, at a tiny size")
    parser.add_argument("--to", type=Path, help="folder for bench_gpu.json and bench_gpu.md")
    options = parser.parse_args()
    found = accelerator()
    if (found is None or not found.takes_kernels) and not options.interpret:
        print(f"no GPU that takes kernels: JAX finds {jax.devices()[0].device_kind}; --interpret runs without one")
        return
    began = time.monotonic()
    figures: list[dict[str, Any]] = []

    def add(make: Callable[[], dict[str, Any]], **about: Any) -> None:
        figure = about | (make() if time.monotonic() - began < SECONDS else {"left_out": "no time"})
        figures.append(figure)
        emit(**figure)

    tiny = options.interpret
    options.repeats = 1 if tiny else 5
    device = jax.devices()[0]
    about = {"device": device.device_kind, "platform": device.platform, "jax": jax.__version__, "interpreted": tiny}
    add(lambda: about, figure="machine")
    checks = [("Detector", 3)] if options.quick else [("Detector", 20), ("JointDetector", 20), ("chain", 32)]
    for name, d in checks:
        add(
            lambda name=name, d=d: correct(name, d, 64 if tiny else 4_096, tiny), figure="right", model=name, features=d
        )
    speed = bandwidth(1_000 if tiny else 1 << 28, options.repeats)
    add(lambda: {"bytes_per_s": round(speed)}, figure="bandwidth")
    blocks: dict[str, Any] = TINY if tiny else BLOCKS
    laws = list(blocks)
    plan = [("chain", 3 if tiny else 32, law) for law in laws[: 1 if options.quick else None]]
    if not options.quick:
        middle = laws[min(1, len(laws) - 1)]
        plan += [(name, 5 if tiny else 32, middle) for name in ("Detector", "JointDetector", "Experts")]
        plan += [("chain", d, middle) for d in (8, 128)]
    for name, d, law in plan:
        add(lambda name=name, d=d, law=law: timed(name, d, law, blocks, speed, options))
    if found is not None:
        for n in (65_536, 1_000_000 if options.quick else 4_000_000):
            add(lambda n=n: host_to_host(32, n, options.repeats if n < 1_000_000 else 1))
        add(lambda: crossover(32))
    if options.to is not None:
        options.to.mkdir(parents=True, exist_ok=True)
        (options.to / "bench_gpu.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        (options.to / "bench_gpu.md").write_text(as_markdown(figures), encoding="utf-8")
    if not all(figure.get("right", True) for figure in figures):
        raise SystemExit("the kernel's answers are not those of the CPU")


if __name__ == "__main__":
    main()
