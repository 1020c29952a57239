"""Trying: a candidate that judges every click beside the model that decides, and how the two compare.

The features of a click are counted once, and both models judge them. With a share of 0 the candidate decides nothing.
With a share s it decides the clicks of the users for whom

    h(version, user) < s,   h a hash spread evenly over [0, 1)

so a user is decided by one model throughout, a larger share takes users on and lets none go, and another candidate has
other users. Where there is no user, the session stands for it, and else the address.

It is part of the guard: told of every click and purchase as entries are applied, so a replay decides and counts the
same. The candidate has a live watch of its own, of every click whoever decided. Where it decides, an alarm that tells
of the model ends the trial: that too is an entry, owed from the alarm on.
"""

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from jaxtyping import Float32

from onlineguard.engine.engine import Engine
from onlineguard.errors import InvalidArgument
from onlineguard.records.click import Click
from onlineguard.slidr.features import NAMES
from onlineguard.slidr.judge import FeatureJudge
from onlineguard.slidr.live import LiveWatch
from onlineguard.slidr.model import Model
from onlineguard_service.entries import Options, Trial, decode, encode
from onlineguard_service.errors import OnTrial
from onlineguard_service.limits import Limits
from onlineguard_service.remembered import Remembered
from onlineguard_service.watching import ALARMS, Raised, sentence, watch_of

CLICKS, HEAVY_CLICKS, PURCHASES = range(3)  # what is counted, each by CODES
BY_CANDIDATE, LIVE, CANDIDATE, CODES = 4, 2, 1, 8  # who decided and who calls it robotic: bits of a code; all codes
_SESSION = NAMES.index("session_clicks_1h")


class Ruling(NamedTuple):
    """What is decided about n clicks."""

    p_robot: Float32[np.ndarray, " n"]
    limits: list[float]
    robotic: list[bool]
    versions: list[str]  # of who decided


