"""SLIDR beside its baselines on simulated traffic, whose truth is known: what it finds at the same false-positive rate.

    uv run --group dev python -m benchmarks.bench_slidr [--quick] [--seeds 20] [--clicks 2000000] [--models mlp,trees]

Three weeks a seed, of which the first trains, the second sets the thresholds by the purchases known at its end, and the
third is judged by the truth; whole weeks, since people click otherwise on Sundays. Purchases are equally likely for all
clicks of people, as the method takes them to be; --biased-purchases shows what else would be.

One JSON line a seed and model, then one a claim, its differences paired by seed with Student's 95 % interval:

    recall            share of the robots' clicks marked, thresholds set for a budget of 1 % at confidence 0.95
    recall at 1 %     the same where the true FPR of the judged week is 1 %: budgets are swept, and the recall is read
                      between the two nearest. Nobody can choose so; it compares detectors at the same budget spent
    true FPR          share of people's clicks marked in the judged week. The binomial bound is for clicks like those
                      the thresholds were set on, so the next week's may differ for one more reason: it is another week

    slices over cap   slices whose people are marked more often than the cap allows, by more than chance explains

Beside them stands the recall by kind of robot, and the share of each group of people marked, where one threshold for
all has a true FPR of 1 %.

What else can be asked: the wide world (--world wide); that a kind of robot be missing from the week that trains
(--left-out KIND); features held at what they are in training (--hold spread,7d, by how their names end); labels that
are not spread over a visitor's clicks (--plain-labels).

Feature computation in process and over Redis is measured by `bench_features`, training alone by `bench_train`.
"""

import argparse
import concurrent.futures
import dataclasses
import multiprocessing
import os
import time
from typing import Any, get_args

import numpy as np
from scipy import stats

from benchmarks.workloads import emit
from onlineguard.errors import InfeasibleBudget
from onlineguard.slidr.features import NAMES as FEATURES
from onlineguard.slidr.learning.scorer import Scorer
from onlineguard.slidr.pipeline import (
    Config,
    Kind,
    Prepared,
    calibrate_model,
    prepare,
    purchasing,
    scores,
    slice_name,
    train_model,
)
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.tally import KINDS
from onlineguard.slidr.simulation.traffic import Traffic, World
from onlineguard.slidr.thresholds import metrics
from onlineguard.slidr.thresholds.calibration import calibrate
from onlineguard.slidr.thresholds.caps import CAP

