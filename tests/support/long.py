"""Long streams through an engine, in batches of one length: one compiled program serves streams of any length."""

from typing import Any

import numpy as np

from onlineguard import Engine
from onlineguard.engine.verdicts import Verdicts

BATCH = 1_024  # slices are pooled at multiples of it, so that no batch is cut there and needs a further program


def updated(engine: Engine, keys: Any, x: Any) -> Verdicts:
    """The verdicts on a stream; keys: the slice of each event, or the one of them all."""
    parts = [
        engine.update(keys if isinstance(keys, str) else keys[i : i + BATCH], x[i : i + BATCH])
        for i in range(0, len(x), BATCH)
    ]
    return Verdicts(np.concatenate([part.judgements for part in parts]), engine.target_rate)
