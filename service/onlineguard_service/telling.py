"""Telling: what engines and models found, in the words of the contract."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np

from onlineguard.engine.verdicts import Verdicts
from onlineguard.slidr.pipeline import slice_name
from onlineguard.wire.answers import EventAnswer, VerdictAnswer
from onlineguard.wire.requests import Event
from onlineguard_service.alarms import TEXT
from onlineguard_service.event_numbers import Stream
from onlineguard_service.figures import ANOMALOUS, JUDGED

_AS_TEXT = {True: "true", False: "false", None: ""}  # a slice's parts, as `pipeline.prepare` writes them


def ids_of(events: Sequence[Event]) -> list[str | None]:
    """What each event is remembered under: its slice and its id, if it has one."""
    return [None if event.id is None else f"{msgspec.json.encode(event.slice).decode()} {event.id}" for event in events]


def rows_of(of_entry: np.ndarray | None, places: list[int]) -> np.ndarray | None:
    """Of what an entry holds, that of the places; None where it holds nothing."""
    return of_entry if of_entry is None or len(places) == len(of_entry) else of_entry[places]


def flags_of(verdicts: Sequence[VerdictAnswer]) -> list[int]:
    """What the figures keep of each verdict."""
    return [ANOMALOUS * verdict.anomalous | JUDGED * verdict.ready for verdict in verdicts]


def verdict_answers(verdicts: Verdicts) -> list[VerdictAnswer]:
    """Verdicts as they are answered."""
    return [
        VerdictAnswer(finite(score), finite(threshold), finite(p_value), anomalous, ready)
        for score, threshold, p_value, anomalous, ready in verdicts.rows()
    ]


def texts_of(event: Event, stream: Stream) -> dict[int, str]:
    """The beginnings of an event's categories, by feature."""
    if not stream.categories:
        return {}
    values = event.x if event.x is not None else [(event.features or {}).get(name) for name in stream.names or ()]
    return {j: value[:TEXT] for j, value in enumerate(values) if isinstance(value, str)}


def plain(reason: Any) -> Any:
    """A reason as JSON has words for it."""
    if isinstance(reason, dict):
        return {str(name): finite(value) for name, value in reason.items()}
    return list(map(str, reason)) if isinstance(reason, tuple) else finite(reason)


def finite(value: float) -> float | None:
    """None for what JSON has no word for."""
    return value if value - value == 0.0 else None


def event_answers(events: Sequence[Event], verdicts: Sequence[VerdictAnswer]) -> list[EventAnswer]:
    """An answer to each event."""
    return [
        EventAnswer(event.slice, v.score, v.threshold, v.p_value, v.anomalous, v.ready, event.id)
        for event, v in zip(events, verdicts, strict=True)
    ]


@lru_cache(1 << 12)  # some MB, whatever texts are sent
def name_of_slice(columns: Any) -> str:
    """The name of the slice that has these values in its columns, a tuple of them or the only one."""
    values = columns if isinstance(columns, tuple) else (columns,)
    return slice_name(tuple(value if isinstance(value, str) else _AS_TEXT[value] for value in values))
