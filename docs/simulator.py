"""Draws the figures of docs/simulator.md: simulated traffic, and a real click log beside it where one is at hand.

    ONLINEGUARD_DATA=... uv run --group dev python docs/simulator.py

The real log is `clicks/talkingdata/clicks-48h.csv.gz` in the folder that ONLINEGUARD_DATA names. Without it nothing is
drawn, so that the figures always show both.
"""

import os
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
from matplotlib.figure import Figure

from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.tally import USUAL_KINDS
from onlineguard.slidr.simulation.traffic import Traffic
from onlineguard.slidr.simulation.world import DAY, HOUR, TIMEZONES

HERE = Path(__file__).parent
COLOURS = dict(
    zip(
        USUAL_KINDS,
        ["#94a3b8", "#dc2626", "#7c3aed", "#0891b2", "#ea580c", "#65a30d", "#db2777", "#0f172a"],
        strict=True,
    )
)
REAL, SIMULATED = "#0f172a", "#ea580c"
TWO_WEEKS = Traffic(clicks=1_000_000, days=14)
TWO_DAYS = Traffic(clicks=4_000_000, days=2, start=TWO_WEEKS.start.replace(day=3))  # Tuesday, Wednesday


def main() -> None:
    path = Path(os.environ.get("ONLINEGUARD_DATA", "")) / "clicks" / "talkingdata" / "clicks-48h.csv.gz"
    if not path.is_file():
        sys.exit("skipped: ONLINEGUARD_DATA names no folder with clicks/talkingdata/clicks-48h.csv.gz")
    real = pl.read_csv(path, columns=["ip", "click_time"]).select(
        "ip", ts=pl.col("click_time").str.to_datetime("%Y-%m-%d %H:%M:%S").dt.epoch("ms")
    )
    plt.rcParams.update(
        {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    )
    clicks = joined(TWO_WEEKS)
    mobile = joined(TWO_DAYS).filter(pl.col("device") == "mobile")
    thinned = mobile.sample(len(real), seed=0).sort("ts")  # the real log is a sample, too
    print(f"thinned: one of {len(mobile) / len(real):.0f} simulated mobile clicks")
    hours(clicks, mobile, real)
    pauses(clicks, thinned, real)
    counts(clicks, thinned, real)
    robots(clicks)


def joined(config: Traffic) -> pl.DataFrame:
    """Each click once, with the kind of its visitor."""
    traffic = simulate(config, seed=0)
    clicks = traffic.clicks.unique("click_id", keep="first", maintain_order=True)
    return clicks.join(traffic.truth, on="click_id", maintain_order="left")


def hours(clicks: pl.DataFrame, mobile: pl.DataFrame, real: pl.DataFrame) -> None:
    """Left: clicks an hour for two weeks. Right: share of a day's clicks by local hour."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), width_ratios=(3, 2), layout="constrained")
    at = np.arange(24 * TWO_WEEKS.days)
    hour = (clicks["ts"].to_numpy() - TWO_WEEKS.begin) // HOUR
    robot = clicks["robot"].to_numpy()
    for mine, name, colour in ((~robot, "people", COLOURS["person"]), (robot, "robots", COLOURS["burst"])):
        left.plot(at / 24, np.bincount(hour[mine], minlength=len(at)), color=colour, lw=1.2, label=name)
    left.set(xlabel="day (UTC; 0 is a Monday)", ylabel="clicks an hour", title="Simulated, five marketplaces")
    left.set_xticks(range(0, 15, 2))
    left.set_ylim(0, None)
    left.legend(loc="upper right", ncols=2, bbox_to_anchor=(1, 1.03))
    for marketplace, zone in TIMEZONES.items():
        mine = mobile.filter(pl.col("marketplace") == marketplace, ~pl.col("robot"))["ts"]
        label = "simulated people on phones, a line a marketplace" if marketplace == "US" else None
        right.plot(100 * by_hour(mine, zone), color=SIMULATED, lw=1, alpha=0.6, label=label)
    right.plot(100 * by_hour(real["ts"], "Asia/Shanghai"), color=REAL, lw=2, label="TalkingData, China")
    right.set(xlabel="local hour", ylabel="% of the clicks", title="Two weekdays", ylim=(0, 10.5))
    right.set_xticks(range(0, 24, 4))
    right.legend(loc="upper left", fontsize=9)
    save(figure, "hours")


def by_hour(ts: pl.Series, zone: str) -> np.ndarray:
    local = pl.from_epoch(ts, time_unit="ms").dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    return np.bincount(local.dt.hour().to_numpy(), minlength=24) / len(ts)


def gaps(clicks: pl.DataFrame, entity: str) -> pl.DataFrame:
    """Seconds since the click before of the same entity."""
    known = clicks.filter(pl.col(entity).is_not_null()).sort(entity, "ts")
    seconds = (pl.col("ts").diff().over(entity) / 1_000).alias("seconds")
    return known.with_columns(seconds).filter(pl.col("seconds").is_not_null())


def pauses(clicks: pl.DataFrame, thinned: pl.DataFrame, real: pl.DataFrame) -> None:
    """Left: pauses within a session, by kind. Right: pauses between clicks of one address, of samples."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    within = gaps(clicks, "session_id")
    bins = np.logspace(-1.5, 3.5, 60)
    for kind in ("person", "burst", "datacentre", "imitator", "takeover", "farm"):
        seconds = within.filter(pl.col("kind") == kind)["seconds"].to_numpy()
        density, _ = np.histogram(np.log10(seconds.clip(bins[0])), np.log10(bins), density=True)
        left.plot(bins[:-1], density, color=COLOURS[kind], lw=2 if kind == "person" else 1.3, label=kind)
    left.set(xscale="log", xlabel="seconds since the session's last click", ylabel="density of the logarithm")
    left.set_title("Simulated, within a session")
    left.legend(loc="upper left", fontsize=9)
    bins = np.logspace(0, np.log10(2 * DAY / 1_000), 40)
    for frame, colour, name in ((real, REAL, "TalkingData"), (thinned, SIMULATED, "simulated phones")):
        seconds = gaps(frame, "ip")["seconds"].to_numpy().clip(1)
        right.plot(bins, [(seconds > edge).mean() for edge in bins], color=colour, lw=2, label=name)
    right.set(xscale="log", xlabel="seconds t since the address's last click", ylabel="share of pauses longer than t")
    right.set_title("Samples of 66,105 clicks of two days, by address")
    right.legend(loc="lower left")
    save(figure, "pauses")


def tail(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted values, and the share that is at least as large."""
    value, count = np.unique(values, return_counts=True)
    return value, count[::-1].cumsum()[::-1] / count.sum()


def counts(clicks: pl.DataFrame, thinned: pl.DataFrame, real: pl.DataFrame) -> None:
    """Left: clicks a user and day, by kind. Right: clicks an address in two days, of samples."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    daily = clicks.filter(pl.col("user_id").is_not_null()).with_columns(day=pl.col("ts") // DAY)
    daily = daily.group_by("kind", "user_id", "day").len()
    for kind in USUAL_KINDS:
        mine = daily.filter(pl.col("kind") == kind)["len"].to_numpy()
        left.loglog(*tail(mine), color=COLOURS[kind], lw=2 if kind == "person" else 1.3, label=kind)
    left.set(xlabel="clicks c of a known user on a day", ylabel="share of users with at least c")
    left.set_title("Simulated")
    left.set_ylim(1e-5, 1.5)
    left.legend(loc="lower left", fontsize=9, ncols=2)
    for frame, colour, name in ((real, REAL, "TalkingData"), (thinned, SIMULATED, "simulated phones")):
        right.loglog(*tail(frame["ip"].value_counts()["count"].to_numpy()), color=colour, lw=2, label=name)
    right.set(xlabel="clicks c of an address in two days", ylabel="share of addresses with at least c")
    right.set_title("Samples of 66,105 clicks of two days")
    right.legend(loc="upper right")
    save(figure, "counts")


def robots(clicks: pl.DataFrame) -> None:
    """Left: robots' clicks a day, by kind. Right: share of robots in each slice."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), width_ratios=(3, 2), layout="constrained")
    day = (clicks["ts"].to_numpy() - TWO_WEEKS.begin) // DAY
    kind = clicks["kind"].to_numpy()
    stacked = [np.bincount(day[kind == name], minlength=TWO_WEEKS.days) for name in USUAL_KINDS[1:]]
    base = np.zeros(TWO_WEEKS.days)
    for name, height in zip(USUAL_KINDS[1:], stacked, strict=True):
        left.bar(range(TWO_WEEKS.days), height, bottom=base, width=0.85, color=COLOURS[name], label=name)
        base += height
    left.set(xlabel="day", ylabel="clicks", title="Robots by kind, seed 0", ylim=(0, 1.25 * base.max()))
    left.legend(loc="upper left", ncols=4, fontsize=9)
    slices = (
        clicks.group_by("device", "marketplace", "logged_in")
        .agg(pl.col("robot").mean())
        .sort("device", "marketplace", "logged_in")
    )
    table = slices["robot"].to_numpy().reshape(-1, 2)
    names = slices.filter("logged_in").select(pl.format("{} {}", "device", "marketplace")).to_series().to_list()
    at = np.arange(len(names))
    right.hlines(at, 100 * table[:, 1], 100 * table[:, 0], color="#cbd5e1", lw=2, zorder=0)
    right.plot(100 * table[:, 0], at, "o", color=COLOURS["burst"], label="signed out")
    right.plot(100 * table[:, 1], at, "o", color="#0891b2", label="signed in")
    right.set_yticks(at, names)
    right.invert_yaxis()
    right.set(xlabel="% of the clicks that are robots'", title="Robots by slice", xlim=(0, None))
    right.legend(loc="lower right", fontsize=9)
    save(figure, "robots")


def save(figure: Figure, name: str) -> None:
    path = HERE / f"simulator-{name}.png"
    figure.savefig(path, dpi=100)
    print(f"{path.name}, {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
