"""A model a day: trained on the last days of a history, calibrated on later ones, guarded, and promoted or rejected.

    run = retrain("state/history", Registry("models"), Plan())

The days before `until` are divided by time, since robots change their ways by time:

    | days: trained on | calibrate_days: thresholds | measure_days: beside what is live |
                                                                                        until

The model has learned none of the clicks that choose its thresholds, and neither it nor the live one has seen those that
they are compared on. Labels are those that are known when the last day ends, also of clicks two weeks old.

**Once a day.** The outcome is written into the registry, as `runs/2026-03-09.json`. A second run for that day returns
it and does nothing.

**After a kill** at any point the next run goes on: the trained and the calibrated model lie in the work folder, with a
digest of what they were made from; a version that was added or promoted already is found in the registry.

**One at a time.** A lock on the work folder, which the operating system takes back from a process that dies. Should two
machines run with two work folders, one of them finds the registry changed, and nothing of its own promoted.

**Memory.** Features are read as they were counted live, into a file that is mapped into memory, and gone through in
parts. What is held are the clicks' fields, whose texts are numbers (`clicks.coded`), and a few numbers of each click.
Visitors, sessions and the curves of slices are gone through in parts too.
"""

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

import onlineguard
from onlineguard import atomic
from onlineguard.errors import CheckpointError, InfeasibleBudget, InvalidArgument
from onlineguard.records.versions import Outcome
from onlineguard.slidr.guardrails import candidate, distributions, labels, traffic
from onlineguard.slidr.guardrails.candidate import LEVEL, Comparison
from onlineguard.slidr.guardrails.checks import Check, Settings, run
from onlineguard.slidr.guardrails.data import Data
from onlineguard.slidr.guardrails.promises import canaries, promised
from onlineguard.slidr.history.keeping import alone
from onlineguard.slidr.history.reading import History
from onlineguard.slidr.model import Model, Span, load_model, save_model
from onlineguard.slidr.pipeline import Config, Mask, Prepared, known_humans, purchasing, train_model
from onlineguard.slidr.registry.registry import Registry, whoami
from onlineguard.slidr.workflow import calibrate_scorer, measure

DAY = 86_400_000  # milliseconds
DATA_CHECKS: tuple[Check[Data], ...] = labels.CHECKS + traffic.CHECKS + distributions.CHECKS
CANDIDATE_CHECKS: tuple[Check[Comparison], ...] = candidate.CHECKS
CHECKS: tuple[Check[Any], ...] = (*DATA_CHECKS, *CANDIDATE_CHECKS)

Progress = Callable[[str], None]  # what is being done, a line each


