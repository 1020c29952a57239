"""Judging: what is decided about clicks, and what becomes known of them later.

Clicks are counted, judged by the network against the threshold of their slice, and by the engine that watches how fast
each slice clicks. A candidate on trial judges them too, and the live watch sees what the model decides. Answers are
remembered, and labels and delayed decisions are held against them.

It is part of the guard: told of entries as they are applied.
"""

from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np

from onlineguard.engine.engine import Engine
from onlineguard.records.click import Click
from onlineguard.slidr.counting.windows import COLUMNS
from onlineguard.slidr.features import LOOKED_UP
from onlineguard.slidr.judge import ClickJudge, JudgedClicks
from onlineguard.slidr.model import Model
from onlineguard.wire.answers import ClickAnswer, DecisionAnswer, LabelAnswer
from onlineguard_service.alarms import Alarms, Said
from onlineguard_service.entries import Clicks, Decisions, Labels, Options, Span
from onlineguard_service.figures import FLAGGED, HEAVY, ROBOTIC, Figures
from onlineguard_service.history.recorder import Recorder
from onlineguard_service.limits import Limits
from onlineguard_service.remembered import Remembered, owner
from onlineguard_service.replacing import Replacing
from onlineguard_service.telling import finite, flags_of, name_of_slice, rows_of, verdict_answers
from onlineguard_service.trying import Ruling, Trying, heavy_clicks
from onlineguard_service.watching import Watching


def counted(counts: bytes) -> np.ndarray:
    """Counts (n, 34) that came with an entry."""
    return np.frombuffer(counts, np.int32).reshape(-1, len(COLUMNS))


