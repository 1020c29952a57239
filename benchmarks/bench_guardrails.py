"""Which guardrails fire: on clean simulated weeks, and with each fault injected.

    uv run --group dev python -m benchmarks.bench_guardrails [--quick] [--part PART] [--seeds 25]

One JSON line a figure, in both worlds of the simulator. Every seed is three weeks. Data checks look at the second and
the third, by the promises of the week before. For the checks of a candidate, a model of the first week is live, and one
of the week before the last day but seven is the candidate; both are measured on the last day.
"""

import argparse
import collections
import dataclasses
import tempfile
from collections.abc import Sequence

import numpy as np
import polars as pl

from benchmarks.faults import CLEAN, DAY, FAULTS, Fault, constant, made
from benchmarks.workloads import emit
from onlineguard.records.versions import Promises
from onlineguard.slidr.features import Featuriser
from onlineguard.slidr.guardrails.candidate import LEVEL, Comparison
from onlineguard.slidr.guardrails.checks import Settings, failed, run
from onlineguard.slidr.guardrails.compatible import incompatible
from onlineguard.slidr.guardrails.data import Data
from onlineguard.slidr.guardrails.distributions import promise_of, sampled
from onlineguard.slidr.guardrails.promises import canaries
from onlineguard.slidr.learning.labels import humans
from onlineguard.slidr.model import Model, Span, save_model
from onlineguard.slidr.pipeline import SLICES, Config, Prepared, known_humans, prepare, train_model
from onlineguard.slidr.retrain import CANDIDATE_CHECKS, DATA_CHECKS
from onlineguard.slidr.workflow import calibrate_scorer, measure

BUDGET = 0.02  # small weeks cannot show a smaller one
WORLDS = ("usual", "wide")


def week(frame: pl.DataFrame, X: np.ndarray, begin: int, number: int) -> Data:
    """The clicks that arrived in a week, with the promises of the week before."""
    ts = frame["ts"].to_numpy()
    since, end = begin + 7 * number * DAY, begin + 7 * (number + 1) * DAY
    before = (ts >= since - 7 * DAY) & (ts < since)
    promised = Promises(
        clicks_a_day=before.sum() / 7,
        human_share=float(humans(frame, since)[before].mean()),
        score_edges=[],
        slices={},
        features=promise_of(sampled(X, before)),
    )
    near = np.flatnonzero((ts >= since) & (ts < end))
    low, high = np.quantile(near, (0.001, 0.999)).astype(int)  # in order of arrival, wrong clocks between
    rows = slice(int(low), int(high) + 1)
    return Data(frame[rows], X[rows], since, end, end, SLICES, promised=promised)


def model(prepared: Prepared, config: Config, since: int) -> Model:
    """A model of a week, calibrated on the next one."""
    middle, until = since + 7 * DAY, since + 14 * DAY
    learned, later = prepared.between(since, middle), prepared.between(middle, until)
    scorer = train_model(prepared, learned, until, config)
    human = known_humans(prepared, until, config)
    span = Span.of(since, middle, learned, human)
    trained = Model(config, scorer, span)
    options = {"budget": BUDGET, "confidence": 0.9}
    thresholds = calibrate_scorer(prepared, trained, scorer, later, until, options)
    finished = dataclasses.replace(trained, thresholds=thresholds, calibrated=span, options=options)
    with tempfile.TemporaryDirectory() as folder:
        return save_model(folder, finished)


def compared(prepared: Prepared, config: Config, begin: int) -> Comparison:
    """A candidate beside the live model, on the last of 21 days."""
    live, candidate = model(prepared, config, begin), model(prepared, config, begin + 6 * DAY)
    until = begin + 21 * DAY
    pinned = prepared.between(begin + 14 * DAY, begin + 15 * DAY)
    latest = prepared.between(until - DAY, until)

    def measured(each: Model):
        assert each.thresholds is not None
        return measure(prepared, each.scorer, each.thresholds, latest, until, config, level=LEVEL)

    return Comparison(candidate, measured(candidate), live, measured(live), canaries(prepared, live, pinned, until))


