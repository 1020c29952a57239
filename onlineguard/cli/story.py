"""The second half of the demonstration: a week of simulated ad clicks, from the log to what advertisers are not billed.

Two weeks come before it: the first trains a network on who bought, the second sets one threshold a slice so that, with
95 % confidence, at most 1 % of purchasing clicks are called robotic. Who was a robot is looked up after the judgement.

Beside every decision stands the engine's p-value. It knows no labels: it learns what the counters of a slice usually
are, event by event, and says how unusual this click's are. Where it finds much unusual that the network leaves alone,
traffic has changed since training.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from onlineguard.engine.engine import Engine
from onlineguard.errors import InfeasibleBudget
from onlineguard.models.detector import Detector
from onlineguard.slidr.learning.scorer import Scorer
from onlineguard.slidr.pipeline import (
    Config,
    Mask,
    Prepared,
    Thresholds,
    calibrate_model,
    prepare,
    purchasing,
    scores,
    slice_name,
    train_model,
)
from onlineguard.slidr.simulation.robots import ROBOTS
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic
from onlineguard.slidr.watch import COLUMNS, UNUSUAL, WATCHED

WEEK = 7 * 86_400_000  # milliseconds
DAYS = 21  # whole weeks, since people click otherwise on Sundays
BUDGET, CONFIDENCE = 0.01, 0.95  # of purchasing clicks called robotic, and how surely
PRICE = 0.50  # euros that a click costs its advertiser: our assumption
BATCH = 8_192

# Named like `console.progress`: a stage's name and number of clicks; gives what takes the clicks so far.
Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class Group:
    """Judged clicks of one kind, of one slice, on one ad, or all."""

    name: str
    clicks: int
    robots: int
    caught: int  # clicks of robots called robotic
    accused: int  # clicks of people called robotic
    unusual: int  # clicks that the engine finds unusual
    threshold: float | None = None  # of p_robot, for a slice

    @property
    def people(self) -> int:
        return self.clicks - self.robots

    @property
    def robotic(self) -> int:
        """Clicks that are not billed."""
        return self.caught + self.accused


@dataclass(frozen=True)
class Example:
    """One click and what was said about it."""

    kind: str
    slice: str
    p_robot: float
    threshold: float
    p_value: float  # of the engine: share of usual clicks of the slice at least as unusual
    robotic: bool


@dataclass(frozen=True)
class Story:
    """What happened to the clicks that were judged."""

    learned: int  # clicks trained on
    calibrated: int  # clicks that thresholds were set on, and how many of them led to a purchase
    purchases: int
    total: Group
    kinds: tuple[Group, ...]  # people first
    slices: tuple[Group, ...]  # those with the most clicks first
    best_ad: Group  # the ad with the most robotic clicks: the largest saving
    examples: tuple[Example, ...]  # one of each kind; of robots one that was caught, if any was

    @property
    def conclusion(self) -> str:
        """Three sentences."""
        total, ad = self.total, self.best_ad
        return (
            f"Of {total.robots:,} clicks by robots {total.caught / max(total.robots, 1):.0%} were caught; of "
            f"{total.people:,} clicks by people {total.accused / max(total.people, 1):.2%} were taken for robots'. "
            f"Advertisers were not billed {PRICE * total.robotic:,.2f} euros, at {PRICE:.2f} a click, of which "
            f"{PRICE * total.accused:,.2f} were for people. The ad that saved most, {ad.name}, was not billed "
            f"{PRICE * ad.robotic:,.2f} of {PRICE * ad.clicks:,.2f} euros; robots had clicked for "
            f"{PRICE * ad.robots:,.2f}."
        )


def tell(clicks: int, seed: int, report: str | Path, progress: Progress) -> Story:
    """Simulate, count, learn, calibrate, judge, and write the report; the same seed tells the same story."""
    traffic = Traffic(clicks=clicks, days=DAYS)
    with progress("simulated clicks", clicks) as done:
        simulated = simulate(traffic, seed)
        done(simulated.clicks.height)
    config = Config(seed=seed)
    with progress("features", simulated.clicks.height) as done:
        prepared = prepare(simulated.clicks, config, progress=done)
    begin, trained, calibrated, end = (traffic.begin + week * WEEK for week in range(4))
    learning, setting, judging = (
        prepared.between(since, until) for since, until in ((begin, trained), (trained, calibrated), (calibrated, end))
    )
    with progress("network", config.network.epochs * int(learning.sum())) as done:
        scorer = train_model(prepared, learning, trained, config, lambda clicks, _, __: done(clicks))
    losses: np.ndarray = getattr(scorer, "losses", np.empty(0))
    thresholds = _thresholds(prepared, scorer, setting, learning, calibrated, config)
    p_robot = scores(prepared, scorer)
    robotic = thresholds.robotic(p_robot, prepared)
    with progress("engine", len(p_robot)) as done:
        p_value = _p_values(prepared, done)
    kind = prepared.frame.select("click_id").join(simulated.truth, on="click_id", how="left", maintain_order="left")
    judged = _Judged(
        prepared,
        kind["kind"].to_numpy().astype(str),
        robotic,
        p_robot,
        p_value,
        thresholds.of(prepared),
        np.flatnonzero(judging),
    )
    _write(report, judged, thresholds, end, losses, seed)
    return Story(
        learned=int(learning.sum()),
        calibrated=int(setting.sum()),
        purchases=int(purchasing(prepared, calibrated)[setting].sum()),
        total=judged.group("all"),
        kinds=judged.kinds(),
        slices=judged.slices(),
        best_ad=judged.best_ad(),
        examples=judged.examples(),
    )


@dataclass(frozen=True, eq=False)
class _Judged:
    """Decisions on all clicks; `rows` are those that count."""

    prepared: Prepared
    kind: np.ndarray
    robotic: Bool[np.ndarray, " n"]
    p_robot: Float[np.ndarray, " n"]
    p_value: Float[np.ndarray, " n"]
    threshold: Float[np.ndarray, " n"]
    rows: Int[np.ndarray, " m"]

    def group(self, name: str, among: Bool[np.ndarray, " m"] | None = None, threshold: float | None = None) -> Group:
        rows = self.rows if among is None else self.rows[among]
        robot, robotic = self.kind[rows] != "person", self.robotic[rows]
        return Group(
            name,
            len(rows),
            int(robot.sum()),
            int((robot & robotic).sum()),
            int((~robot & robotic).sum()),
            int((self.p_value[rows] < UNUSUAL).sum()),
            threshold,
        )

    def kinds(self) -> tuple[Group, ...]:
        groups = (self.group(kind, self.kind[self.rows] == kind) for kind in ("person", *ROBOTS))
        return tuple(group for group in groups if group.clicks)

    def slices(self) -> tuple[Group, ...]:
        ids = self.prepared.slice_ids[self.rows]
        found, first = np.unique(ids, return_index=True)
        groups = [
            self.group(slice_name(self.prepared.slice_keys[i]), ids == i, float(self.threshold[self.rows[at]]))
            for i, at in zip(found, first, strict=True)
        ]
        return tuple(sorted(groups, key=lambda group: -group.clicks))

    def best_ad(self) -> Group:
        ads = self.prepared.frame["ad_id"].to_numpy()[self.rows]
        names, position = np.unique(ads, return_inverse=True)
        best = str(names[np.argmax(np.bincount(position, self.robotic[self.rows]))])
        return self.group(best, ads == best)

    def examples(self) -> tuple[Example, ...]:
        """Of each kind the click with the median p_robot: of all people's, and of the robots' that were caught.

        Most clicks of some kinds of robots are missed; the table of kinds says how many. An example shows a robot that
        was caught as long as there is one, so that the demonstration never depends on which side the median falls.
        """
        shown: list[Example] = []
        for group in self.kinds():
            rows = self.rows[self.kind[self.rows] == group.name]
            if group.caught:
                rows = rows[self.robotic[rows]]
            row = rows[np.argsort(self.p_robot[rows], kind="stable")[len(rows) // 2]]
            shown.append(
                Example(
                    group.name,
                    slice_name(self.prepared.slice_keys[self.prepared.slice_ids[row]]),
                    float(self.p_robot[row]),
                    float(self.threshold[row]),
                    float(self.p_value[row]),
                    bool(self.robotic[row]),
                )
            )
        return tuple(shown)


def _thresholds(
    prepared: Prepared, scorer: Scorer, rows: Mask, learned: Mask, known_at: int, config: Config
) -> Thresholds:
    """With confidence where there are purchases enough for it, else without."""
    options: dict[str, Any] = {"budget": BUDGET}
    try:
        return calibrate_model(
            prepared, scorer, rows, known_at, config, confidence=CONFIDENCE, learned=learned, **options
        )
    except InfeasibleBudget:
        return calibrate_model(prepared, scorer, rows, known_at, config, **options)


def _p_values(prepared: Prepared, done: Callable[[int], None]) -> Float[np.ndarray, " n"]:
    """The engine's, of every click, test-then-train in the order of the log; 1 where it cannot tell."""
    engine = Engine(features=list(WATCHED), estimator=Detector(UNUSUAL))
    events = prepared.X[:, COLUMNS]
    p_value = np.ones(len(events))
    for start in range(0, len(events), BATCH):
        batch = slice(start, start + BATCH)
        verdicts = engine.update(prepared.slice_ids[batch], events[batch])
        p_value[batch] = np.where(verdicts.ready, verdicts.p_value, 1.0)
        done(min(start + BATCH, len(events)))
    return p_value


def _write(
    report: str | Path, judged: _Judged, thresholds: Thresholds, known_at: int, losses: np.ndarray, seed: int
) -> None:
    from onlineguard.slidr.evaluation.evaluation import evaluate
    from onlineguard.slidr.evaluation.report import Extras, write_report

    prepared, rows = judged.prepared, judged.rows
    ids, keys = prepared.ids_among(thresholds.keys)
    evaluation = evaluate(
        judged.p_robot[rows],
        ids[rows],
        keys,
        purchasing(prepared, known_at)[rows],
        prepared.heavy[rows],
        thresholds.calibration,
        judged.kind[rows] != "person",
    )
    facts = {
        "Clicks judged": f"{len(rows):,}",
        "Weeks": "the first is learned, the second sets the thresholds, the third is judged",
        "Slices": " / ".join(prepared.slices),
        "Seed": str(seed),
    }
    write_report(report, evaluation, "onlineguard: a week of simulated clicks", facts, Extras(losses=losses.tolist()))
