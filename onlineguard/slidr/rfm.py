"""RFM scores from a file of orders, and clicks with the scores of their accounts. `learning.labels` has the formula.

    scores, at = scored_at(read_orders("orders.parquet"))
    clicks, at = joined(read_orders("orders.parquet"), "clicks.csv", mapping)

A score must not know of orders after the click. So a log is joined to the scores as of its beginning, unless another
time is asked for. Joining it day by day, each day to the scores of the night before, loses less.
"""

from pathlib import Path

import polars as pl

from onlineguard.errors import InvalidArgument, SourceError
from onlineguard.slidr.clicks.clicks import Mapping, read_clicks
from onlineguard.slidr.clicks.files import read_table
from onlineguard.slidr.clicks.order import plausible
from onlineguard.slidr.learning.labels import rfm_scores
from onlineguard.slidr.pipeline import moment

ORDERS = {"user_id": pl.String(), "ts": pl.Int64(), "amount": pl.Float64()}


def read_orders(path: Path) -> pl.DataFrame:
    """Orders with user_id, ts in milliseconds since 1970 UTC, and amount.

    Raises SourceError if the file cannot be read, lacks a column, has no order, or has a value that is no number.
    """
    table = read_table(path)
    if absent := sorted(ORDERS.keys() - set(table.columns)):
        raise SourceError(f"{path} has no column {', '.join(absent)}; its columns are {', '.join(table.columns)}")
    orders = table.select(pl.col(name).cast(kind, strict=False) for name, kind in ORDERS.items())
    for name in ("ts", "amount"):
        wrong = orders[name].is_null() & table[name].is_not_null()
        if wrong.any():
            row = int(wrong.arg_true()[0])
            raise SourceError(f"{path} has {name} {table[name][row]!r} in row {row + 1}; it must be a number")
    if not orders["ts"].count():
        raise SourceError(f"{path} has no orders")
    return orders


def scored_at(orders: pl.DataFrame, at: str | None = None) -> tuple[pl.DataFrame, int]:
    """The scores of all accounts, and their time in ms since 1970 UTC, which is by default after the last order."""
    ts = orders["ts"].drop_nulls().to_numpy()
    first, last = int(ts.min()), int(ts.max())
    when = last + 1 if at is None else moment(at, first, last, "--at")
    return rfm_scores(orders, when), when


def joined(
    orders: pl.DataFrame, clicks: Path, mapping: Path | None = None, at: str | None = None
) -> tuple[pl.DataFrame, int]:
    """The clicks of a log, in the columns of `SCHEMA`, with `rfm` from the orders, and the time that it is of.

    By default that is when the log begins; a later one raises InvalidArgument. An account without a score has a null.
    """
    frame = read_clicks(clicks, None if mapping is None else Mapping.load(mapping))
    if not frame.height:
        raise SourceError(f"{clicks} has no clicks")
    ts = frame["ts"].to_numpy()
    ts = ts[plausible(ts)]
    first, last = int(ts.min()), int(ts.max())
    when = first if at is None else moment(at, first, last, "--at")
    if when > first:
        raise InvalidArgument(
            f"--at is after the first click of {clicks}; a score must not know of orders after the click, so name an "
            "earlier time, or give the later part of the log"
        )
    scores = rfm_scores(orders, when).select("user_id", "rfm")
    return frame.drop("rfm").join(scores, on="user_id", how="left", maintain_order="left"), when
