"""One click, as it is sent and stored. Needs no more than msgspec, so that a client can import it."""

from typing import Annotated

import msgspec

LATEST = 2**31 * 10_000 - 96 * 3_600_000  # ms since 1970, in the year 2650: the counters number 10 s with 31 bits
RFM = (3.0, 15.0)

Time = Annotated[int, msgspec.Meta(ge=0, le=LATEST, description="milliseconds since 1970 UTC")]
Rfm = Annotated[float, msgspec.Meta(ge=RFM[0], le=RFM[1])]


class Click(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One click on an ad. The fields are those of `clicks.SCHEMA`; any other field is ignored."""

    click_id: str
    ts: Time
    user_id: str | None = None
    session_id: str | None = None
    ip: str
    user_agent: str
    device: str
    marketplace: str
    ad_id: str
    logged_in: bool
    purchase_ts: Time | None = None
    rfm: Rfm | None = None