class Trying:
    """See this module.

    engine: that which judges the clicks.
    """

    def __init__(self, engine: Engine, options: Options):
        self._engine, self._follows = engine, options.follow_drift
        self._entry = Trial("", 0.0, 0)  # that begun the trial, or gave it another share
        self._live = ""
        self._since: int | None = None
        self._ended: int | None = None
        self._why = ""
        self._by_itself = False  # whether its own watch ended it
        self.n_ended_by_itself = 0  # since the state began
        self._judge: FeatureJudge | None = None  # while a trial runs
        self._limits: Limits | None = None
        self._share = 0  # of 2^64
        self._heavy = math.inf  # of the feature at _SESSION, beyond which a click is heavy
        self._counts: dict[str, list[list[int]]] = {}  # by slice, and of all under ""
        self._marks = Remembered(options.remember, int)  # the code of each click
        self._watch: LiveWatch | None = None
        self._raised: list[Raised] = []
        self._owed: Raised | None = None
        self.told: Callable[[Raised], None] = lambda raised: None  # hears every alarm of the candidate

    @property
    def running(self) -> bool:
        """Whether a candidate judges."""
        return self._judge is not None

    @property
    def version(self) -> str:
        """Of the candidate, or of the last one; empty where there was none."""
        return self._entry.version

    @property
    def share(self) -> float:
        """Of the users whose clicks it decides, or decided."""
        return self._entry.share

    @property
    def promises(self) -> bytes:
        """Those of the candidate as JSON; empty where there are none."""
        return self._entry.promises

    @property
    def changed(self) -> int:
        """When a trial began, got another share or ended last; 0 where there was none."""
        return max(self._entry.t, self._ended or 0)

    @property
    def ended_by_itself(self) -> str:
        """Why the watch of the last candidate ended its trial; empty where it did not."""
        return self._why if self._by_itself else ""

    def check(self, version: str) -> None:
        """Raises OnTrial where another candidate is on trial."""
        if self.running and self.version != version:
            raise OnTrial(self.version)

    def begin(self, entry: Trial, candidate: Model, live: Model) -> None:
        """A candidate judges from now on, or another share of the users is its. Raises InvalidArgument as `check`, and
        for a model that cannot be tried beside the live one."""
        self.check(entry.version)
        if (wrong := incomparable(candidate, live)) is not None:
            raise InvalidArgument("version", wrong)
        names = dict.fromkeys((*Limits(live).slices, *Limits(candidate).slices))
        if not self.running:
            self._since, self._ended, self._why, self._by_itself = entry.t, None, "", False
            self._live, self._raised, self._owed = live.version, [], None
            self._counts = {name: [[0] * CODES for _ in range(3)] for name in ("", *names)}
            self._marks.clear()
        if not self.running or entry.promises != self._entry.promises:
            self._watch = watch_of(entry.promises)
        self._use(entry, candidate)

    def _use(self, entry: Trial, candidate: Model) -> None:
        self._entry = entry
        self._share = round(entry.share * 2**64)
        if self._judge is None:
            self._judge = FeatureJudge(candidate.scorer, self._engine)
            self._limits, self._heavy = Limits(candidate, self._follows), _heavy_from(candidate)

    def end(self, t: int, why: str, by_itself: bool = False) -> None:
        """The candidate judges no more; what was seen of it stays, until the next one."""
        if self.running:
            self._ended, self._why, self._by_itself = t, why, by_itself
            self.n_ended_by_itself += by_itself
            self._judge = self._limits = self._owed = None

    def keep(self, most: int) -> None:
        """Remember so many clicks from now on."""
        self._marks.keep(most)

    def forget(self, ids: Collection[str]) -> None:
        """Forget these clicks."""
        self._marks.forget(ids)

    def follow(self, drift: bool, models: Callable[[str], Model]) -> None:
        """Whether thresholds follow drift from now on, beginning with those of the calibration."""
        self._follows = drift
        if self.running:
            self._limits = Limits(models(self.version), drift)

    def warmup(self) -> None:
        """Compile what a trial that runs needs."""
        if self._judge is not None and self._limits is not None:
            self._judge.warmup()
            self._limits.warmup()

    def chooses(self, click: Click) -> bool:
        """Whether the candidate decides this click."""
        name = f"{self.version} {click.user_id or click.session_id or click.ip}"
        return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) < self._share

    def judged(
        self,
        clicks: Sequence[Click],
        slices: Sequence[str],
        features: Float32[np.ndarray, "n features"],
        live: Ruling,
        warm: bool,
        t: int,
    ) -> Ruling:
        """What is decided about clicks in the end, given what the live model says of them."""
        assert self._judge is not None
        assert self._limits is not None
        p_robot = self._judge.p_robot(clicks, features)
        limits, robotic = self._limits.judged(slices, p_robot)
        chosen = [self.chooses(click) for click in clicks] if self._share else [False] * len(clicks)
        heavy = (features[:, _SESSION] > self._heavy).tolist()
        for click, name, mine, theirs, his, many in zip(
            clicks, slices, live.robotic, robotic, chosen, heavy, strict=True
        ):
            code = BY_CANDIDATE * his + LIVE * mine + CANDIDATE * theirs
            self._marks.put(click.click_id, code)
            self._count(name, CLICKS, code)
            if many:
                self._count(name, HEAVY_CLICKS, code)
        if self._watch is not None:
            self._raise(self._watch.clicks(slices, p_robot, robotic, features, warm), t)
        if not any(chosen):
            return live
        rulings = [Ruling(p_robot, limits, robotic, [self.version] * len(clicks)), live]
        by = [rulings[not picked] for picked in chosen]
        return Ruling(
            np.where(chosen, p_robot, live.p_robot),
            [each.limits[i] for i, each in enumerate(by)],
            [each.robotic[i] for i, each in enumerate(by)],
            [each.versions[i] for i, each in enumerate(by)],
        )

    def purchase(self, click_id: str, slice_: str, t: int) -> None:
        """A click led to a purchase."""
        code = self._marks.get(click_id) if self.running else None
        if code is not None:
            self._count(slice_, PURCHASES, code)
            if self._watch is not None:
                self._raise(self._watch.purchase(slice_, bool(code & CANDIDATE)), t)

    def ending(self, t: int) -> Trial | None:
        """The entry that ends the trial, where an alarm asks for that."""
        return None if self._owed is None else Trial("", 0.0, t, why=sentence(self._owed), by_itself=True)

    def shown(self) -> dict[str, Any]:
        """The trial that runs or the last one, and its comparison; see `TrialState`."""
        none, watch = not self.version, self._watch
        return {
            "running": self.running,
            "version": self.version or None,
            "live": self._live or None,
            "share": self.share,
            "since": self._since,
            "ended": self._ended,
            "why": self._why,
            "overall": None if none else _compared("", self._counts[""]),
            "slices": [
                _compared(name, counts) for name, counts in self._counts.items() if name and any(counts[CLICKS])
            ],
            "watched": watch is not None,
            "rates": [] if watch is None else watch.rates(),
            "alarms": [each.shown() for each in self._raised],
        }

    def dump(self) -> dict[str, Any]:
        """A copy of everything: arrays, and lists of what MessagePack holds."""
        return {
            "entry": encode(self._entry),
            "live": self._live,
            "times": [self._since, self._ended],
            "why": [self._why, self._by_itself, self.n_ended_by_itself],
            "running": self.running,
            "limits": None if self._limits is None else self._limits.dump(),
            "slices": list(self._counts),
            "counts": np.array(list(self._counts.values()), np.int64),
            "marks": self._marks.dump(),
            "watch": None if self._watch is None else self._watch.dump(),
            "raised": msgspec.to_builtins(self._raised),
            "owed": msgspec.to_builtins(self._owed),
        }

    def restore(self, dump: dict[str, Any], models: Callable[[str], Model]) -> None:
        """Become what was dumped; `models` gives the model of a version."""
        entry = decode(dump["entry"])
        assert isinstance(entry, Trial)
        self._entry, self._live = entry, dump["live"]
        self._since, self._ended = dump["times"]
        self._why, self._by_itself, self.n_ended_by_itself = dump["why"]
        self._counts = dict(zip(dump["slices"], dump["counts"].tolist(), strict=True))
        self._marks.restore(dump["marks"])
        self._watch = watch_of(self._entry.promises)
        if self._watch is not None:
            self._watch.restore(dump["watch"])
        self._raised = msgspec.convert(dump["raised"], list[Raised])
        self._owed = msgspec.convert(dump["owed"], Raised | None)
        if dump["running"]:
            self._use(entry, models(entry.version))
            assert self._limits is not None
            self._limits.restore(dump["limits"])

    def _count(self, slice_: str, what: int, code: int) -> None:
        self._counts[""][what][code] += 1
        of_slice = self._counts.get(slice_)
        if slice_ and of_slice is not None:
            of_slice[what][code] += 1

    def _raise(self, alarms: Sequence[Any], t: int) -> None:
        for alarm in alarms:
            raised = Raised(t, self.version, alarm)
            self._raised = [*self._raised, raised][-ALARMS:]
            self.told(raised)
            if self._share and self._owed is None and alarm.tells_of_the_model:
                self._owed = raised


