"""Alarms as things: what is asked about them, what is said of them, and the answers.

An alarm is a run of anomalous events of a slice, or one finding of the live watch or of the watch of a candidate.
Times are milliseconds since 1970 UTC at which the service took the events.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from onlineguard.wire.answers import AlarmAnswer, Drivers, Reason
from onlineguard.wire.requests import MOST_ROWS, MOST_TEXT, Of, SliceKey

Kind = Literal["anomaly", "watch", "trial"]
Standing = Literal["open", "over", "acknowledged"]
LAST = 2**53  # ms: a time after all others
Moment = Annotated[int, Meta(ge=0, le=LAST)]


class Acknowledged(msgspec.Struct, frozen=True):
    """Who has seen an alarm, when, and what they noted."""

    who: Annotated[str, Meta(description="the name of the key")]
    t: int
    note: str


class AlarmState(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm as it is now. Score, threshold, p-value, event and drivers are those of its largest score."""

    id: str
    kind: Annotated[
        Kind,
        Meta(description="anomaly: events of a slice; watch: of the model that decides; trial: of the candidate"),
    ]
    of: Of
    slice: Annotated[SliceKey | None, Meta(description="null where it is about all clicks")]
    state: Standing
    began: int
    last: Annotated[int, Meta(description="its latest anomalous event")]
    ended: Annotated[int | None, Meta(description="null while it goes on")]
    events: Annotated[int, Meta(description="anomalous events")]
    score: float | None
    threshold: float | None
    p_value: float | None
    event_id: str | None
    event_ts: int | None
    x: Annotated[dict[str, float | str | None] | None, Meta(description="by feature; of clicks, what is watched")]
    drivers: Drivers | None
    reasons: dict[str, Reason]
    usual: Annotated[bool, Meta(description="whether somebody said that its event was usual")]
    acknowledged: Acknowledged | None
    watch: Annotated[AlarmAnswer | None, Meta(description="what a watch found; null of an anomaly")]


class AlarmPage(msgspec.Struct, frozen=True):
    """Alarms, the newest first."""

    alarms: list[AlarmState]
    cursor: Annotated[str | None, Meta(description="where the next page begins; null after the last alarm")]
    kept: Annotated[int, Meta(description="alarms that are kept, whatever was asked for")]
    open: Annotated[int, Meta(description="those of them that go on")]


class AlarmsQuery(msgspec.Struct, frozen=True):
    """Which alarms to list, the newest first."""

    of: Annotated[Of, Meta(description="The stream; both without it.")] | UnsetType = UNSET
    slice: Annotated[str, Meta(description="The slice; one that is no text as JSON.")] | UnsetType = UNSET
    kind: Annotated[Kind, Meta(description="What found them.")] | UnsetType = UNSET
    state: Annotated[Standing, Meta(description="Whether they go on, are over, or were acknowledged.")] | UnsetType = (
        UNSET
    )
    since: Annotated[Moment, Meta(description="Begun then or later.")] = 0
    until: Annotated[Moment, Meta(description="Begun before then.")] = LAST
    least: Annotated[float, Meta(description="The least score.")] | UnsetType = UNSET
    limit: Annotated[int, Meta(ge=1, le=MOST_ROWS, description="The most alarms to answer with.")] = 100
    cursor: Annotated[str, Meta(description="Of the page before; new alarms do not move it.")] | UnsetType = UNSET


class AlarmNote(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator says of an alarm. It is acknowledged by that."""

    note: Annotated[str, Meta(max_length=MOST_TEXT)] = ""
    usual: Annotated[bool, Meta(description="Its event was usual: the slice learns it once, see Engine.feedback.")] = (
        False
    )


__all__ = ["LAST", "Acknowledged", "AlarmNote", "AlarmPage", "AlarmState", "AlarmsQuery", "Kind", "Standing"]
