"""Guardrails on the clicks themselves: their form, clocks, copies, volume, and floods.

**Clocks.** A click that says another time than that of its arrival was stamped by a wrong clock. The worst hour counts,
since a front end is wrong for hours and not for weeks. Where arrivals are not recorded, clicks lie in their order at
least: they are cut into as many runs as there are hours, and the median time of a run stands for its arrival.

**Floods.** A robot has its favourites. On every day, the largest ad, network and user agent have some share of the
clicks; how far the share of any of them exceeds its own median over the other days is its excess. An attack on one
campaign, or from one hosting company, is an excess of several per cent. Ads and agents come and go with campaigns and
browsers, so the limit is wide.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

from onlineguard.slidr.clicks.clicks import check_clicks, prefix
from onlineguard.slidr.features import NAMES, UNITS
from onlineguard.slidr.guardrails.checks import Check, Finding
from onlineguard.slidr.guardrails.data import FAR, Data

ENOUGH = 500  # clicks of a slice a day that say anything of its volume: of fewer, one burst makes a third
TOLD, MANY = 0.01, 1_000  # share of a day's clicks, and clicks: less is no flood, but a robot as there are every day
SHARED = ("ad_id", "prefix", "user_agent")


def schema(data: Data, limits: Mapping[str, float]) -> Finding:
    """Whether the columns hold what a click has, and the features what they can be."""
    check_clicks(data.frame)
    if data.X.shape != (data.frame.height, len(NAMES)):
        return Finding(False, f"features have the shape {data.X.shape} for {data.frame.height:,} clicks")
    if not data.frame.height:
        return Finding(False, "there are no clicks")
    low, high = data.X.min(0), data.X.max(0)
    for name, unit, least, most in zip(NAMES, UNITS, low.tolist(), high.tolist(), strict=True):
        bounds = {"share": (0.0, 1.0), "0 or 1": (0.0, 1.0), "": (-1.0, 1.0)}.get(unit, (0.0, np.inf))
        if not bounds[0] <= least <= most <= bounds[1]:  # a NaN is in no bounds
            return Finding(False, f"{name} runs from {least:g} to {most:g}; it can only lie in {bounds}")
    empty = float((data.frame["ip"] == "").mean() or 0.0)  # type: ignore[arg-type]
    figures = {"clicks": data.frame.height, "without_ip": empty}
    if empty > limits["without_ip"]:
        return Finding(False, f"{empty:.1%} of the clicks have no ip", figures)
    return Finding(True, f"{data.frame.height:,} clicks have the columns and ranges of clicks", figures)


def clocks(data: Data, limits: Mapping[str, float]) -> Finding:
    """Clicks stamped by a wrong clock."""
    table = data.arrivals
    if table is None:
        n = len(data.ts)
        runs = pl.DataFrame({"run": np.arange(n) * data.hours // max(1, n), "ts": data.ts})
        far = (pl.col("ts") - pl.col("ts").median().over("run")).abs() > FAR
        table = runs.with_columns(far=far).group_by("run").agg(wrong=pl.col("far").sum(), clicks=pl.len())
    if (n := int(table["clicks"].sum())) < data.hours:
        return Finding(None, f"{n} clicks in {data.hours} hours are too few to tell")
    share = pl.col("wrong") / pl.col("clicks")
    worst = table.with_columns(share=share).sort("share", descending=True).row(0, named=True)
    figures = {"worst_hour": worst["share"]}
    holds = worst["wrong"] < 3 or worst["share"] <= limits["most"]
    return Finding(
        holds,
        f"in the worst hour of arrivals, {worst['share']:.1%} of the clicks are over half a day from the others",
        figures,
    )


def duplicates(data: Data, limits: Mapping[str, float]) -> Finding:
    """Clicks that came twice, under their own id or another."""
    of_day = np.maximum(np.bincount(data.day, minlength=data.days), 1)
    repeated = np.bincount(data.day[~data.first], minlength=data.days) / of_day
    same = ("ts", "user_id", "session_id", "ip", "user_agent", "ad_id")
    copies = np.zeros(data.days)
    for day in range(data.days):  # a day at a time, for its memory
        rows = np.flatnonzero(data.first & (data.day == day))
        distinct = data.frame.select(same)[rows].n_unique() if len(rows) else 0
        copies[day] = (len(rows) - distinct) / of_day[day]
    figures = {"worst_day": float(repeated.max()), "worst_day_of_copies": float(copies.max())}
    worst = max(figures.values())
    return Finding(worst <= limits["most"], f"{worst:.2%} of the clicks of the worst day are copies of others", figures)


def volume(data: Data, limits: Mapping[str, float]) -> Finding:
    """Hours without clicks, and slices with far more or fewer clicks than on other days."""
    an_hour = data.clicks_an_hour
    of_day = np.arange(data.hours) % 24
    usual = np.array([np.median(an_hour[of_day == hour]) if (of_day == hour).any() else 0 for hour in range(24)])
    silent = np.flatnonzero((an_hour == 0) & (usual[of_day] >= limits["hour"]))
    figures: dict[str, float] = {"silent_hours": len(silent)}
    if len(silent):
        return Finding(False, f"no click came in {len(silent)} hours, the first {data.when(int(silent[0]))}", figures)
    if data.days < 3:
        return Finding(None, f"{data.days} days are too few to compare", figures)
    whole = data.hours // 24
    table = (
        data.frame.lazy()
        .select(*data.slices, day=pl.Series(data.day), timely=pl.Series(data.timely))
        .filter("timely", pl.col("day") < whole)
        .group_by(*data.slices, "day")
        .agg(pl.len())
        .with_columns(pl.col(column).cast(pl.String).fill_null("") for column in data.slices)
        .group_by(*data.slices, "day")  # a null and an empty text are one slice
        .agg(pl.col("len").sum())
        .collect()
    )
    largest = smallest = 1.0
    said: list[str] = []
    for key, part in table.partition_by(list(data.slices), as_dict=True).items():
        counts = np.zeros(whole)
        counts[part["day"].to_numpy()] = part["len"].to_numpy()
        middle = float(np.median(counts))
        if middle < ENOUGH:
            continue
        ratio = counts / middle
        largest, smallest = max(largest, ratio.max()), min(smallest, ratio.min())
        for day in np.flatnonzero((ratio < limits["least"]) | (ratio > limits["most"])):
            said.append(
                f"{' / '.join(map(str, key))} has {ratio[day]:.2f} times its clicks on {data.when(24 * int(day))[:14]}"
            )
    figures |= {"largest": largest, "smallest": smallest}
    if said:
        return Finding(False, "; ".join(said[:3]), figures)
    return Finding(True, f"slices have {smallest:.2f} to {largest:.2f} times their usual clicks of a day", figures)


def attack(data: Data, limits: Mapping[str, float]) -> Finding:
    """One ad, network or user agent that suddenly has a large share of the clicks."""
    if data.days < 3:
        return Finding(None, f"{data.days} days are too few to tell a flood from what is usual")
    worst, said = 0.0, ""
    for column in SHARED:
        shares = (
            data.frame.lazy()
            .select(
                value="ip" if column == "prefix" else column, day=pl.Series(data.day), timely=pl.Series(data.timely)
            )
            .filter("timely")
            .group_by("value", "day")
            .agg(pl.len())
            .with_columns(pl.col("value").cast(pl.String))
            .collect()
            .pipe(_of_prefixes if column == "prefix" else lambda table: table)
            .with_columns(share=pl.col("len") / pl.col("len").sum().over("day"))
            .filter(((pl.col("share") >= TOLD) & (pl.col("len") >= MANY)).any().over("value"))
        )
        for value, part in shares.partition_by("value", as_dict=True).items():
            of_days = np.zeros(data.days)
            of_days[part["day"].to_numpy()] = part["share"].to_numpy()
            excess = of_days - np.median(of_days)
            if excess.max() > worst:
                day = int(np.argmax(excess))
                worst = float(excess[day])
                said = f"{column} {value[0]} has {of_days[day]:.1%} of the clicks on {data.when(24 * day)[:14]}"
    return Finding(
        worst <= limits["most"], f"{said or 'nothing stands out'}, {worst:.1%} more than usual", {"excess": worst}
    )


CHECKS = (
    Check(
        "schema",
        "data",
        "a column that changed its meaning trains a model without an error",
        schema,
        {"without_ip": 0.01},  # an ip is what most features count by
    ),
    Check(
        "clocks",
        "data",
        "a click of a wrong hour is counted in the wrong windows, and weighed as of another hour of the week",
        clocks,
        {"most": 0.01},  # of an hour; clicks come minutes late, not half a day
    ),
    Check(
        "duplicates",
        "data",
        "a log that was written twice doubles everybody's pace",
        duplicates,
        {"most": 0.02},  # of a day; retries of front ends are one in a thousand
    ),
    Check(
        "volume",
        "data",
        "a slice that is gone, or several times as large, is a fault of collection or a flood",
        volume,
        {"least": 0.2, "most": 5.0, "hour": 20.0},  # times the median day; clicks that an hour usually has
    ),
    Check(
        "attack",
        "data",
        "a model that has learned an attack takes its victims' ads, networks and browsers for robotic",
        attack,
        {"most": 0.1},  # of a day; in clean simulated weeks, each with a modest attack of two days, it is .02 to .05
    ),
)


def _of_prefixes(addresses: pl.DataFrame) -> pl.DataFrame:
    """The sums of addresses a day, over their networks."""
    distinct = addresses["value"].unique()
    networks = addresses.with_columns(pl.col("value").replace_strict(distinct, [prefix(ip) for ip in distinct]))
    return networks.group_by("value", "day").agg(pl.col("len").sum())
