"""Long streams through an engine in short batches: the program that judges single events serves any stream."""

from typing import Any

import numpy as np

from onlineguard import Engine
from onlineguard.engine.verdicts import Verdicts

BATCH = 64  # events of the shortest program
LONG, LONGER_BATCH = 65_536, 1_024  # of streams from that length on the calls would take long


def updated(engine: Engine, keys: Any, x: Any) -> Verdicts:
    """The verdicts on a stream; keys: the slice of each event, or the one of them all."""
    size = BATCH if len(x) < LONG else LONGER_BATCH
    parts = [
        engine.update(keys if isinstance(keys, str) else keys[i : i + size], x[i : i + size])
        for i in range(0, len(x), size)
    ]
    return Verdicts(np.concatenate([part.judgements for part in parts]), engine.target_rate)
