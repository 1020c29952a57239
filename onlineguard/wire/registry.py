"""The registry that the service follows: what is asked of it, what is changed in it, and the answers."""

from typing import Annotated

import msgspec
from msgspec import Meta

from onlineguard.records.versions import Change, Outcome
from onlineguard.wire.requests import MOST_ID, MOST_ROWS, MOST_TEXT

Version = Annotated[str, Meta(min_length=1, max_length=MOST_ID)]
Why = Annotated[str, Meta(max_length=MOST_TEXT, description="The reason, for whoever reads the log in a year.")]
Generation = Annotated[
    int | None, Meta(description="That of the change on which the decision rests; refused if another one came since.")
]


class RowsQuery(msgspec.Struct, frozen=True):
    """How much of a list to show, the newest first."""

    limit: Annotated[int, Meta(ge=1, le=MOST_ROWS, description="The most to answer with.")] = 100
    offset: Annotated[int, Meta(ge=0, le=2**31, description="How many to skip.")] = 0


class DiffQuery(msgspec.Struct, frozen=True):
    """Which two versions to compare."""

    a: Annotated[str, Meta(description="A version.")]
    b: Annotated[str, Meta(description="Another version.")]


class Promotion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version that shall be current."""

    version: Version
    why: Why
    force: Annotated[bool, Meta(description="Also if it failed guardrails; the log names them.")] = False
    generation: Generation = None


class Rollback(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The version that was current before the present one shall be so again."""

    why: Why
    generation: Generation = None


class Period(msgspec.Struct, frozen=True):
    """The clicks of a training or a calibration. Times in milliseconds since 1970 UTC."""

    since: int
    until: int  # not included
    known_at: int  # labels as of this time
    clicks: int
    humans: int  # known to be human; of a calibration, known to have led to a purchase


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of a version before it went live, over all clicks or of a slice; null where nothing was."""

    of: str  # the slice; empty for all
    threshold: float | None
    clicks: int | None = None
    purchases: int | None = None
    ivr: float | None = None
    fpr: float | None = None
    coverage: float | None = None
    auc: float | None = None


class VersionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A version in a table. Of a live model that is not in the registry, only what its folder says is known."""

    version: str
    made: Annotated[int | None, Meta(description="milliseconds since 1970 UTC; null if it is not in the registry")]
    who: str | None
    parent: Annotated[str | None, Meta(description="the version that was current when this one was made")]
    trained: Period
    calibrated: Period | None
    measured: Measured
    passed: Annotated[int, Meta(description="guardrails that it passed")]
    failed: list[str]
    skipped: list[str]


class VersionState(VersionRow, frozen=True, kw_only=True):
    """A version with the report of the guardrails, and its measures and thresholds by slice."""

    kind: str
    columns: Annotated[list[str], Meta(description="of a click, which make its slice")]
    guardrails: list[Outcome]
    slices: list[Measured]


class RegistryState(msgspec.Struct, frozen=True, kw_only=True):
    """The versions, the newest first, and which of them decides."""

    registry: Annotated[str | None, Meta(description="its folder or URL; null if the service follows none")]
    generation: Annotated[int, Meta(description="of the last change; 0 before the first")]
    live: Annotated[str, Meta(description="the version that decides")]
    current: str | None
    previous: Annotated[str | None, Meta(description="to which a rollback leads")]
    refused: Annotated[str | None, Meta(description="why the service does not use the current version")]
    versions: list[VersionRow]
    total: int


class ChangePage(msgspec.Struct, frozen=True):
    """Entries of the audit log, the newest first."""

    changes: list[Change]
    total: int


class Changed(msgspec.Struct, frozen=True):
    """A change of the registry, the version that decides after it, and why that is another one if it is."""

    change: Change
    live: str
    problem: str | None = None


class Pair(msgspec.Struct, frozen=True):
    """A fact about both versions; null where one has none."""

    name: str
    a: float | str | bool | None
    b: float | str | bool | None


class Distance(msgspec.Struct, frozen=True):
    """The largest difference of a feature's two cumulative distributions in training, 0 to 1."""

    name: str
    distance: float


class VersionDiff(msgspec.Struct, frozen=True):
    """Two versions side by side. Metrics are of the days that each was measured on."""

    a: str
    b: str
    facts: list[Pair]
    metrics: list[Pair]
    thresholds: list[Pair]
    features: list[Distance]


__all__ = [
    "Change",
    "ChangePage",
    "Changed",
    "DiffQuery",
    "Distance",
    "Measured",
    "Outcome",
    "Pair",
    "Period",
    "Promotion",
    "RegistryState",
    "Rollback",
    "RowsQuery",
    "VersionDiff",
    "VersionRow",
    "VersionState",
]
