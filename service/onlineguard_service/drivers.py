"""Drivers: what each feature of an event has to do with its verdict, and the reasons, in the words of the contract."""

import math
from collections.abc import Hashable
from typing import Any

import msgspec
import numpy as np

from onlineguard.engine.engine import Engine
from onlineguard.engine.events import CodedEvents
from onlineguard_service.alarms import TOLD, Why
from onlineguard_service.telling import plain, verdict_answers


def why(engine: Engine | None, key: Hashable, row: np.ndarray) -> Why | None:
    """What drives an event (1, d) of a slice, and its reasons, of the features that drive it most.

    None where the engine does not know the slice, or there is none.
    """
    if engine is None:
        return None
    try:
        found, reasons = engine.explain(key, CodedEvents(row)), _reasons(engine, key, row)
    except KeyError:  # it was evicted meanwhile
        return None
    drivers = {str(name): share for name, share in list(found.items())[:TOLD] if 0.0 < share < math.inf}
    return drivers, {
        name: {each: value for each, value in told.items() if each in drivers} if isinstance(told, dict) else told
        for name, told in reasons.items()
    }


def explained(engine: Engine, key: Hashable, row: np.ndarray) -> dict[str, Any]:
    """The verdict on an event (1, d) if it came now, what each feature has to do with it, largest first, and reasons.

    Raises KeyError for a slice that the engine does not know.
    """
    (verdict,) = verdict_answers(engine.score([key], CodedEvents(row)))
    return {
        **msgspec.to_builtins(verdict),
        "drivers": engine.explain(key, CodedEvents(row)),
        "reasons": _reasons(engine, key, row),
    }


def _reasons(engine: Engine, key: Hashable, row: np.ndarray) -> dict[str, Any]:
    return {name: plain(reason) for name, reason in engine.reasons(key, CodedEvents(row)).items()}
