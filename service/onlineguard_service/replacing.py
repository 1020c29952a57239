"""Replacing: decisions about clicks that come later than the clicks, and which one is in force.

A delayed decision names the one that it replaces. If that is in force, the new one is from then on: the click that is
sent again gets it as its answer. If the new one is in force already, nothing changes. If neither is, somebody else was
faster, and the sender is told which one stands.

Of a click that is forgotten the guard cannot know what is in force. The first delayed decision about it is taken at its
word and recorded, and remembered as answers are, so that the next ones are held against it.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from onlineguard.records.decisions import Decision, Standing
from onlineguard.wire.answers import ClickAnswer, DecisionAnswer
from onlineguard_service.remembered import Remembered


class Replacing:
    """See this module. `answers` are those that clicks got; `most` decisions about others are remembered."""

    def __init__(self, answers: Remembered[ClickAnswer], most: int):
        self._answers = answers
        self._others = Remembered(most, Standing)

    def apply(self, decisions: Sequence[Decision]) -> tuple[list[DecisionAnswer], list[int]]:
        """An answer to each, and the places of those that are in force from now on."""
        answers: list[DecisionAnswer] = []
        applied: list[int] = []
        for place, decision in enumerate(decisions):
            given, id_ = self._answers.get(decision.click_id), decision.click_id
            new, replaced = _single(decision.standing), _single(decision.replaces)
            now = (self._others.get(id_) or replaced) if given is None else standing(given)
            if now == new:
                outcome = "repeated"
            elif now != replaced:
                outcome = "conflict"
            else:
                outcome, now = "applied", new
                applied.append(place)
                if given is None:
                    self._others.put(id_, new)
                else:
                    self._answers.change(id_, _changed(given, decision.slice, new, replaced))
            answers.append(DecisionAnswer(id_, outcome, given is not None, now))
        return answers, applied

    def keep(self, most: int) -> None:
        """Remember so many of forgotten clicks from now on."""
        self._others.keep(most)

    def dump(self) -> list[object]:
        """As `Remembered.dump`."""
        return self._others.dump()

    def restore(self, dump: list[object]) -> None:
        """Become what was dumped."""
        self._others.restore(dump)


def standing(answer: ClickAnswer) -> Standing:
    """The decision of an answer that is remembered."""
    assert answer.decision != "unknown"  # such answers are not remembered
    return Standing(answer.model_version, answer.decision, answer.p_robot, answer.threshold)


def _changed(answer: ClickAnswer, slice_: str, new: Standing, replaced: Standing) -> ClickAnswer:
    return msgspec.structs.replace(
        answer,
        decision=new.decision,
        p_robot=new.p_robot,
        threshold=new.threshold,
        slice=slice_,
        model_version=new.model_version,
        replaces=replaced,
    )


def _single(decision: Standing) -> Standing:
    """With the score in the precision that models give."""
    if decision.p_robot is None:
        return decision
    return msgspec.structs.replace(decision, p_robot=float(np.float32(decision.p_robot)))
