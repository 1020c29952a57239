"""What lookups cost, and what they are worth to the network on simulated traffic, whose truth is known.

    python -m benchmarks.bench_lookups [--quick] [--part cost|worth] [--seeds 3] [--clicks 700000] [--world wide]

**Cost:** building a version with a million accounts, users and ads and their clicks of a day, its file, mapping it,
and looking up a click by itself and in a batch. Seconds are of the processor, since others may use it too.

**Worth:** five weeks a seed. Of the clicks of every night from the second week on lookups are built, of what the log
had until then, and data centres are listed as hosting. The third week trains, the fourth sets the thresholds by the
purchases known at its end, the fifth is judged by the truth. A network each learns the lookups that are named, beside
all usual features, and is compared with the one that learns none:

    recall, true_fpr     with thresholds for a budget of 1 % at confidence 0.95
    newcomers_fpr        share marked of people's clicks with an id that was not seen until the night before
    recall_at_1          with one threshold for all, where 1 % of people's clicks are marked; and so by kind
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl

from benchmarks.workloads import emit
from onlineguard.errors import InfeasibleBudget
from onlineguard.records.click import Click
from onlineguard.slidr.features import LOOKED_UP, NAMES, Featuriser
from onlineguard.slidr.lookups.lookups import Lookups
from onlineguard.slidr.lookups.nightly import OfLog, build
from onlineguard.slidr.pipeline import LEFT_OUT, Config, calibrate_model, prepare, scores, train_model
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic, World
from onlineguard.slidr.thresholds import metrics

DAY = 86_400_000  # milliseconds
DATA_CENTRES = "198.18.0.0/15"  # of the simulated world
USUAL = tuple(name for name in LOOKED_UP if name not in LEFT_OUT)
SETS = {  # beginnings of the lookups that are learned
    "none": (),
    "usual": USUAL,
    "hosting": ("hosting",),
    "prefix": ("prefix",),
    "agent": ("agent",),
    "ad": ("ad_",),
    "user": ("user",),
    "rfm": ("account",),
    "usual and user": (*USUAL, "user"),
    "usual and rfm": (*USUAL, "account"),
    "all": LOOKED_UP,
}


def cost(quick: bool) -> None:
    """One JSON line a figure."""
    n = 10_000 if quick else 1_000_000
    day = date(2026, 3, 2)
    begin = (day - date(1970, 1, 1)).days * DAY
    numbers = pl.int_range(n, eager=True)
    log = pl.DataFrame(
        {
            "click_id": numbers.cast(pl.String),
            "ts": begin + numbers * (DAY // n),
            "user_id": "user-" + numbers.cast(pl.String),
            "ip": pl.select(
                pl.format("10.{}.{}.{}", numbers // 65_536, numbers // 256 % 256, numbers % 256)
            ).to_series(),
            "user_agent": "agent-" + (numbers % 100).cast(pl.String),
            "ad_id": "ad-" + numbers.cast(pl.String),
            "purchase_ts": begin + numbers * (DAY // n),
            "rfm": pl.repeat(12.0, n, eager=True),
        }
    )
    fixed: dict[str, Any] = {"session_id": None, "device": "pc", "marketplace": "DE", "logged_in": True}
    with tempfile.TemporaryDirectory() as folder:
        hosting = Path(folder) / "hosting.csv"
        hosting.write_text("".join(f"10.{at // 256}.{at % 256}.0/25\n" for at in range(10_000)))
        built, seconds = timed(lambda: build(folder, OfLog(log, "log"), day, hosting=hosting))
        emit(figure="building a version", accounts=n, seconds=round(seconds, 2))
        emit(figure="its file", accounts=n, megabytes=round(built.version.path.stat().st_size / 1e6, 1))
        lookups, seconds = timed(lambda: Lookups(folder))
        emit(figure="mapping and checking it", seconds=round(seconds, 3))
        later = log.with_columns(ts=pl.lit(begin + 2 * DAY)).sample(n // 10, seed=0)
        _, seconds = timed(lambda: lookups.of_frame(later))
        emit(figure="looking up in a batch", us=round(1e6 * seconds / later.height, 2), clicks=later.height)
        clicks = [Click(**(row | fixed)) for row in later[: 10_000 if not quick else 500].iter_rows(named=True)]
        for known in ("of new entities", "of entities met before"):
            _, seconds = timed(lambda: [lookups.of_clicks([click], click.ts) for click in clicks])
            emit(figure=f"looking up a click {known}", us=round(1e6 * seconds / len(clicks), 2), clicks=len(clicks))


def timed[T](work: Callable[[], T]) -> tuple[T, float]:
    """What it gives, and the seconds of the processor that it took."""
    start = time.process_time()
    return work(), time.process_time() - start


def worth(seed: int, clicks: int, world: World, sets: dict[str, tuple[str, ...]]) -> None:
    """One JSON line a set of lookups."""
    traffic = Traffic(clicks=clicks, days=35, world=world)
    simulated = simulate(traffic, seed)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "hosting.csv").write_text(DATA_CENTRES)
        for day in range(13, 34):
            on = traffic.start + timedelta(days=day)
            build(folder, OfLog(simulated.clicks, "log"), on, hosting=Path(folder) / "hosting.csv")
        prepared = prepare(simulated.clicks, featuriser=Featuriser(lookups=Lookups(folder)))
    truth = prepared.frame.select("click_id").join(simulated.truth, on="click_id", how="left", maintain_order="left")
    ends = [traffic.begin + 7 * DAY * week for week in range(2, 6)]
    learned, later, judged = (prepared.between(*ends[at : at + 2]) for at in range(3))
    robot, kind = (truth[name].to_numpy()[judged] for name in ("robot", "kind"))
    unseen = prepared.X[judged, NAMES.index("user_days")] == 0
    newcomer = ~robot & unseen & prepared.frame["user_id"].is_not_null().to_numpy()[judged]
    for name, taken in sets.items():
        left_out = tuple(column for column in LOOKED_UP if not (taken and column.startswith(taken)))
        config = Config(seed=seed, left_out=left_out)
        scorer = train_model(prepared, learned, ends[1], config)
        p_robot = scores(prepared, scorer, judged)
        marked = p_robot > np.quantile(p_robot[~robot], 0.99)
        figures: dict[str, Any] = {"recall_at_1": marked[robot].mean()}
        figures |= {f"of {each}": marked[kind == each].mean() for each in np.unique(kind)}
        try:
            thresholds = calibrate_model(prepared, scorer, later, ends[2], config, learned=learned)
            robotic = thresholds.robotic(scores(prepared, scorer), prepared)[judged]
            figures = {
                "recall": metrics.recall(robotic, robot).value,
                "true_fpr": metrics.true_fpr(robotic, robot).value,
                "newcomers_fpr": robotic[newcomer].mean() if newcomer.any() else np.nan,
                **figures,
            }
        except InfeasibleBudget:  # nothing is marked
            pass
        shown = {each: round(float(value), 4) for each, value in figures.items() if np.isfinite(value)}
        emit(bench="lookups", world=world, seed=seed, learns=name, **shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few clicks and one network, to see that it runs")
    parser.add_argument("--part", choices=("cost", "worth"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--clicks", type=int, default=700_000, help="in five weeks, about")
    parser.add_argument("--world", default="usual", choices=get_args(World))
    options = parser.parse_args()
    if options.part != "worth":
        cost(options.quick)
    if options.part != "cost":
        seeds = range(options.first_seed, options.first_seed + (1 if options.quick else options.seeds))
        sets = {"usual": USUAL} if options.quick else SETS
        for seed in seeds:
            worth(seed, 20_000 if options.quick else options.clicks, options.world, sets)


if __name__ == "__main__":
    main()
