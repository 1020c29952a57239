"""One click, as it is sent and stored."""

from typing import Annotated

import msgspec

LATEST = 2**31 * 10_000 - 96 * 3_600_000  # ms since 1970, in the year 2650: the counters number 10 s with 31 bits
RFM = (3.0, 15.0)

Time = Annotated[int, msgspec.Meta(ge=0, le=LATEST, description="milliseconds since 1970 UTC")]
MOST_ID, MOST_AGENT, MOST_TEXT = 256, 2_048, 128  # characters

Id = Annotated[str, msgspec.Meta(max_length=MOST_ID)]
Agent = Annotated[str, msgspec.Meta(max_length=MOST_AGENT)]
Text = Annotated[str, msgspec.Meta(max_length=MOST_TEXT)]
Rfm = Annotated[float, msgspec.Meta(ge=RFM[0], le=RFM[1])]


class Click(msgspec.Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """One click on an ad. The fields are those of `clicks.SCHEMA`, and there are no others."""

    click_id: Id
    ts: Time
    user_id: Id | None = None
    session_id: Id | None = None
    ip: Text
    user_agent: Agent
    device: Text
    marketplace: Text
    ad_id: Id
    logged_in: bool
    purchase_ts: Time | None = None
    rfm: Rfm | None = None
