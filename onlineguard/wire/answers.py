"""What an answer holds.

A score or threshold of None was infinite, or there is none.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from onlineguard.records.decisions import Standing
from onlineguard.wire.requests import Of, SliceKey

Reason = float | dict[str, float | None] | list[str] | None  # a number, numbers or names of features
Drivers = Annotated[dict[str, float], Meta(description="each feature's share of the score, largest first")]


class VerdictAnswer(msgspec.Struct, frozen=True, gc=False):
    """How odd an event is to its slice, by what the slice had taught before it, and whether that is flagged."""

    score: float | None  # null if nothing of the event was usable
    threshold: float | None
    p_value: float | None
    anomalous: bool
    ready: bool  # whether the slice has seen enough to be judged


class EventAnswer(msgspec.Struct, frozen=True, gc=False):
    """The verdict on an event, with its slice and id."""

    slice: SliceKey
    score: float | None
    threshold: float | None
    p_value: float | None
    anomalous: bool
    ready: bool
    id: str | None = None


class ClickAnswer(msgspec.Struct, frozen=True, gc=False):
    """The decision about a click. If `degraded` names a part that failed, the click was neither judged nor learned."""

    click_id: str
    decision: Literal["robotic", "valid", "unknown"]
    p_robot: float | None
    threshold: float | None
    slice: str  # e.g. "phone / US / true"
    model_version: str
    anomaly: VerdictAnswer | None
    degraded: list[str] | None = None  # e.g. ["counters"]: send the click again later, with the same click_id
    replaces: Standing | None = None  # the decision before it, where this one came later than the click


class LabelAnswer(msgspec.Struct, frozen=True, gc=False):
    """Whether the service still remembers the click, and how it decided."""

    click_id: str
    known: bool
    decision: Literal["robotic", "valid"] | None = None


class DecisionAnswer(msgspec.Struct, frozen=True, gc=False):
    """What became of a delayed decision: it is in force now, it was already, or another one is than it replaces."""

    click_id: str
    outcome: Literal["applied", "repeated", "conflict"]
    known: bool  # whether the service still remembers the click; the decision of one that it does not is only recorded
    in_force: Standing


class SliceRow(msgspec.Struct, frozen=True, kw_only=True):
    """A slice in a table. The fields from `ivr` on are given for slices of clicks only."""

    of: Of
    slice: SliceKey
    events: int
    anomalies: int
    drift: Annotated[float, Meta(description="share flagged of its events among the latest 65,536 of the stream")]
    last_ts: Annotated[int | None, Meta(description="milliseconds since 1970 UTC")]
    score: Annotated[float | None, Meta(description="of its latest event")]
    threshold: float | None
    ivr: Annotated[float | None, Meta(description="share of its clicks that were called robotic")] = None
    fpr: Annotated[float | None, Meta(description="share of its purchasing clicks that were called robotic")] = None
    p_robot: Annotated[float | None, Meta(description="of its latest click")] = None
    robot_threshold: float | None = None
    coverage: Annotated[
        float | None, Meta(description="share called robotic of its clicks of sessions that click as no human does")
    ] = None


class SlicePage(msgspec.Struct, frozen=True):
    """Some of the slices."""

    slices: list[SliceRow]
    total: Annotated[int, Meta(description="all slices of the stream")]
    found: Annotated[int, Meta(description="slices whose key contains the text that was asked for")]


class History(msgspec.Struct, frozen=True):
    """The latest events of a slice, at most 256, oldest first."""

    ts: list[int | None]
    score: list[float | None]
    threshold: list[float | None]
    anomalous: list[bool]
    p_robot: list[float | None] | None = None  # of clicks only


class SliceState(SliceRow, frozen=True, kw_only=True):
    """One slice, with its history and the drivers of its latest score."""

    history: History
    drivers: Drivers | None


class Explanation(msgspec.Struct, frozen=True):
    """The verdict on an event or click if it came now, the features that drive its score, and why.

    The entries of `reasons` depend on the detector: what each value was expected to be, what is nearest to it, and the
    pair of features whose relation is broken, for example.
    """

    slice: SliceKey
    score: float | None
    threshold: float | None
    p_value: float | None
    anomalous: bool
    ready: bool
    drivers: Drivers
    reasons: dict[str, Reason] = {}  # earlier services give none


class ModelVersion(msgspec.Struct, frozen=True):
    """The model that decides from now on."""

    model_version: str


class WatchedRate(msgspec.Struct, frozen=True):
    """A rate that the live watch compares, over all clicks or of a slice."""

    figure: Literal["ivr", "fpr"]
    of: str  # the slice; empty for all
    promised: float
    seen: float | None
    n: int  # clicks or purchases


class AlarmAnswer(msgspec.Struct, frozen=True):
    """A sharp deviation of live traffic from what the model was seen to do before."""

    t: int
    model_version: str
    figure: Literal["ivr", "fpr", "scores", "features"]
    of: str  # the slice or the feature; empty for all
    promised: float
    seen: float
    limit: float
    clicks: int  # since the model went live


class WatchState(msgspec.Struct, frozen=True):
    """What the live watch has seen of the model that decides, and the latest alarms, the oldest first."""

    model_version: str
    since: int | None
    watched: bool  # whether promises of the model are known
    clicks: int
    within: int | None  # clicks within which three times the promised share of robotic clicks is found
    rates: list[WatchedRate]
    psi: dict[str, float | None]
    alarms: list[AlarmAnswer]
    rollbacks: int


class Arm(msgspec.Struct, frozen=True):
    """The clicks that one of two models decided."""

    clicks: int
    robotic: int
    purchases: int
    robotic_purchases: int


class Comparison(msgspec.Struct, frozen=True):
    """What two models say of the same clicks, over all or of a slice, since the trial began.

    Every click is judged by both. Purchases are those that became known; heavy clicks are those of sessions with more
    clicks within the hour before than a person makes, by default 20.
    """

    of: str  # the slice; empty for all
    clicks: int
    live: Annotated[int, Meta(description="clicks that the live model calls robotic")]
    candidate: Annotated[int, Meta(description="clicks that the candidate calls robotic")]
    only_live: int
    only_candidate: int
    purchases: int
    purchases_live: int
    purchases_candidate: int
    heavy: int
    heavy_live: int
    heavy_candidate: int
    by_live: Annotated[Arm, Meta(description="what the live model decided")]
    by_candidate: Annotated[Arm, Meta(description="what the candidate decided")]


class TrialState(msgspec.Struct, frozen=True):
    """The trial of a candidate beside the model that decides: the one that runs, or the last one."""

    running: bool
    version: str | None  # of the candidate; null if there was no trial
    live: str | None  # the version that it is compared with
    share: float  # of the users whose clicks it decides; 0: it decides nothing
    since: int | None
    ended: int | None
    why: str  # it ended
    overall: Comparison | None
    slices: list[Comparison]  # those that either model has a threshold for, and that had clicks
    watched: bool  # whether promises of the candidate are known
    rates: list[WatchedRate]  # of the candidate, on every click, whoever decided
    alarms: list[AlarmAnswer]  # of the candidate


class SnapshotAnswer(msgspec.Struct, frozen=True):
    """The last entry of the journal that the snapshot includes."""

    sequence: int


class ErasedAnswer(msgspec.Struct, frozen=True):
    """What the history had of a person, and has no longer."""

    clicks: int
    labels: int


class Alive(msgspec.Struct, frozen=True):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Readiness(msgspec.Struct, frozen=True):
    """Whether requests are answered, and if not, why not.

    `degraded` names what does not work as it should meanwhile, a sentence a part; a service may be ready and degraded.
    """

    ready: bool
    reasons: list[str]
    degraded: list[str] = []  # earlier services give none


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request was refused, in the form of RFC 9457. Nothing of the request was learned."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"
