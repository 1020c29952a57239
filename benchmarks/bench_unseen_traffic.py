"""SLIDR on traffic of other people and robots, see `unseen_traffic`: what it finds, and how many people it marks.

Nothing of SLIDR was chosen on it, but that regulars rest.

    uv run --group dev python -m benchmarks.bench_unseen_traffic [--quick] [--first-seed 0] [--seeds 3]

The first of three weeks trains, the second sets the thresholds by a budget of 1 % at confidence .95, the third is
judged by the truth. One JSON line for each world, seed and scorer, and one for each of some single counts:

    auc            how well the score tells robots' clicks from people's
    recall_at_1    share of the robots' clicks above the one threshold that 1 % of people's clicks exceed
    slices_at_1    the same with a threshold a slice, without caps, by the budget with which these mark 1 % of people's
                   clicks; the purchases of the first week choose
    recall, fpr    of robots' and of people's clicks, those that the thresholds mark
    alone          both again, with thresholds by buyers alone, without regulars
    of ...         both by kind, the network's alone
"""

import argparse
from typing import get_args

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.unseen_traffic import BEGIN, DAY, DAYS, WORLDS, traffic
from benchmarks.workloads import emit
from onlineguard.errors import InfeasibleBudget
from onlineguard.slidr.features import NAMES
from onlineguard.slidr.learning.regulars import regulars
from onlineguard.slidr.pipeline import Config, Kind, calibrate_model, prepare, purchasing, scores, train_model
from onlineguard.slidr.thresholds.curves import shrunk
from onlineguard.slidr.thresholds.family import Family

COUNTS = ("ip_clicks_1h", "user_clicks_1h", "session_clicks_1h", "ip_clicks_7d")
ENDS = [BEGIN + week * DAYS // 3 * DAY for week in range(4)]


def judge(world: str, seed: int, clicks: int, models: list[Kind]) -> None:
    """Print the lines of a world and a seed."""
    frame, robot, kind = traffic(world, seed, clicks)
    prepared = prepare(frame)
    learned, later, judged = (prepared.between(*ENDS[week : week + 2]) for week in range(3))
    vouching = regulars(frame, later, ENDS[2])
    emit(bench="unseen_traffic", world=world, seed=seed, clicks=len(robot), purchases=int(frame["purchase_ts"].count()),
         robots=_rounded(robot[judged].mean()), regulars=int(vouching.sum()),
         robots_among_them=int(robot[vouching].sum()))  # fmt: skip
    rng = np.random.default_rng(0)
    for name in COUNTS:
        count = prepared.X[judged, NAMES.index(name)] + 1e-6 * rng.random(int(judged.sum()))  # ties are drawn by lot
        emit(bench="unseen_traffic", world=world, seed=seed, of=name, **_ordered(count, robot[judged]))
    for model in models:
        config = Config(kind=model, seed=seed)
        scorer = train_model(prepared, learned, ENDS[1], config)
        p_robot = scores(prepared, scorer)
        figures: dict[str, object] = dict(_ordered(p_robot[judged], robot[judged]))
        bought, ids = purchasing(prepared, ENDS[2]), prepared.slice_ids
        weighed = learned | later & ~bought  # later purchases test
        of_slices = shrunk(p_robot[weighed], bought[weighed], ids[weighed], len(prepared.slice_keys))
        figures["slices_at_1"] = _at_1(Family(of_slices, "envelope", 0.01), p_robot[judged], ids[judged], robot[judged])
        for name, hold in (("", True), ("_alone", False)):
            try:
                found = calibrate_model(
                    prepared, scorer, later, ENDS[2], config, learned=learned, hold_regulars=hold
                ).robotic(p_robot, prepared)
            except InfeasibleBudget as error:
                figures["refused"] = str(error)
                continue
            figures[f"recall{name}"] = _rounded(found[judged & robot].mean())
            figures[f"fpr{name}"] = _rounded(found[judged & ~robot].mean())
            if model == "mlp" and hold:
                figures |= {f"of {each}": _rounded(found[judged & (kind == each)].mean()) for each in np.unique(kind)}
        emit(bench="unseen_traffic", world=world, seed=seed, of=model, **figures)


def _ordered(score: np.ndarray, robot: np.ndarray) -> dict[str, float]:
    above = score > np.quantile(score[~robot], 0.99)
    return {"auc": _rounded(roc_auc_score(robot, score)), "recall_at_1": _rounded(above[robot].mean())}


def _at_1(family: Family, score: np.ndarray, ids: np.ndarray, robot: np.ndarray) -> float:
    """The recall of the thresholds of a family that mark 1 % of people's clicks, read between the two nearest."""
    marked = [score > family.thresholds(nominal)[ids] for nominal in family.largest * np.geomspace(1e-3, 0.3, 60)]
    fpr, recall = np.array([(each[~robot].mean(), each[robot].mean()) for each in marked]).T
    order = np.argsort(fpr, kind="stable")
    return _rounded(np.interp(0.01, fpr[order], recall[order]))


def _rounded(value: float) -> float:
    return round(float(value), 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed of few clicks and the network alone")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clicks", type=int, default=300_000, help="in three weeks, about")
    parser.add_argument("--models", default="mlp,trees,logistic", help=f"any of {', '.join(get_args(Kind))}")
    options = parser.parse_args()
    asked = ["mlp"] if options.quick else options.models.split(",")
    models: list[Kind] = [kind for kind in get_args(Kind) if kind in asked]
    for world in WORLDS:
        for seed in range(options.first_seed, options.first_seed + (1 if options.quick else options.seeds)):
            judge(world, seed, 40_000 if options.quick else options.clicks, models)


if __name__ == "__main__":
    main()
