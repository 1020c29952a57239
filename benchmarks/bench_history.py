"""What the history costs: a click where it is judged, the process that makes files, the disk, and reading it again.

    python -m benchmarks.bench_history [--quick]

Clicks are recorded as the service does it, in requests of one and of 64; then their files are made in a process of its
own; then they are read with labels and features, as for a training.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from onlineguard_service.history.recorder import Options, Recorder

from onlineguard.engine.verdicts import Verdicts
from onlineguard.records.click import Click
from onlineguard.slidr.features import NAMES, WIDTH
from onlineguard.slidr.history.reading import History
from onlineguard.slidr.judge import JudgedClicks
from onlineguard.slidr.model import FEATURES
from onlineguard.slidr.pipeline import prepare
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic
from onlineguard.wire.requests import Label


def main() -> None:
    """Print one JSON line a figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some thousand clicks, to see that it runs")
    n = 4_000 if parser.parse_args().quick else 240_000
    log = simulate(Traffic(clicks=n, days=7), 0).clicks
    X = prepare(log).X
    clicks = [Click(**{name: row[name] for name in Click.__struct_fields__}) for row in log.iter_rows(named=True)]
    with tempfile.TemporaryDirectory() as folder:
        for size in (1, 64):
            root = Path(folder) / str(size)
            recorder = Recorder(Options(root, 0, None), "bench", 0, 0, None, NAMES, FEATURES)
            seconds = _recorded(recorder, clicks, X, size)
            _say(f"recording a click, requests of {size}", seconds / len(clicks) * 1e6, "us")
            if size == 64:
                recorder.seal(len(clicks) + 1)
                began = time.perf_counter()
                recorder.write()
                _say("making files, clicks a second", len(clicks) / (time.perf_counter() - began), "1/s")
            recorder.close()
        written = sum(path.stat().st_size for path in (root / "clicks").rglob("*.parquet"))
        _say("on the disk, a click", written / len(clicks), "bytes")
        began = time.perf_counter()
        prepared = History(root).prepared()
        _say("reading with labels and features, clicks a second", len(clicks) / (time.perf_counter() - began), "1/s")
        assert np.array_equal(prepared.X[:100], X[:100])


def _recorded(recorder: Recorder, clicks: list[Click], X: np.ndarray, size: int) -> float:
    """Seconds that recording took, as the event loop spends them."""
    numbers = np.zeros((size, 6), np.float32)
    verdicts = Verdicts(np.zeros((size, 1), np.float32), 0.01)  # nothing of them is kept but the p-value below
    score = np.full(size, 0.5, np.float32)
    began = time.perf_counter()
    for sequence, start in enumerate(range(0, len(clicks), size), 1):
        some = clicks[start : start + size]
        k = len(some)
        judged = JudgedClicks(X[start : start + k], score[:k], numbers[:k], verdicts)
        recorder.clicks(
            sequence,
            some[0].ts,
            list(range(k)),
            some,
            judged,
            [0.5] * k,
            [False] * k,
            [0.25] * k,
            ["phone / US / true"] * k,
            ["0" * 12] * k,
        )
        if sequence % 100 == 0:
            recorder.labels(sequence, some[0].ts, [Label(some[0].click_id, some[0].ts)])
    return time.perf_counter() - began


def _say(what: str, value: float, unit: str) -> None:
    print(json.dumps({"figure": what, "value": round(value, 3), "unit": unit, "features": WIDTH}), flush=True)


if __name__ == "__main__":
    main()
