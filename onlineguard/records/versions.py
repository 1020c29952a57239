"""What a registry writes about a version and about a change, as structs; JSON on disk."""

from typing import Any

import msgspec

FORMAT = 1


class SlicePromise(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one slice on clicks that the model had not seen; rates are counts, so they can be added."""

    clicks: int
    robotic: int
    purchases: int
    robotic_purchases: int
    heavy: int  # clicks of heavy sessions
    robotic_heavy: int
    scores: list[int]  # clicks between two of `Promises.score_edges`, one number more than there are edges


class FeaturePromise(msgspec.Struct, frozen=True):
    """The distribution of a feature in training: inner edges, and the share of clicks in each of the bins they make."""

    edges: list[float]
    shares: list[float]


class Promises(msgspec.Struct, frozen=True, kw_only=True):
    """What a model was seen to do before it went live; live traffic and later candidates are compared with it."""

    clicks_a_day: float
    human_share: float  # of the training clicks
    score_edges: list[float]
    slices: dict[str, SlicePromise]
    features: dict[str, FeaturePromise]


class Canary(msgspec.Struct, frozen=True):
    """A click whose score every later candidate must about repeat."""

    slice: str
    features: list[float]
    categories: list[int]  # of `clicks.categories`
    robotic: bool  # what the model that pinned it decided


class Outcome(msgspec.Struct, frozen=True):
    """What one guardrail found."""

    name: str
    about: str  # "data" or "candidate"
    outcome: str  # "passed", "failed" or "skipped"
    sentence: str
    reason: str  # why there is such a check
    figures: dict[str, float | None] = {}
    limits: dict[str, float] = {}


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A version: `versions/<version>/record.json`. It is written last, so a version without one is not there."""

    format: int = FORMAT
    version: str
    files: dict[str, str]  # SHA-256 of each
    parent: str | None  # the version that was current when this one was made
    made: int  # ms since 1970 UTC
    who: str
    trained: dict[str, int]  # a `model.Span`: the window, clicks and labels
    calibrated: dict[str, int] | None
    metrics: dict[str, Any] = {}  # an `Evaluation` as plain numbers
    guardrails: list[Outcome] = []
    promises: Promises | None = None
    canaries: list[Canary] = []

    @property
    def failed(self) -> list[str]:
        """The guardrails that it failed."""
        return [each.name for each in self.guardrails if each.outcome == "failed"]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the audit log: `changes/<generation>.json`. The last one says what is current."""

    generation: int  # from 1 on
    action: str  # "promote", "rollback", "trial" or "end trial"
    current: str  # from now on
    previous: str | None  # to which a rollback would lead
    replaced: str | None  # what was current before
    who: str
    why: str
    when: int  # ms since 1970 UTC
    forced: list[str] = []  # the guardrails that had failed, and were overridden
    trial: str | None = None  # the candidate that judges beside the current version from now on
    share: float = 0.0  # of the users whose clicks it decides
