"""What a request holds: bodies and queries."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from onlineguard.records.click import Click, Rfm, Time
from onlineguard.records.decisions import Decision

MOST_ROWS = 1_000  # slices in one answer

MOST_KEY, MOST_ID, MOST_TEXT = (
    512,
    256,
    2_048,
)  # characters of a slice, all its texts together, of an id, and of another text
MOST_PARTS = 16  # of a slice

Id = Annotated[str, Meta(max_length=MOST_ID)]
Text = Annotated[str, Meta(max_length=MOST_TEXT)]
KeyText = Annotated[str, Meta(max_length=MOST_KEY)]
Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
SliceKey = (
    KeyText | Whole | Annotated[tuple[KeyText | Whole, ...], Meta(min_length=1, max_length=MOST_PARTS)]
)  # a tuple is a list in JSON

Of = Literal["events", "clicks"]  # the stream that a slice belongs to
Sort = Literal["events", "name", "score", "threshold", "drift", "anomalies", "ivr"]


class Event(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """What one slice of a stream sent: `x` in the order of the features, or `features` by name.

    A feature is a number, or a category where the operator says so or the stream's first event has a text there.
    """

    slice: SliceKey
    x: list[float | Text | None] | None = None  # null where a feature is missing
    features: dict[str, float | Text | None] | None = None
    id: Id | None = None  # an event of the slice that repeats it gets the first one's answer and is not learned again
    ts: Time | None = None  # kept for the history; the model does not look at it


class Label(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """What became known about a click later: that it led to a purchase, or the RFM score of its account, or both."""

    click_id: Id
    purchase_ts: Time | None = None
    rfm: Rfm | None = None


class ModelFolder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The folder of a model, on the machine of the service, or a version of the registry that it follows."""

    folder: Annotated[str, Meta(extra_json_schema={"minLength": 1, "pattern": "^[^\\u0000]+$"})] | None = None
    version: Annotated[str, Meta(max_length=MOST_ID)] | None = None
    force: Annotated[bool, Meta(description="Also if it does not fit the clicks that come.")] = False


class TrialModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model that is tried beside the one that decides, and the share of the users whose clicks it decides."""

    share: Annotated[float, Meta(ge=0.0, le=1.0, description="0: it judges every click and decides none.")] = 0.0
    folder: Annotated[str, Meta(extra_json_schema={"minLength": 1, "pattern": "^[^\\u0000]+$"})] | None = None
    version: Annotated[str, Meta(max_length=MOST_ID)] | None = None
    force: Annotated[bool, Meta(description="Also if it does not fit the clicks that come.")] = False


class Person(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A user whose traces are to be erased."""

    user_id: Id


class SlicesQuery(msgspec.Struct, frozen=True):
    """Which slices to list, and in which order."""

    of: Annotated[Of, Meta(description="The stream; both without it.")] | UnsetType = UNSET
    sort: Annotated[Sort, Meta(description="The column to sort by.")] = "events"
    order: Annotated[Literal["desc", "asc"], Meta(description="Largest or smallest first.")] = "desc"
    limit: Annotated[int, Meta(ge=1, le=MOST_ROWS, description="The most slices to answer with.")] = 100
    offset: Annotated[int, Meta(ge=0, le=2**31, description="How many slices to skip.")] = 0
    contains: Annotated[str, Meta(description="Only slices whose key contains this text, in upper or lower case.")] = ""


class SliceQuery(msgspec.Struct, frozen=True):
    """Which stream a slice belongs to."""

    of: Annotated[Of, Meta(description="The stream.")] = "clicks"


__all__ = [
    "MOST_ROWS",
    "Click",
    "Decision",
    "Event",
    "Label",
    "ModelFolder",
    "Of",
    "Person",
    "SliceKey",
    "SliceQuery",
    "SlicesQuery",
    "Sort",
    "TrialModel",
]
