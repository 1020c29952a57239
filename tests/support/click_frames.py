"""A click as a record, frames of such, and the example of a mapping."""

from pathlib import Path

import polars as pl

from onlineguard.slidr.clicks.clicks import SCHEMA

RECORD = {
    "click_id": "c1",
    "ts": 1_700_000_000_123,
    "user_id": "anna",
    "session_id": "s1",
    "ip": "192.0.2.7",
    "user_agent": "Mozilla/5.0",
    "device": "mobile",
    "marketplace": "DE",
    "ad_id": "ad7",
    "logged_in": True,
    "purchase_ts": None,
    "rfm": 12.0,
}
EXAMPLE = Path(__file__).parents[2] / "examples" / "talkingdata.toml"


def frame(**columns):
    rows = max([len(values) for values in columns.values()], default=1)
    return pl.DataFrame(
        {**{field: [value] * rows for field, value in RECORD.items()}, **columns}, schema_overrides=SCHEMA
    )
