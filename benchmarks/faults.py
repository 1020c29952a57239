"""Faults of a training week, injected into simulated clicks: what guardrails must find, and which of them should.

Labels and clocks are broken by the simulator itself; the others are broken here. All happen in the second of three
weeks.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from onlineguard.slidr.features import NAMES
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic

DAY, HOUR = 86_400_000, 3_600_000
BROKEN = 10  # the day of the fault, counted from 0
FLOOD = 0.5  # of the day's clicks, on top

Break = Callable[[pl.DataFrame, int, np.random.Generator], pl.DataFrame]


@dataclass(frozen=True)
class Fault:
    """A fault, and the guardrails of which one at least should fire."""

    name: str
    fires: tuple[str, ...]
    traffic: Callable[[Traffic], Traffic] = lambda traffic: traffic
    clicks: Break = lambda clicks, _start, _rng: clicks
    feature: str | None = None  # is 0 from the middle of the day on, for a day


def traffic(clicks: int, world: str) -> Traffic:
    """Three weeks with so many clicks each."""
    return Traffic(clicks=3 * clicks, days=21, world=world)  # type: ignore[arg-type]


def made(fault: Fault, clicks: int, world: str, seed: int) -> tuple[Traffic, pl.DataFrame]:
    """The broken clicks of three weeks."""
    config = fault.traffic(traffic(clicks, world))
    frame = simulate(config, seed).clicks
    return config, fault.clicks(frame, config.begin + BROKEN * DAY, np.random.default_rng(seed))


def constant(fault: Fault, X: np.ndarray, ts: np.ndarray, begin: int) -> np.ndarray:
    """The features, one of them at rest for a day if the fault says so."""
    if fault.feature is None:
        return X
    broken = X.copy()
    since = begin + BROKEN * DAY + DAY // 2
    broken[(ts >= since) & (ts < since + DAY), NAMES.index(fault.feature)] = 0.0
    return broken


def flooded(clicks: pl.DataFrame, start: int, rng: np.random.Generator) -> pl.DataFrame:
    """Robots of three networks click one campaign for a day, half as often as all others together."""
    of_day = clicks.filter(pl.col("ts").is_between(start, start + DAY, closed="left"))
    n = int(FLOOD * of_day.height)
    robots = of_day.sample(n, with_replacement=True, seed=int(rng.integers(1 << 30))).with_columns(
        click_id=pl.Series([f"flood-{number}" for number in range(n)]),
        ts=pl.Series(rng.integers(start, start + DAY, n)),
        ip=pl.Series([f"203.0.{a}.{b}" for a, b in rng.integers(0, (3, 256), (n, 2)).tolist()]),
        user_id=pl.lit(None, pl.String),
        session_id=pl.Series([f"flood-{number // 3}" for number in range(n)]),
        ad_id=pl.lit("US-00107"),
        logged_in=pl.lit(False),
        purchase_ts=pl.lit(None, pl.Int64),
        rfm=pl.lit(None, pl.Float64),
    )
    ts = clicks.with_row_index("place_").select("place_", "ts")
    first = ts.filter(pl.col("ts") >= start)["place_"].min() or 0
    last = ts.filter(pl.col("ts") < start + DAY)["place_"].max() or 0
    before, during, after = clicks[:first], clicks[first : last + 1], clicks[last + 1 :]  # type: ignore[operator]
    return pl.concat([before, pl.concat([during, robots]).sort("ts", maintain_order=True), after])


def relabelled(how: str) -> Break:
    """A day on which "all" clicks are labelled, or as many "fast" ones as led to purchases, or as many "other" ones."""

    def broken(clicks: pl.DataFrame, start: int, rng: np.random.Generator) -> pl.DataFrame:
        of_day = pl.col("ts").is_between(start, start + DAY, closed="left")
        made = clicks["purchase_ts"].to_numpy(allow_copy=True).astype(np.float64, copy=True)
        rows = np.flatnonzero(clicks.select(of_day).to_series().to_numpy())
        ts = clicks["ts"].to_numpy()
        if how == "all":
            made[rows] = ts[rows] + HOUR // 2
        elif how == "other":
            made[rows] = rng.permutation(made[rows])
        else:
            pace = clicks[rows].select(pl.len().over("ip")).to_series().to_numpy()
            chosen = rows[np.argsort(-pace, kind="stable")[: np.isfinite(made[rows]).sum()]]
            made[rows] = np.nan
            made[chosen] = ts[chosen] + HOUR // 2
        return clicks.with_columns(purchase_ts=pl.Series(made, nan_to_null=True).cast(pl.Int64))

    return broken


def outage(hours: float) -> Fault:
    """Hours without a recorded purchase."""
    return Fault(f"label outage, {hours:g} h", ("outages",), lambda traffic: replace(traffic, label_outage=hours))


CLEAN = Fault("clean", ())
FAULTS = (
    outage(2),
    outage(6),
    outage(24),
    Fault("clock fault", ("clocks",), lambda traffic: replace(traffic, clock_fault=True)),
    Fault("feature gone constant", ("features",), feature="ip_clicks_24h"),
    Fault("robots flood a day", ("attack",), clicks=flooded),
    Fault("mislabelled day: all clicks", ("agreement",), clicks=relabelled("all")),
    Fault("mislabelled day: the fastest ips", ("agreement",), clicks=relabelled("fast")),
    Fault("mislabelled day: other clicks", ("delay", "agreement"), clicks=relabelled("other")),
)