def clean(world: str, clicks: int, seeds: int) -> None:
    """How often each guardrail fires where nothing is wrong."""
    config = Config()
    fired, judged = collections.Counter[str](), collections.Counter[str]()
    sentences: dict[str, str] = {}
    for seed in range(seeds):
        traffic, frame = made(CLEAN, clicks, world, seed)
        prepared = prepare(frame, config)
        outcomes = [
            outcome
            for number in (1, 2)
            for outcome in run(DATA_CHECKS, week(frame, prepared.X, traffic.begin, number), Settings())
        ]
        outcomes += run(CANDIDATE_CHECKS, compared(prepared, config, traffic.begin), Settings())
        for outcome in outcomes:
            judged[outcome.name] += outcome.outcome != "skipped"
            if outcome.outcome == "failed":
                fired[outcome.name] += 1
                sentences[outcome.name] = outcome.sentence
    for check in (*DATA_CHECKS, *CANDIDATE_CHECKS):
        emit(
            bench="guardrails",
            figure="fires on clean weeks",
            world=world,
            clicks_a_week=clicks,
            guardrail=check.name,
            fired=fired[check.name],
            judged=judged[check.name],
            said=sentences.get(check.name),
        )


def broken(faults: Sequence[Fault], world: str, clicks: int, seeds: int) -> None:
    """How often the guardrail fires that should, and which others do."""
    found, others = (
        collections.Counter[str](),
        collections.defaultdict[str, collections.Counter[str]](collections.Counter),
    )
    for seed in range(1_000, 1_000 + seeds):
        whole = made(CLEAN, clicks, world, seed)[1]
        X = Featuriser().transform(whole)
        for fault in faults:
            traffic, frame = made(fault, clicks, world, seed)
            same = frame.select("click_id", "ts").equals(whole.select("click_id", "ts"))
            counted = X if same else Featuriser().transform(frame)
            counted = constant(fault, counted, frame["ts"].to_numpy(), traffic.begin)
            outcomes = run(DATA_CHECKS, week(frame, counted, traffic.begin, 1), Settings())
            names = {outcome.name for outcome in failed(outcomes)}
            found[fault.name] += bool(names & {*fault.fires})
            others[fault.name].update(names - {*fault.fires})
    for fault in faults:
        emit(
            bench="guardrails",
            figure="finds a fault",
            world=world,
            clicks_a_week=clicks,
            fault=fault.name,
            should_fire=fault.fires,
            fired=found[fault.name],
            of=seeds,
            others=others[fault.name],
        )


def foreign(world: str, clicks: int, seeds: int) -> None:
    """Whether a model of another company's log is refused, and one of another week of the same is not."""
    config = Config(kind="velocity")
    refused = taken = 0
    for seed in range(seeds):
        traffic, frame = made(CLEAN, clicks, world, 2_000 + seed)
        ours = model(prepare(frame, config), config, traffic.begin)
        theirs = frame.with_columns(
            pl.col("marketplace").replace({"US": "FR", "DE": "IT", "JP": "ES", "UK": "PL", "IN": "SE"})
        )
        refused += incompatible(model(prepare(theirs, config), config, traffic.begin), ours) is not None
        taken += incompatible(model(prepare(frame, config), config, traffic.begin + 6 * DAY), ours) is None
    emit(bench="guardrails", figure="another company's model", world=world, refused=refused, own_taken=taken, of=seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it runs")
    parser.add_argument(
        "--seeds", type=int, default=25, help="clean runs of three weeks; a fifth as many for each fault"
    )
    parser.add_argument("--clicks", type=int, default=100_000, help="a week")
    parser.add_argument("--part", choices=("faults", "clean"), default=None, help="only this one")
    parser.add_argument("--world", choices=WORLDS, default=None, help="only this one")
    asked = parser.parse_args()
    if asked.quick:
        broken(FAULTS[2:3], "usual", 8_000, 1)
        return
    for world in WORLDS if asked.world is None else (asked.world,):
        if asked.part != "clean":
            broken(FAULTS, world, asked.clicks, max(1, asked.seeds // 5))
            foreign(world, asked.clicks, max(1, asked.seeds // 5))
        if asked.part != "faults":
            clean(world, asked.clicks, asked.seeds)


if __name__ == "__main__":
    main()
