"""Blocks to Parquet files, in a process of its own: `python -m onlineguard_service.history.closing` with them as input.

To build frames and pack them takes a second of Python for a minute of clicks. In a thread beside the event loop it
would hold up requests; in a fork the threads of polars do not exist. This process runs at a low priority, on one core,
and imports no JAX. It writes nothing unless it was given everything, and dies with who feeds it, so that the service
that is started next need not wait.
"""

import os

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # before polars is loaded

import ctypes
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
import polars as pl

from onlineguard.records.decisions import Standing
from onlineguard.slidr.clicks.clicks import SCHEMA
from onlineguard.slidr.history.keeping import compact, drop_before, locked
from onlineguard.slidr.history.layout import DAY, DECISIONS, LABELS, Kind, clicks_schema, day_of
from onlineguard.slidr.history.pseudonyms import Pseudonyms
from onlineguard.slidr.history.writing import write_part
from onlineguard_service.history.blocks import LENGTH, Block, Header, Judged, Labelled, Replaced, decode

NICE = 10  # requests come first; at 19 a machine that is busy with them would let the history fall behind
_PR_SET_PDEATHSIG = 1


def close(header: Header, blocks: Sequence[Block]) -> None:
    """Write the files, then see to the older ones. Raises OSError where the new ones cannot be written."""
    root = Path(header.root)
    clicks = clicks_frame([block for block in blocks if isinstance(block, Judged)], header.features)
    labels = labels_frame([block for block in blocks if isinstance(block, Labelled)])
    decisions = decisions_frame([block for block in blocks if isinstance(block, Replaced)])
    if header.key is not None:
        clicks = Pseudonyms(bytes.fromhex(header.key)).replaced(clicks)
    with locked(root):
        frames: dict[Kind, pl.DataFrame] = {"clicks": clicks, "labels": labels, "decisions": decisions}
        for kind, frame in frames.items():
            write_part(root, kind, frame, header.first[kind], header.last, header.source, header.about)
        today = time.time_ns() // 1_000_000
        with suppress(OSError):  # the next time it may be done
            compact(root, header.source, header.compactable, day_of(today))
            if header.keep_days:
                drop_before(root, day_of(today - header.keep_days * DAY))


def clicks_frame(blocks: Sequence[Judged], features: Sequence[str]) -> pl.DataFrame:
    """The rows of clicks, in order."""
    clicks = [click for block in blocks for click in block.clicks]
    numbers = np.frombuffer(b"".join(block.features for block in blocks), np.float32).reshape(-1, len(features))
    counts = [len(block.clicks) for block in blocks]
    columns = {
        "sequence": np.repeat(np.array([block.sequence for block in blocks], np.int64), counts),
        "position": [place for block in blocks for place in block.places],
        "t": np.repeat(np.array([block.t for block in blocks], np.int64), counts),
        **{name: list(map(attrgetter(name), clicks)) for name in SCHEMA},
        **{name: numbers[:, at] for at, name in enumerate(features) if name not in SCHEMA},
        "score": np.frombuffer(b"".join(block.score for block in blocks), np.float32),
        "threshold": [limit for block in blocks for limit in block.threshold],
        "slice": [name for block in blocks for name in block.slices],
        "robotic": [robotic for block in blocks for robotic in block.robotic],
        "model": [model for block in blocks for model in block.models],
        "p_value": [p_value for block in blocks for p_value in block.p_value],
    }
    frame = pl.DataFrame(columns, schema=clicks_schema(features))
    return frame.with_columns(pl.col("score").fill_nan(None))


def labels_frame(blocks: Sequence[Labelled]) -> pl.DataFrame:
    """The rows of labels, in order."""
    rows = [
        (block.sequence, at, block.t, label.click_id, label.purchase_ts, label.rfm)
        for block in blocks
        for at, label in enumerate(block.labels)
    ]
    return pl.DataFrame(rows, schema=LABELS, orient="row")


def decisions_frame(blocks: Sequence[Replaced]) -> pl.DataFrame:
    """The rows of delayed decisions, in order."""
    rows = [
        (block.sequence, at, block.t, each.id, each.click_id, each.slice, *_told(each.standing), *_told(each.replaces))
        for block in blocks
        for at, each in zip(block.places, block.decisions, strict=True)
    ]
    return pl.DataFrame(rows, schema=DECISIONS, orient="row")


def _told(decision: Standing) -> tuple[float | None, float | None, bool, str]:
    return decision.p_robot, decision.threshold, decision.decision == "robotic", decision.model_version


def _read(file: IO[bytes]) -> tuple[Header, list[Block]] | None:
    """Header and blocks; None where they end before they are whole."""

    def one() -> bytes | None:
        lead = file.read(LENGTH)
        size = int.from_bytes(lead, "little")
        body = file.read(size)
        return body if len(lead) == LENGTH and len(body) == size else None

    if (first := one()) is None:
        return None
    blocks: list[Block] = []
    while body := one():
        blocks.append(decode(body))
    return None if body is None else (msgspec.json.decode(first, type=Header), blocks)


def main() -> int:
    """0 once the files are on the disk."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with suppress(OSError):
        os.nice(NICE)
    found = _read(sys.stdin.buffer)
    if found is None:
        return 1
    try:
        close(*found)
    except OSError as error:
        print(f"{error.strerror or error}: {error.filename}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