ONE_THREAD = {  # a seed, since processes share the cores; read when the libraries are first imported
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
}
WEEK = 7 * 86_400_000  # milliseconds
BUDGET, CONFIDENCE = 0.01, 0.95
COVERAGES = (0.5, 0.3, 0.2, 0.1, 0.05)  # least share of heavy sessions' clicks asked for, until one fits the budget
QUICK = 60_000
MIN_HEAVY = 100  # clicks of heavy sessions in a slice of which coverage is asked; one long visit asks for nothing
BUDGETS = np.geomspace(0.001, 0.04, 9)  # swept
NAMES: dict[Kind, str] = {
    "mlp": "network",
    "logistic": "logistic regression",
    "velocity": "velocity rule",
    "trees": "trees",
    "cross": "network with products of features",
    "embedding": "network with user agent, ip prefix and ad",
}
USUAL = "mlp,logistic,velocity,trees"
GLOBAL = "network, one global threshold"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is simulated, and what of it may be learned."""

    clicks: int
    biased: bool = False
    world: World = "usual"
    left_out: str = ""
    hold: tuple[str, ...] = ()
    spread: bool = True


class Judge:
    """One seed's three weeks, and what is measured of a scorer on them."""

    def __init__(self, seed: int, setting: Setting):
        traffic = Traffic(clicks=setting.clicks, days=21, biased_purchases=setting.biased, world=setting.world)
        simulated = simulate(traffic, seed)
        start = time.perf_counter()
        self.prepared: Prepared = prepare(simulated.clicks)
        self.features_s = time.perf_counter() - start
        truth = self.prepared.frame.select("click_id").join(
            simulated.truth, on="click_id", how="left", maintain_order="left"
        )
        self.robot, self.kind = truth["robot"].to_numpy(), truth["kind"].to_numpy()
        held = [at for at, name in enumerate(FEATURES) if setting.hold and name.endswith(setting.hold)]
        self.prepared.X[:, held] = 0.0
        self.ends = [traffic.begin + week * WEEK for week in range(4)]
        self.learned, self.calibrated, self.judged = (
            self.prepared.between(since, until) for since, until in zip(self.ends, self.ends[1:], strict=False)
        )
        self.learned = self.learned & (self.kind != setting.left_out)
        self.config = Config(seed=seed, spread=setting.spread)

    def train(self, kind: Kind) -> tuple[Scorer, float]:
        """The scorer, and the seconds it took."""
        start = time.perf_counter()
        scorer = train_model(self.prepared, self.learned, self.ends[1], dataclasses.replace(self.config, kind=kind))
        return scorer, time.perf_counter() - start

    def calibrate(self, scorer: Scorer, **options: Any) -> Any:
        return calibrate_model(
            self.prepared,
            scorer,
            self.calibrated,
            self.ends[2],
            self.config,
            learned=self.learned,
            **options,
        )

    def by_kind(self, p_robot: np.ndarray) -> dict[str, float]:
        """The share of each kind's clicks marked in the judged week, where that of all people's is the budget."""
        p, robot, kind = p_robot[self.judged], self.robot[self.judged], self.kind[self.judged]
        marked = p > np.quantile(p[~robot], 1.0 - BUDGET)
        shares = {f"of {name}": float(marked[kind == name].mean()) for name in np.unique(kind)}
        return {"of all robots": float(marked[robot].mean()), **shares}

    def measure(self, scorer: Scorer, p_robot: np.ndarray, method: str) -> dict[str, float]:
        """Recall, precision and true FPR of the judged week, and the recall where the true FPR is the budget."""
        rows = self.judged
        robot = self.robot[rows]

        def judged(**options: Any) -> tuple[float, float, float, int]:
            try:
                thresholds = self.calibrate(scorer, method=method, **options)
            except InfeasibleBudget:  # nothing is marked
                return 0.0, 0.0, float("nan"), 0
            robotic = thresholds.robotic(p_robot, self.prepared)[rows]
            rates = (f(robotic, robot).value for f in (metrics.true_fpr, metrics.recall, metrics.precision))
            fpr, recall, precision = (float(rate) for rate in rates)
            low, _ = metrics.true_fpr(robotic, robot, self.prepared.slice_ids[rows]).interval()
            return fpr, recall, precision, int((low > CAP * BUDGET).sum())

        start = time.perf_counter()
        fpr, recall, precision, over = judged(budget=BUDGET, confidence=CONFIDENCE)
        seconds = time.perf_counter() - start
        swept = np.array([judged(budget=float(budget), confidence=None)[:2] for budget in BUDGETS])
        order = np.argsort(swept[:, 0], kind="stable")
        return {
            "recall": recall,
            "precision": precision,
            "true_fpr": fpr,
            "slices_over_cap": float(over),
            "recall_at_budget": float(np.interp(BUDGET, swept[order, 0], swept[order, 1])),
            "calibration_s": seconds,
        }


def one_seed(seed: int, setting: Setting, kinds: tuple[Kind, ...]) -> dict[str, dict[str, float]]:
    """Figures by model, and of the network's other calibrations."""
    judge = Judge(seed, setting)
    figures: dict[str, dict[str, float]] = {}
    for kind in kinds:
        scorer, seconds = judge.train(kind)
        p_robot = scores(judge.prepared, scorer)
        figures[NAMES[kind]] = {**judge.measure(scorer, p_robot, "envelope"), "training_s": seconds}
        if kind == "mlp":
            figures[GLOBAL] = judge.measure(scorer, p_robot, "global")
            figures["calibration"] = _calibrations(judge, scorer)
            figures["kinds"] = judge.by_kind(p_robot)
    figures["clicks"] = {
        "clicks": float(len(judge.robot)),
        "purchases": float(judge.prepared.frame["purchase_ts"].count()),
        "features_clicks_per_s": len(judge.robot) / judge.features_s,
    }
    return figures


def _calibrations(judge: Judge, scorer: Scorer) -> dict[str, float]:
    """On the calibration's own clicks: IVR of envelope and quadratic, and a demand for coverage in every slice."""
    envelope, quadratic = (
        judge.calibrate(scorer, budget=BUDGET, method=m, confidence=None) for m in ("envelope", "quadratic")
    )
    figures = {
        "ivr_envelope": float(envelope.calibration.ivr.total.value),
        "ivr_quadratic": float(quadratic.calibration.ivr.total.value),
    }
    prepared, rows = judge.prepared, judge.calibrated
    ids = prepared.slice_ids[rows]
    demanding = np.bincount(ids[prepared.heavy[rows]], minlength=len(prepared.slice_keys)) >= MIN_HEAVY
    for asked in COVERAGES:
        try:
            covered = calibrate(
                scores(prepared, scorer, rows),
                ids,
                purchasing(prepared, judge.ends[2])[rows],
                prepared.heavy[rows],
                budget=BUDGET,
                cap=1.0,
                min_coverage=np.where(demanding, asked, 0.0),
                confidence=None,
                names=[slice_name(key) for key in prepared.slice_keys],
            ).coverage
        except InfeasibleBudget:
            continue
        least = covered.value[demanding].min(initial=1.0)
        return {**figures, "coverage_asked": asked, "least_coverage": float(least)}
    return {**figures, "coverage_asked": 0.0, "least_coverage": 0.0}


