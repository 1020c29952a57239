"""What a replay changes, by slice, ad and advertiser, in clicks and in money: what a dry run shows.

A robotic click is not paid for, so the bill is the price of all valid ones. One that was called valid and now is
robotic is given back to its advertiser; one that was called robotic and now is valid could be charged for.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import polars as pl

from onlineguard.errors import SourceError
from onlineguard.slidr.clicks.files import read_table

By = Literal["slice", "ad_id", "advertiser"]
_SUMS = (
    *("clicks", "was_robotic", "robotic", "now_robotic", "now_valid", "purchases_freed"),
    *("was_billed", "billed", "refund", "charge"),
)


def read_prices(path: Path) -> pl.DataFrame:
    """A table of ads with ad_id and, each where it is known, advertiser and price: of a click, in any currency.

    Raises SourceError if it cannot be read, has no ad_id or neither of the others, or has an ad twice.
    """
    table = read_table(path)
    names = set(table.columns)
    if "ad_id" not in names or not names & {"advertiser", "price"}:
        raise SourceError(f"{path} has the columns {', '.join(table.columns)}; it must have ad_id, advertiser, price")
    kinds = {"ad_id": pl.String(), "advertiser": pl.String(), "price": pl.Float64()}
    prices = table.select(
        (pl.col(name).cast(kind, strict=False) if name in names else pl.lit(None, kind)).alias(name)
        for name, kind in kinds.items()
    )
    if twice := prices.filter(pl.col("ad_id").is_duplicated()).height:
        raise SourceError(f"{path} has {twice} rows of ads that it has more than once; give each ad one row")
    return prices


class Bill:
    """Sums over what was replayed."""

    def __init__(self, prices: pl.DataFrame | None = None):
        none = pl.DataFrame(schema={"ad_id": pl.String(), "advertiser": pl.String(), "price": pl.Float64()})
        self._prices = none if prices is None else prices
        self.priced = prices is not None
        self._sums: pl.DataFrame | None = None  # by all three together, of which there are few

    def counting(self, frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """The frames of a replay, each added to the sums as it passes."""
        for frame in frames:
            self.add(frame)
            yield frame

    def add(self, frame: pl.DataFrame) -> None:
        """Add some replayed clicks."""
        now, was = pl.col("robotic"), pl.col("was_robotic")
        price = pl.col("price").fill_null(0.0)
        sums = (
            frame.lazy()
            .join(self._prices.lazy(), on="ad_id", how="left")
            .group_by("slice", "ad_id", pl.col("advertiser").fill_null("unknown"))
            .agg(
                clicks=pl.len(),
                was_robotic=was.sum(),
                robotic=now.sum(),
                now_robotic=(now & ~was).sum(),
                now_valid=(was & ~now).sum(),
                purchases_freed=(was & ~now & pl.col("purchase_ts").is_not_null()).sum(),
                was_billed=price.filter(~was).sum(),
                billed=price.filter(~now).sum(),
                refund=price.filter(now & ~was).sum(),
                charge=price.filter(was & ~now).sum(),
            )
            .collect()
        )
        whole = sums if self._sums is None else pl.concat([self._sums, sums])
        self._sums = whole.group_by("slice", "ad_id", "advertiser").agg(pl.col(_SUMS).sum())

    def by(self, column: By | None = None) -> pl.DataFrame:
        """The sums by slice, ad or advertiser, those with most changes first; None: of everything, one row."""
        if self._sums is None:
            return pl.DataFrame()
        if column is None:
            return self._sums.select(pl.col(_SUMS).sum())
        changes = pl.col("now_robotic") + pl.col("now_valid")
        return (
            self._sums.group_by(column).agg(pl.col(_SUMS).sum()).sort(changes, pl.col(column), descending=[True, False])
        )
