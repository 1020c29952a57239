"""Entries of the journal: what is done to a guard, in order. From them alone a guard can be made again.

They are kept as MessagePack. Their order of fields is part of the format of the journal.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from onlineguard.slidr.clicks.clicks import Click
from onlineguard.wire.requests import Decision, Event, Label

CHANGEABLE = (
    "target_rate",
    "patience",
    "max_slices",
    "max_entities",
    "remember",
    "rollback",
    "follow_drift",
    "max_alarms",
    "namespace_share",
)  # of a state that goes on; see `Tune`


CARRIED = ("features", "n_features", "categories")  # of a state that goes on with others; see `Features`


class Options(msgspec.Struct, frozen=True):
    """What decides what the state is. Another choice begins another state, but of what is `CHANGEABLE` or `CARRIED`."""

    features: tuple[str, ...] = ()
    n_features: int = 0  # of events without named features; 0: the first event says
    target_rate: float = 0.01
    patience: float | None = 5_000.0  # None: the detector has none
    max_slices: int = 100_000
    remember: int = 100_000  # answers kept for repeated ids
    counting: bool = True  # in this process; else entries bring their counts along
    detector: str = "marginal"  # of events, a name of `arguments.DETECTORS`; states of before it have the marginal one
    categories: tuple[str, ...] = ()  # features that are categories whatever the first event holds
    rollback: bool = False  # whether an alarm of the live watch leads back to the model before
    follow_drift: bool = False  # whether thresholds follow the drift of scores inside their bands
    max_entities: int = 0  # of each kind that clicks are counted by in this process; 0: any, as it was of old
    max_alarms: int = 10_000  # that are kept
    namespace_share: float = 0.1  # of slices, answers and entities, that each namespace may have


class Begin(msgspec.Struct, tag="begin", array_like=True, frozen=True):
    """The first entry: what the operator chose, for as long as the state lives."""

    options: Options
    version: str  # of the first model
    t: int  # ms since 1970 at which it came
    source: str = ""  # tells this journal from any other, in the names of the files of its history


class Events(msgspec.Struct, tag="events", array_like=True, frozen=True):
    """Events of one request, to be learned."""

    events: list[Event]
    t: int
    namespace: str = ""  # that they belong to, as of all entries that have one; "": the operator's own


class Clicks(msgspec.Struct, tag="clicks", array_like=True, frozen=True):
    """Clicks of one request, or of a part of it."""

    clicks: list[Click]
    t: int
    counts: bytes = b""  # int32 (n, 34), where the counters are kept elsewhere
    looked_up: bytes = b""  # float32 (n, columns) of the lookups, so that no entry needs them again; none without any
    namespace: str = ""


class Labels(msgspec.Struct, tag="labels", array_like=True, frozen=True):
    """What became known of clicks later."""

    labels: list[Label]
    t: int
    namespace: str = ""


class Decisions(msgspec.Struct, tag="decisions", array_like=True, frozen=True):
    """Decisions about clicks that came before."""

    decisions: list[Decision]
    t: int
    namespace: str = ""


class Switch(msgspec.Struct, tag="switch", array_like=True, frozen=True):
    """From here on another model decides, or the same one is watched by other promises."""

    version: str
    t: int
    promises: bytes = b""  # a `Promises` as JSON, which the live watch compares with; none: nothing is compared
    why: str = ""  # the alarm, where the live watch took the model before back


class Trial(msgspec.Struct, tag="trial", array_like=True, frozen=True):
    """From here on a candidate judges every click beside the model that decides; without a version none does."""

    version: str
    share: float  # of the users whose clicks it decides
    t: int
    promises: bytes = b""  # as of a `Switch`
    why: str = ""  # the trial ends
    by_itself: bool = False  # whether the candidate's own watch ends it


class Tune(msgspec.Struct, tag="tune", array_like=True, frozen=True):
    """From here on the operator's `CHANGEABLE` choices are these; the others are as they were."""

    options: Options
    t: int


class Features(msgspec.Struct, tag="features", array_like=True, frozen=True):
    """From here on events have the `CARRIED` choices of these options; slices keep what they learned of the rest."""

    options: Options
    t: int


class Erase(msgspec.Struct, tag="erase", array_like=True, frozen=True):
    """A user's traces go; see `erasing`."""

    user_id: str
    t: int
    namespace: str = ""


class Erased(msgspec.Struct, tag="erased", array_like=True, frozen=True):
    """What the entries `Erase` up to this one asked for is done."""

    upto: int
    t: int


class Note(msgspec.Struct, tag="note", array_like=True, frozen=True):
    """An alarm is acknowledged; if its event was usual, its slice learns that."""

    alarm: int  # its number
    who: str
    note: str
    usual: bool
    t: int
    namespace: str = ""


OfNamespace = Events | Clicks | Labels | Decisions | Erase | Note
Entry = Begin | Events | Clicks | Labels | Decisions | Switch | Tune | Features | Trial | Erase | Erased | Note

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Entry).decode


class Span(NamedTuple):
    """Events or clicks that belong to one entry, of several that are applied together."""

    n: int
    t: int  # the entry's
    taken: Callable[[], None] = lambda: None  # called when they are dealt with, all but the next ones


def items_of(entry: Events | Clicks) -> Sequence[Event] | Sequence[Click]:
    """Its events, or its clicks."""
    return entry.events if isinstance(entry, Events) else entry.clicks


def now() -> int:
    """The time that an entry comes at, in ms since 1970."""
    return time.time_ns() // 1_000_000
