"""What the service answers, as the client gives it; the server sends the same messages, but for keys of slices.

A slice that is a list in JSON is a tuple here, so that it can be the key of a dict. A score or threshold of null is
None: it was infinite, or there is none.
"""

from typing import Literal

import msgspec

SliceKey = str | int | tuple[str | int, ...]


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """How odd an event is under the model of its slice before it, and whether that is odd enough to be flagged."""

    score: float | None  # null: infinite, nothing of the event was usable
    threshold: float | None
    p_value: float | None
    anomalous: bool
    ready: bool  # whether the slice has seen enough to be judged


class EventAnswer(msgspec.Struct, frozen=True, gc=False):
    """The answer to an event: a verdict with what it is about."""

    slice: SliceKey
    score: float | None
    threshold: float | None
    p_value: float | None
    anomalous: bool
    ready: bool
    id: str | None = None


class ClickAnswer(msgspec.Struct, frozen=True, gc=False):
    """The decision about a click. Where `degraded` names a part that failed, the click was not judged nor learned."""

    click_id: str
    decision: Literal["robotic", "valid", "unknown"]
    p_robot: float | None
    threshold: float | None
    slice: str  # e.g. "phone / US / true"
    model_version: str
    anomaly: Verdict | None
    degraded: list[str] | None = None  # e.g. ["counters"]: send the click again later, with the same click_id


class LabelAnswer(msgspec.Struct, frozen=True, gc=False):
    """Whether the click is still remembered, and what was decided about it."""

    click_id: str
    known: bool
    decision: Literal["robotic", "valid"] | None = None


class SliceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One slice in a few numbers; those from `ivr` on are of slices of clicks only."""

    of: Literal["events", "clicks"]
    slice: SliceKey
    events: int
    anomalies: int
    drift: float | None  # share flagged of its events among the latest 65,536 of the stream
    last_ts: int | None = None  # ms since 1970 UTC
    score: float | None = None  # of its latest event
    threshold: float | None = None
    ivr: float | None = None  # share of its clicks marked robotic
    fpr: float | None = None  # share of its purchasing clicks marked robotic
    p_robot: float | None = None  # of its latest click
    robot_threshold: float | None = None


class SlicePage(msgspec.Struct, frozen=True):
    """Some of the slices, how many there are, and how many of those contain what was asked for."""

    slices: list[SliceRow]
    total: int
    found: int


class History(msgspec.Struct, frozen=True):
    """The last events of a slice, at most 256, oldest first."""

    ts: list[int | None]
    score: list[float | None]
    threshold: list[float | None]
    anomalous: list[bool]
    p_robot: list[float | None] | None = None  # of clicks only


class SliceState(SliceRow, frozen=True, kw_only=True):
    """One slice with its history and what drives its latest score."""

    history: History
    drivers: dict[str, float] | None = None  # share of the score by feature, largest first


class Explanation(msgspec.Struct, frozen=True):
    """Which features drive the score of an event or click."""

    slice: SliceKey
    score: float | None
    threshold: float | None
    anomalous: bool
    drivers: dict[str, float]  # share of the score by feature, largest first
