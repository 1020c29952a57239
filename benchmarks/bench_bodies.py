"""What a batch of events costs as JSON, as NDJSON and as Arrow, and what packing an answer costs.

    python -m benchmarks.bench_bodies [--quick]

For each way of writing the same 10,000 events: bytes, and events a second read into structs as the service does, the
median of some rounds; then the answers written. Beside it, in the same run, the engine that judges them, so that one
sees what is left: the reading is a part of what an event costs. Packing is at the levels of `wire.encodings`.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from onlineguard_service.http.bodies import Items

from benchmarks.workloads import emit
from onlineguard import Engine
from onlineguard.wire import arrow
from onlineguard.wire.answers import EventAnswer
from onlineguard.wire.encodings import available, packed
from onlineguard.wire.requests import Event

EVENTS = 10_000  # of a request, as many as one may have by default
WIDTH = 8


def seconds(call: Callable[[], object], rounds: int) -> float:
    """The median of so many calls."""
    took: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def stream(columns: dict[str, Any]) -> bytes:
    """A table as a stream."""
    (body,) = arrow.parts(pa.table(columns), True, EVENTS)
    return body


def main(quick: bool) -> None:
    """One JSON line a figure."""
    rounds = 3 if quick else 15
    rng = np.random.default_rng(1)
    X = rng.normal(size=(EVENTS, WIDTH))
    slices, ids = [f"slice {n % 500}" for n in range(EVENTS)], [f"{n:032x}" for n in range(EVENTS)]
    named = [f"feature_{j}" for j in range(WIDTH)]
    listed = [{"slice": s, "x": x, "id": i} for s, x, i in zip(slices, X.tolist(), ids, strict=True)]
    by_name = [{"slice": e["slice"], "features": dict(zip(named, e["x"], strict=True)), "id": e["id"]} for e in listed]
    both = {"slice": pa.array(slices).dictionary_encode(), "id": pa.array(ids)}
    items = Items("event", Event)
    json = msgspec.json.encode(listed)
    ways: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
        "json": (json, lambda b: items.decode(b, False)),
        "ndjson": (msgspec.json.Encoder().encode_lines(listed), lambda b: items.decode(b, True)),
        "arrow": (
            stream(both | {"x": pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), WIDTH)}),
            lambda b: list(items.of_arrow(b, EVENTS)),
        ),
        "json, features by name": (msgspec.json.encode(by_name), lambda b: items.decode(b, False)),
        "arrow, features by name": (
            stream(both | {name: pa.array(X[:, j]) for j, name in enumerate(named)}),
            lambda b: list(items.of_arrow(b, EVENTS)),
        ),
    }
    for name, (body, read) in ways.items():
        read(body)
        emit(figure="read", of=name, bytes=len(body), events_per_s=round(EVENTS / seconds(partial(read, body), rounds)))
    answers = [
        EventAnswer(s, 1.0 / (n + 1), 2.5, 0.25, False, True, i)
        for n, (s, i) in enumerate(zip(slices, ids, strict=True))
    ]
    written = msgspec.json.encode(answers)
    for name, write in (
        ("json", lambda: msgspec.json.encode(answers)),
        ("arrow", lambda: arrow.encoded(answers, EventAnswer)),
    ):
        emit(figure="write", of=name, bytes=len(write()), events_per_s=round(EVENTS / seconds(write, rounds)))
    for encoding in available():
        body = packed(written, encoding)
        took = 1e3 * seconds(partial(packed, written, encoding), rounds)
        emit(figure="pack", of=encoding, ms=round(took, 2), bytes=len(body), plain=len(written))
    engine = Engine(WIDTH, max_slices=1_000)
    engine.update(slices[:256], X[:256])
    took = seconds(lambda: [engine.update(slices[i : i + 256], X[i : i + 256]) for i in range(0, 2_560, 256)], 3)
    emit(figure="judge", of="engine", events_per_s=round(2_560 / took))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds")
    main(parser.parse_args().quick)