class Judging:
    """See this module. `judge` is one with the network of the model, and with the engine `watch`."""

    def __init__(self, options: Options, model: Model, judge: ClickJudge, watch: Engine, alarms: Alarms):
        self._follows = options.follow_drift
        self._counting = options.counting  # else entries bring their counts along
        self.figures = Figures(options.max_slices)
        self.answers = Remembered(options.remember, ClickAnswer, attrgetter("user_id"))
        self.replacing = Replacing(self.answers, options.remember)
        self.purchased = Remembered(options.remember, int)  # when
        self.recorder: Recorder | None = None  # told of every click that is judged, and of every label
        self.watching = Watching(model.version)
        self.watching.allow(options.rollback)
        self.trying = Trying(watch, options)
        self.tell(alarms)
        self.use(model, judge)

    def tell(self, alarms: Alarms) -> None:
        """Have these alarms hear of what is found."""
        self._alarms = alarms
        self.watching.told = partial(alarms.found, "watch")
        self.trying.told = partial(alarms.found, "trial")

    def use(self, model: Model, judge: ClickJudge) -> None:
        """Another model decides from now on."""
        self.model, self.click_judge = model, judge
        self.limits = Limits(model, self._follows)
        self._columns: Callable[[Click], Any] = attrgetter(*model.config.slices)

    def tune(self, options: Options, models: Callable[[str], Model]) -> None:
        """Go on with the operator's new choices; a program is compiled only for thresholds that begin to move."""
        self.watching.allow(options.rollback)
        if options.follow_drift != self._follows:  # from the thresholds of the calibration on
            self._follows = options.follow_drift
            self.limits = Limits(self.model, options.follow_drift)
            self.trying.follow(options.follow_drift, models)
            self.limits.warmup()
            self.trying.warmup()
        self.figures.keep(options.max_slices)
        for remembered in (self.answers, self.replacing, self.purchased, self.trying):
            remembered.keep(options.remember)

    def warmup(self) -> None:
        """Compile."""
        self.click_judge.warmup()
        self.limits.warmup()
        self.trying.warmup()

    def forget(self, user_id: str) -> list[str]:
        """Forget the clicks of a user, and give their ids."""
        clicks = self.answers.of(user_id)
        self.answers.forget(clicks)
        self.purchased.forget(clicks)
        self.trying.forget(clicks)
        return clicks

    def restore(self, dump: dict[str, Any], models: Callable[[str], Model]) -> None:
        """Become what `Guard.dump` holds of it."""
        self.limits.restore(dump.get("limits"))  # of old there were none that moved
        self.figures = Figures.restored(dump["click_figures"])
        self.answers.restore(dump["click_answers"])
        self.purchased.restore(dump["purchased"])
        if "replacing" in dump:  # of old there was none
            self.replacing.restore(dump["replacing"])
        if "watching" in dump:  # of old there was none
            self.watching.restore(dump["watching"])
        if "trying" in dump:  # of old there was none
            self.trying.restore(dump["trying"], models)

    def clicks(self, entry: Clicks, sequence: int) -> list[ClickAnswer]:
        """One answer to each click of an entry."""
        counts = None if self._counting else counted(entry.counts)
        looked_up = np.frombuffer(entry.looked_up, np.float32).reshape(-1, len(LOOKED_UP)) if entry.looked_up else None

        def judged(places: list[int]) -> list[ClickAnswer]:
            answers: list[ClickAnswer] = []
            for start in range(0, len(places), self.click_judge.most):
                part = places[start : start + self.click_judge.most]
                parts = rows_of(counts, part), rows_of(looked_up, part)
                answers += self._judged(entry.clicks, part, [Span(len(part), entry.t)], sequence, *parts)
            return answers

        return self.answers.answered(entry.clicks, _ids_of(entry.clicks), judged)

    def together(self, entries: Sequence[Clicks], spans: Sequence[Span], sequence: int) -> list[ClickAnswer]:
        """One answer to each click of several entries; see `Guard.apply_together`."""
        clicks = [click for entry in entries for click in entry.clicks]
        counts = None if self._counting else counted(b"".join(entry.counts for entry in entries))
        return self.answers.answered(
            clicks,
            _ids_of(clicks),
            lambda places: self._judged(clicks, places, spans, sequence, rows_of(counts, places)),
        )

    def labels(self, entry: Labels, sequence: int) -> list[LabelAnswer]:
        """One answer to each label of an entry."""
        answers: list[LabelAnswer] = []
        for label in entry.labels:
            decided = self.answers.get(label.click_id)
            if decided is None or decided.decision == "unknown":
                answers.append(LabelAnswer(label.click_id, False))
                continue
            if label.purchase_ts is not None and self.purchased.get(label.click_id) is None:
                self.purchased.put(label.click_id, label.purchase_ts)
                self.figures.label(decided.slice, decided.decision == "robotic")
                if decided.model_version == self.model.version and decided.replaces is None:  # it decided so itself
                    self.watching.purchase(decided.slice, decided.decision == "robotic", entry.t)
                self.trying.purchase(label.click_id, decided.slice, entry.t)
            elif label.purchase_ts is not None:
                self.purchased.repeated += 1
            answers.append(LabelAnswer(label.click_id, True, decided.decision))
        if self.recorder is not None:
            self.recorder.labels(sequence, entry.t, entry.labels)
        return answers

    def decisions(self, entry: Decisions, sequence: int) -> list[DecisionAnswer]:
        """One answer to each delayed decision of an entry."""
        answers, applied = self.replacing.apply(entry.decisions)
        if self.recorder is not None and applied:
            self.recorder.decisions(sequence, entry.t, applied, [entry.decisions[i] for i in applied])
        return answers

    def slice_of(self, click: Click) -> str:
        """The name of a click's slice under the present model."""
        return name_of_slice(self._columns(click))

    def limits_of(self, slices: Sequence[str]) -> list[float]:
        """The thresholds of slices by their names at present."""
        return self.limits.judged(slices, np.full(len(slices), np.nan, np.float32))[0]  # a NaN moves none of them

    def _judged(
        self,
        given: Sequence[Click],
        places: list[int],
        spans: Sequence[Span],
        sequence: int,
        counts: np.ndarray | None = None,
        looked_up: np.ndarray | None = None,
    ) -> list[ClickAnswer]:
        clicks = [given[i] for i in places]
        names = [self.slice_of(click) for click in clicks]
        judged = self.click_judge.judge(clicks, names, counts, looked_up)
        if len(spans) == 1:
            return self._decided(places, clicks, names, judged, spans[0], sequence)
        answers: list[ClickAnswer] = []
        start = 0
        for span in spans:
            part = slice(start, start + span.n)
            own = JudgedClicks(judged.features[part], judged.p_robot[part], judged.watched[part], judged.verdicts[part])
            answers += self._decided(places[part], clicks[part], names[part], own, span, sequence)
            start += span.n
        return answers

    def _decided(
        self,
        places: list[int],
        clicks: list[Click],
        names: list[str],
        judged: JudgedClicks,
        span: Span,
        sequence: int,
    ) -> list[ClickAnswer]:
        t = span.t
        verdicts, version = verdict_answers(judged.verdicts), self.model.version
        ruling = Ruling(judged.p_robot, *self.limits.judged(names, judged.p_robot), [version] * len(clicks))
        warm = self.watching.warm(clicks)
        if self.trying.running:
            ruling = self.trying.judged(clicks, names, judged.features, ruling, warm, t)
            judged = judged._replace(p_robot=ruling.p_robot)
        p_robot, limits, robotic, versions = ruling
        flags, heavy = flags_of(verdicts), heavy_clicks(self.model, judged.features)
        self.figures.add(
            names,
            [
                flag | ROBOTIC * is_robotic | HEAVY * is_heavy
                for flag, is_robotic, is_heavy in zip(flags, robotic, heavy, strict=True)
            ],
            [click.ts for click in clicks],
            judged.verdicts.score,
            judged.verdicts.threshold,
            judged.watched,
            p_robot,
            limits,
        )
        if FLAGGED in flags or self._alarms.n_open:

            def said(i: int) -> Said:
                return Said(clicks[i].click_id, clicks[i].ts, owner(clicks[i].user_id))

            self._alarms.take("clicks", names, flags, verdicts, judged.watched, said, t)
        self._watch(names, ruling, judged.features, warm, t)
        if self.recorder is not None:
            p_values = [verdict.p_value for verdict in verdicts]
            self.recorder.clicks(sequence, t, places, clicks, judged, limits, robotic, p_values, names, versions)
        span.taken()
        rows = zip(clicks, robotic, p_robot.tolist(), limits, names, versions, verdicts, strict=True)
        return [
            ClickAnswer(
                click.click_id, "robotic" if is_robotic else "valid", finite(p), finite(limit), name, by, verdict
            )
            for click, is_robotic, p, limit, name, by, verdict in rows
        ]

    def _watch(self, names: list[str], ruling: Ruling, features: np.ndarray, warm: bool, t: int) -> None:
        """Have the live watch see what the live model decided."""
        p_robot, _, robotic, versions = ruling
        mine = [i for i, version in enumerate(versions) if version == self.model.version]
        if len(mine) < len(names):
            names, robotic = [names[i] for i in mine], [robotic[i] for i in mine]
            p_robot, features = p_robot[mine], features[mine]
        self.watching.clicks(names, p_robot, robotic, features, warm, t)


def _ids_of(clicks: Sequence[Click]) -> list[str]:
    return [click.click_id for click in clicks]