def heavy_clicks(model: Model, features: Float32[np.ndarray, "n features"]) -> list[bool]:
    """Which clicks are of sessions that click more in an hour than people do, as the model was told."""
    return (features[:, _SESSION] > _heavy_from(model)).tolist()


def _heavy_from(model: Model) -> float:
    """Of the feature at `_SESSION`, beyond which a click is heavy."""
    return math.log1p(model.config.heavy + 0.5)


def incomparable(candidate: Model, live: Model) -> str | None:
    """Why two models cannot judge the same features in the same slices, in a sentence; None where they can."""
    if candidate.version == live.version:
        return f"is {live.version}, which decides already"
    if candidate.config.slices != live.config.slices:
        return (
            f"is {candidate.version}, with slices by {', '.join(candidate.config.slices)}; only a model with those of "
            f"model {live.version}, {', '.join(live.config.slices)}, can be tried beside it"
        )
    if dict(candidate.timezones) != dict(live.timezones):
        return (
            f"is {candidate.version}, which counts hours in other time zones than model {live.version}, so their "
            "features differ; switch to it, or give it the same zones"
        )
    return None


def _compared(of: str, counts: list[list[int]]) -> dict[str, Any]:
    """A `Comparison`."""

    def those(what: int, with_: int, without: int = 0) -> int:
        """How many have these bits in their code, and not those."""
        return sum(n for code, n in enumerate(counts[what]) if code & with_ == with_ and not code & without)

    shown: dict[str, Any] = {"of": of}
    for name, what in (("clicks", CLICKS), ("purchases", PURCHASES), ("heavy", HEAVY_CLICKS)):
        prefix = "" if what == CLICKS else f"{name}_"
        shown |= {name: those(what, 0), f"{prefix}live": those(what, LIVE)}
        shown |= {f"{prefix}candidate": those(what, CANDIDATE)}
    shown |= {"only_live": those(CLICKS, LIVE, CANDIDATE), "only_candidate": those(CLICKS, CANDIDATE, LIVE)}
    for name, arm, other, mark in (("by_live", 0, BY_CANDIDATE, LIVE), ("by_candidate", BY_CANDIDATE, 0, CANDIDATE)):
        shown[name] = {
            "clicks": those(CLICKS, arm, other),
            "robotic": those(CLICKS, arm | mark, other),
            "purchases": those(PURCHASES, arm, other),
            "robotic_purchases": those(PURCHASES, arm | mark, other),
        }
    return shown