def claims(seeds: list[dict[str, dict[str, float]]], kinds: tuple[Kind, ...]) -> None:
    """What all seeds together say."""
    for figure in ("recall", "recall_at_budget"):
        ours = _column(seeds, "network", figure)
        for other in (*[NAMES[kind] for kind in kinds if kind != "mlp"], GLOBAL):
            theirs = _column(seeds, other, figure)
            mean, low, high = interval(ours - theirs)
            emit(
                claim=f"{figure} of the network above that of: {other}",
                network=_rounded(ours.mean()),
                other=_rounded(theirs.mean()),
                difference=_rounded(mean),
                low=_rounded(low),
                high=_rounded(high),
                seeds=len(seeds),
                holds=bool(low > 0.0),
            )
    for model in ("network", GLOBAL):
        fpr = _column(seeds, model, "true_fpr")
        within = int((fpr <= BUDGET).sum())
        low, high = metrics.clopper_pearson(within, len(fpr))
        emit(
            claim=f"true FPR of the {model} within the budget in 95 of 100 seeds",
            within=within,
            seeds=len(fpr),
            low=_rounded(low),
            high=_rounded(high),
            mean_true_fpr=_rounded(fpr.mean()),
            largest=_rounded(fpr.max()),
            holds=bool(within >= 0.95 * len(fpr)),
        )
    over = _column(seeds, "network", "slices_over_cap")
    emit(
        claim="no slice over its cap, by more than chance explains, in 95 of 100 seeds",
        without=int((over == 0.0).sum()),
        seeds=len(over),
        most=int(over.max()),
        holds=bool((over == 0.0).sum() >= 0.95 * len(over)),
    )
    envelope, quadratic = (_column(seeds, "calibration", f"ivr_{m}") for m in ("envelope", "quadratic"))
    mean, low, high = interval(envelope - quadratic)
    emit(
        claim="envelope marks more clicks than the quadratic",
        difference=_rounded(mean),
        low=_rounded(low),
        high=_rounded(high),
        seeds=len(seeds),
        holds=bool(low > 0.0),
    )
    asked, kept = (_column(seeds, "calibration", name) for name in ("coverage_asked", "least_coverage"))
    emit(
        claim="the coverage asked for is kept in every slice with enough heavy sessions, or refused",
        asked=sorted(set(asked.tolist())),
        refused_at_all_levels=int((asked == 0.0).sum()),
        least_above_asked=_rounded((kept - asked).min()),
        seeds=len(seeds),
        holds=bool((kept >= asked).all() and (asked > 0.0).any()),
    )


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and Student's t interval of independent values; infinite for a single one."""
    mean = float(values.mean())
    if len(values) == 1:
        return mean, -np.inf, np.inf
    half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def _column(seeds: list[dict[str, dict[str, float]]], model: str, figure: str) -> np.ndarray:
    return np.array([seed[model][figure] for seed in seeds])


def _rounded(value: Any) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two seeds of few clicks, to see that it runs")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--clicks", type=int, default=2_000_000, help="in three weeks, about")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--biased-purchases", action="store_true")
    parser.add_argument("--world", default="usual", choices=get_args(World))
    parser.add_argument("--left-out", default="", metavar="KIND", choices=("", *KINDS[1:]))
    parser.add_argument("--hold", default="", metavar="ENDINGS")
    parser.add_argument("--plain-labels", action="store_true")
    parser.add_argument("--models", default=USUAL, help=f"mlp, and any others of {', '.join(NAMES)}")
    options = parser.parse_args()
    kinds: tuple[Kind, ...] = tuple(kind for kind in NAMES if kind in {"mlp", *options.models.split(",")})
    n_seeds, clicks = (2, QUICK) if options.quick else (options.seeds, options.clicks)
    hold = tuple(ending for ending in options.hold.split(",") if ending)
    setting = Setting(clicks, options.biased_purchases, options.world, options.left_out, hold, not options.plain_labels)
    os.environ |= ONE_THREAD  # of the processes to be started
    context = multiprocessing.get_context("spawn")  # a fork would copy XLA's threads
    seeds: list[dict[str, dict[str, float]]] = []
    with concurrent.futures.ProcessPoolExecutor(options.workers, context) as pool:
        numbers = range(options.first_seed, options.first_seed + n_seeds)
        for seed, figures in zip(
            numbers,
            pool.map(one_seed, numbers, *([value] * n_seeds for value in (setting, kinds))),
            strict=True,
        ):
            seeds.append(figures)
            for model, row in figures.items():
                shown = {name: _rounded(value) for name, value in row.items()}
                emit(bench="slidr", seed=seed, of=model, **shown)
    claims(seeds, kinds)


if __name__ == "__main__":
    main()
