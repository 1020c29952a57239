"""Delayed decisions: what was decided about a click later than the click, and which decision that replaces.

    {"id": "3f2a91c0-4200-0-0c1d2e3f4a5b", "click_id": "c-1", "decision": "robotic", "p_robot": 0.97, "threshold": 0.6,
     "slice": "phone / US / true", "model_version": "0c1d2e3f4a5b",
     "replaces": {"model_version": "a1b2c3d4e5f6", "decision": "valid", "p_robot": 0.41, "threshold": 0.6}}

The id is the click's place in its journal and the model's version: the same replay makes the same ids, so a receiver
can tell a decision that it has.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from onlineguard.records.click import Id

MOST_SLICE = 4_096  # characters of a slice's name, which may hold a user agent, and of an id made of names

Decided = Literal["robotic", "valid"]
Marks = dict[str, tuple[int, int]]  # by source, the place of the last click whose decision was published


class Standing(msgspec.Struct, frozen=True, gc=False):
    """A decision as far as another one can replace it."""

    model_version: Id
    decision: Decided
    p_robot: float | None
    threshold: float | None


class Decision(msgspec.Struct, frozen=True, gc=False, kw_only=True, forbid_unknown_fields=True):
    """The decision about a click, later than the click."""

    id: Annotated[str, Meta(max_length=MOST_SLICE, description="of the decision, for whoever gets it twice")] = ""
    click_id: Id
    decision: Decided
    p_robot: float | None  # a float32; null where the click has no score
    threshold: float | None
    slice: Annotated[str, Meta(max_length=MOST_SLICE)]
    model_version: Id
    replaces: Standing  # the decision that was in force

    @property
    def standing(self) -> Standing:
        """What is in force once this decision is."""
        return Standing(self.model_version, self.decision, self.p_robot, self.threshold)
