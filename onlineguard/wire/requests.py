"""What goes over the wire: requests, answers and the entries of the journal, decoded, checked and encoded by msgspec.

A request holds one object or an array of them, or one object a line (NDJSON); its answer has the same shape, in the
same order. A number that JSON has no word for, such as an infinite score, is written as null.
"""

from typing import Annotated, Literal

import msgspec

from onlineguard.slidr.clicks.clicks import RFM, Click, Time
from onlineguard.wire.answers import ClickAnswer, LabelAnswer, Verdict

Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
SliceKey = str | Whole | Annotated[list[str | Whole], msgspec.Meta(min_length=1)]

Of = Literal["events", "clicks"]  # which of the two streams a slice belongs to


class Event(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Numbers of one slice of a stream: `x` in the order of the features, or `features` by name; null is missing."""

    slice: SliceKey
    x: list[float | None] | None = None
    features: dict[str, float | None] | None = None
    id: str | None = None  # a repeated one is answered as the first, and not learned again
    ts: Time | None = None  # milliseconds since 1970 UTC, kept for the history, not looked at by the model


class Label(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What became known of a click later: that it led to a purchase, or the RFM score of its account, or both."""

    click_id: str
    purchase_ts: Time | None = None
    rfm: Annotated[float, msgspec.Meta(ge=RFM[0], le=RFM[1])] | None = None


class EventAnswer(msgspec.Struct, frozen=True, gc=False):
    """The answer to an event: a verdict with what it is about."""

    slice: SliceKey
    score: float | None
    threshold: float | None
    p_value: float | None
    anomalous: bool
    ready: bool
    id: str | None = None


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request was refused, as RFC 9457 has it; nothing of it was learned."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"


__all__ = [
    "Click",
    "ClickAnswer",
    "Event",
    "EventAnswer",
    "Label",
    "LabelAnswer",
    "Of",
    "Problem",
    "SliceKey",
    "Verdict",
]