@dataclass(frozen=True)
class Plan:
    """What the operator chose. Raises InvalidArgument for days that leave nothing to train on or to calibrate on."""

    days: int = 7  # trained on; whole weeks, since people click otherwise on Sundays
    calibrate_days: int = 7
    measure_days: int = 1  # the price of comparing: the model is older by so much
    config: Config | None = None  # by default that of the live model
    options: Mapping[str, Any] | None = None  # of `calibrate_model`; by default those of the live model
    settings: Settings = field(default_factory=Settings)  # of the guardrails

    def __post_init__(self) -> None:
        for name in ("days", "calibrate_days", "measure_days"):
            if getattr(self, name) < 1:
                raise InvalidArgument(name, f"is {getattr(self, name)}; it must be 1 or more")

    def spans(self, until: int) -> tuple[int, int, int, int]:
        """Where training, calibration and measuring begin, and where the latter ends; ms since 1970 UTC."""
        measure_from = until - self.measure_days * DAY
        calibrate_from = measure_from - self.calibrate_days * DAY
        return calibrate_from - self.days * DAY, calibrate_from, measure_from, until


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a day; `runs/<day>.json` in the registry."""

    day: str  # the last one that was looked at
    outcome: str  # "promoted", "rejected" or "unchanged": the same model is live already
    version: str | None  # None where no model could be made
    replaced: str | None = None
    reasons: list[str] = []  # of a rejection, a sentence each
    guardrails: list[Outcome] = []
    clicks: int = 0
    seconds: float = 0.0
    generation: int | None = None  # of the change in the registry
    who: str = ""
    repeated: bool = False  # whether this is the outcome of an earlier run


def retrain(
    history: History,
    registry: Registry,
    plan: Plan,
    day: date | None = None,
    work: Path | None = None,
    who: str | None = None,
    again: bool = False,
    progress: Progress | None = None,
) -> Run:
    """See this module. Returns what became of the day, now or in an earlier run.

    day: the last day that is used, in UTC; by default yesterday.
    work: a folder on a local disk; by default `retrain` beside the history.
    again: do it although there is an outcome of that day already; the new one is kept beside it.

    Raises Conflict if another run is going on, or if somebody else changed the registry meanwhile: then nothing was
    promoted, and the next run compares with what is live by then. Raises SourceError if the history has no clicks of
    those days.
    """
    say = progress or (lambda _line: None)
    last = day or datetime.now(UTC).date() - timedelta(days=1)
    name = _free_name(registry, last, again)
    if (found := _earlier(registry, name)) is not None:
        return found
    folder = work or history.path.parent / "retrain"
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder, "another retraining is going on in"):
        if (found := _earlier(registry, name)) is not None:
            return found
        until = (last - date(1970, 1, 1)).days * DAY + DAY
        finished = _Day(history, registry, plan, last, until, folder / last.isoformat(), who or whoami(), say).run()
        registry.store.create(name, msgspec.json.format(msgspec.json.encode(finished), indent=1) + b"\n")
        shutil.rmtree(folder / last.isoformat(), ignore_errors=True)
        return finished


@dataclass(frozen=True, eq=False)
class _Day:
    """A run: what it was asked, and its steps in their order."""

    history: History
    registry: Registry
    plan: Plan
    day: date
    until: int
    work: Path
    who: str
    say: Progress

    def run(self) -> Run:
        begun = time.monotonic()
        head = self.registry.head()
        live = None if head is None else self.registry.load(head.current)
        config = self.plan.config or (live.config if live is not None else Config())
        options = dict(self.plan.options if self.plan.options is not None else live.options if live is not None else {})
        self._begin(config, options, None if head is None else head.current)

        since, calibrate_from, measure_from, until = self.plan.spans(self.until)
        self.say(f"reading the clicks of {self.plan.days + self.plan.calibrate_days + self.plan.measure_days} days")
        prepared = self.history.prepared(since, until, config, known_at=until, spool=self.work / "features.npy")
        learned, later, latest = (
            prepared.between(a, b)
            for a, b in ((since, calibrate_from), (calibrate_from, measure_from), (measure_from, until))
        )
        record = None if head is None else self.registry.record(head.current)
        self.say(f"checking {len(prepared.ts):,} clicks and their labels")
        promises = None if record is None else record.promises
        data = Data.of_history(self.history, prepared, since, until, config, promises)
        outcomes = run(DATA_CHECKS, data, self.plan.settings)
        del data

        def ended(outcome: str, version: str | None, reasons: list[str], generation: int | None = None) -> Run:
            return Run(
                day=self.day.isoformat(),
                outcome=outcome,
                version=version,
                replaced=None if head is None else head.current,
                reasons=reasons,
                guardrails=outcomes,
                clicks=len(prepared.ts),
                seconds=round(time.monotonic() - begun, 1),
                generation=generation,
                who=self.who,
            )

        try:
            model = self._model(prepared, learned, later, (since, calibrate_from, measure_from, until), config, options)
        except (InfeasibleBudget, InvalidArgument) as error:  # labels or clicks that no model can be made of
            reasons = [f"{each.name}: {each.sentence}" for each in outcomes if each.outcome == "failed"]
            return ended("rejected", None, [*reasons, f"no model: {error}"])
        if not latest.any():
            return ended("rejected", None, [f"there are no clicks of {self.day} to compare on"])

        self.say(f"comparing with {'nothing live' if head is None else head.current} on {int(latest.sum()):,} clicks")
        measured = _measured(prepared, model, latest, until)
        fits = live is not None and live.config.slices == config.slices
        comparison = Comparison(
            model,
            measured,
            live,
            _measured(prepared, live, latest, until) if live is not None and fits else None,
            () if record is None else record.canaries,
        )
        outcomes += run(CANDIDATE_CHECKS, comparison, self.plan.settings)
        failures = [each for each in outcomes if each.outcome == "failed"]
        added = self.registry.add(
            self.work / "model",
            metrics=measured.to_dict(),
            guardrails=outcomes,
            promises=promised(prepared, model, learned, latest, until),
            canaries=(record.canaries if record else []) or canaries(prepared, model, latest, until),
            who=self.who,
        )
        reasons = [f"{each.name}: {each.sentence}" for each in failures]
        if head is not None and head.current == added.version:
            return ended("unchanged", added.version, reasons, head.generation)
        if failures:
            return ended("rejected", added.version, reasons)
        change = self.registry.promote(
            added.version,
            f"retrained after {self.day}, on {self.plan.days} days",
            who=self.who,
            generation=0 if head is None else head.generation,
        )
        return ended("promoted", added.version, [], change.generation)

    def _begin(self, config: Config, options: Mapping[str, Any], live: str | None) -> None:
        """Leave what an earlier run has made, if it was made of the same; else begin with an empty folder."""
        parts = [
            (str(part.path), part.path.stat().st_size)
            for kind in ("clicks", "labels")
            for part in self.history.parts(kind)
        ]
        asked = [onlineguard.__version__, self.until, dataclasses.asdict(config), dict(options), parts]
        asked += [live, self.plan.days, self.plan.calibrate_days, self.plan.measure_days]
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
        note = self.work / "made-of"
        if not note.exists() or note.read_text() != digest:
            shutil.rmtree(self.work, ignore_errors=True)
            self.work.mkdir(parents=True)
            atomic.write(note, digest.encode())

    def _model(
        self,
        prepared: Prepared,
        learned: Mask,
        later: Mask,
        spans: tuple[int, int, int, int],
        config: Config,
        options: Mapping[str, Any],
    ) -> Model:
        """The calibrated model, in the folder `model`; what an earlier run has made of it is taken up."""
        since, calibrate_from, measure_from, known_at = spans
        try:
            model = load_model(self.work / "model")
            self.say(
                f"going on with the model that an earlier run has {'trained' if model.thresholds is None else 'made'}"
            )
        except CheckpointError:
            self.say(f"training on {int(learned.sum()):,} clicks")
            scorer = train_model(prepared, learned, known_at, config, _percent(self.say))
            trained = _span(since, calibrate_from, known_at, learned, known_humans(prepared, known_at, config))
            model = save_model(self.work / "model", Model(config, scorer, trained))
        if model.thresholds is None:
            self.say(f"choosing thresholds on {int(later.sum()):,} clicks")
            thresholds = calibrate_scorer(prepared, model, model.scorer, later, known_at, options)
            calibrated = _span(calibrate_from, measure_from, known_at, later, purchasing(prepared, known_at))
            finished = dataclasses.replace(model, thresholds=thresholds, calibrated=calibrated, options=options)
            model = save_model(self.work / "model", finished)
        return model


def _span(since: int, until: int, known_at: int, rows: Mask, human: Mask) -> Span:
    return Span(since, until, known_at, int(rows.sum()), int((rows & human).sum()))


def _measured(prepared: Prepared, model: Model, rows: Mask, known_at: int) -> Any:
    assert model.thresholds is not None
    return measure(prepared, model.scorer, model.thresholds, rows, known_at, model.config, level=LEVEL)


def _percent(say: Progress) -> Callable[[int, int, float], None]:
    """Progress of a training in tenths."""
    said = 0

    def progress(done: int, total: int, entropy: float) -> None:
        nonlocal said
        if (tenth := 10 * done // max(1, total)) > said:
            said = tenth
            say(f"  {10 * tenth} % learned, cross-entropy {entropy:.4f}")

    return progress


def _free_name(registry: Registry, day: date, again: bool) -> str:
    taken = set(registry.store.names("runs"))
    name, number = f"{day.isoformat()}.json", 1
    while again and name in taken:
        number += 1
        name = f"{day.isoformat()}.{number}.json"
    return f"runs/{name}"


def _earlier(registry: Registry, name: str) -> Run | None:
    try:
        contents = registry.store.read(name)
    except FileNotFoundError:
        return None
    try:
        return msgspec.structs.replace(msgspec.json.decode(contents, type=Run), repeated=True)
    except msgspec.MsgspecError as error:
        raise CheckpointError(
            f"{registry.url}/{name} is damaged: {error}; remove it, and the day is done anew"
        ) from error
