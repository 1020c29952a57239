"""Weak labels: which clicks are known to be human, because their account did something that robots rarely pay for.

A click is known to be human if it led to a purchase, or if its account has a high RFM score (recency, frequency and
monetary value of its orders). All others are unknown: some are robots', and many are of people who only looked.

Source: both signs are those of Muralidhar, Chitlangia, Agarwal and Ahmed, "Real-time detection of robotic traffic in
online advertising", IAAI 2023. The quintiles and limits of the score are ours, since theirs are not public.
"""

import numpy as np
import polars as pl

from onlineguard.errors import InvalidArgument

DAY = 86_400_000  # milliseconds
WINDOW = 90 * DAY  # how far back an account's orders count
QUINTILES = 5


def humans(frame: pl.DataFrame, known_at: int, rfm_at_least: float = 12.0) -> np.ndarray:
    """Which clicks (n,) bool were known to be human at the time `known_at`, in milliseconds since 1970 UTC.

    A purchase counts from its own time on: if it came after `known_at`, it is not known yet. The RFM score, 3 to 15, is
    the one known when the click came. Without one (null or NaN) only a purchase makes a click human. Nothing is known
    of a click after `known_at`.

    >>> clicks = pl.DataFrame({"ts": [0, 0, 0], "purchase_ts": [5, 50, None], "rfm": [None, None, 13.0]})
    >>> humans(clicks, known_at=10).tolist()
    [True, False, True]
    """
    _require(frame, "clicks", ("ts", "purchase_ts", "rfm"))
    bought = (pl.col("purchase_ts").cast(pl.Int64) <= known_at).fill_null(False)
    rfm = pl.col("rfm").cast(pl.Float64)  # a column of nulls alone has no type of its own
    valued = (rfm.is_not_nan() & (rfm >= rfm_at_least)).fill_null(False)  # polars takes NaN for the largest number
    return frame.select(human=(pl.col("ts") <= known_at) & (bought | valued))["human"].to_numpy()


def rfm_scores(orders: pl.DataFrame, at: int) -> pl.DataFrame:
    """Quintiles (1 to 5) of every account's recency, frequency and monetary value at the time `at`, and their sum.

    `orders` has the columns user_id, ts (milliseconds since 1970 UTC) and amount.

    - Only orders of the 90 days before `at` count: at - 90 days <= ts < at.
    - Recency is the time of the last order, frequency the number of orders, monetary value the sum of the amounts. 5 is
      the latest, the most and the largest.
    - An account's quintile is 1 + floor(5 * the share of accounts that are lower). Accounts that tie share the quintile
      of their lowest, so where most have ordered once, all of those have frequency 1.
    - A negative amount is a refund. It lowers the monetary value, and is not counted as an order.
    - Orders without a user, a time or a finite amount are left out.

    Returns user_id, recency, frequency, monetary (Int64) and rfm (Float64, 3 to 15), sorted by user_id. An account
    without an order in the window has no row, so a left join gives it a null.
    """
    _require(orders, "orders", ("user_id", "ts", "amount"))
    accounts = (
        orders.lazy()
        .filter(pl.col("ts").is_between(at - WINDOW, at, closed="left"))
        .filter(pl.col("user_id").is_not_null(), pl.col("amount").cast(pl.Float64).is_finite())
        .group_by("user_id")
        .agg(
            recency=pl.col("ts").filter(pl.col("amount") > 0).max(),
            frequency=(pl.col("amount") > 0).sum(),
            monetary=pl.col("amount").sum(),
        )
        .filter(pl.col("frequency") > 0)
        .sort("user_id")
    )
    parts = ("recency", "frequency", "monetary")
    return (
        accounts.select("user_id", *(_quintile(pl.col(part)).alias(part) for part in parts))
        .with_columns(rfm=pl.sum_horizontal(parts).cast(pl.Float64))
        .collect()
    )


def _quintile(value: pl.Expr) -> pl.Expr:
    lower = value.rank("min").cast(pl.Int64) - 1
    return 1 + QUINTILES * lower // pl.len().cast(pl.Int64)


def _require(frame: pl.DataFrame, name: str, columns: tuple[str, ...]) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise InvalidArgument(
            f"{name} lack the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; they have "
            f"{', '.join(frame.columns) or 'none'}; rename or add what is missing"
        )
