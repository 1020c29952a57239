"""A version of the lookups from clicks and orders: what was known when a day ended, and nothing later.

**Baselines** of an entity are of the clicks of the `days` before `as_of`, with n days on which there were any:

    daily = log1p(clicks / n)        days = days with clicks / n

**RFM.** From a file of orders, the score of every account as `learning.labels.rfm_scores` makes it. Without one, the
score that was last sent of the account, with a click or as a label. Without that too, the score of its purchases that
are known of, each of the amount 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from onlineguard.slidr.clicks.clicks import prefix
from onlineguard.slidr.learning.labels import rfm_scores
from onlineguard.slidr.lookups.columns import NOBODY, hashed
from onlineguard.slidr.lookups.single import Table

DAY = 86_400_000  # milliseconds
DAYS = 28  # whole weeks: a baseline then has as many Sundays as other days
_ENTITIES = {"users": "user_id", "prefixes": "ip", "agents": "user_agent", "ads": "ad_id"}


@dataclass(frozen=True)
class Known:
    """What was known of clicks when a day ended; frames are lazy, and are gone through in parts."""

    clicks: pl.LazyFrame  # ts, user_id, ip, user_agent, ad_id; of as_of - days * DAY <= ts < as_of
    orders: pl.DataFrame  # user_id, ts, amount; of the 90 days before
    sent: pl.DataFrame  # user_id, rfm: the score that was last sent of each account


def tables(known: Known, as_of: int, say: Callable[[str], None] = lambda _line: None) -> dict[str, Table]:
    """The tables of entities; see this module. `say` gets a line a table."""
    days = known.clicks.select((pl.col("ts") // DAY).n_unique()).collect(engine="streaming").item()
    found = {"accounts": _accounts(known, as_of)}
    for name, column in _ENTITIES.items():
        say(f"counting {name}")
        found[name] = _baselines(known.clicks, column, max(1, days))
    return found


def _accounts(known: Known, as_of: int) -> Table:
    scores = rfm_scores(known.orders, as_of).select("user_id", "rfm")
    sent = known.sent.filter(pl.col("rfm").is_between(3.0, 15.0))
    both = pl.concat([sent, scores.join(sent, on="user_id", how="anti")])
    return _table(both["user_id"], both.select("rfm"))


def _baselines(clicks: pl.LazyFrame, column: str, days: int) -> Table:
    by_day = clicks.select(entity=column, day=pl.col("ts") // DAY).drop_nulls().group_by("entity", "day").len()
    if column == "ip":
        counted = by_day.collect(engine="streaming")
        addresses = counted["entity"].unique()
        networks = pl.DataFrame({"entity": addresses, "network": [prefix(ip) for ip in addresses]})
        of_networks = counted.lazy().join(networks.lazy(), on="entity").group_by(entity="network", day="day")
        by_day = of_networks.agg(len=pl.col("len").sum())
    whole = by_day.group_by("entity").agg(clicks=pl.col("len").sum(), seen=pl.len()).collect(engine="streaming")
    return _table(whole["entity"], whole.select((pl.col("clicks") / days).log1p(), pl.col("seen") / days))


def _table(names: pl.Series, values: pl.DataFrame) -> Table:
    keys, first = np.unique(np.array([hashed(name) for name in names], np.uint64), return_index=True)
    kept = keys != NOBODY
    return Table(keys[kept], values.to_numpy().astype(np.float32).reshape(len(names), -1)[first[kept]])
