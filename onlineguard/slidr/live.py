"""Whether a model does in production what it was seen to do before it went live.

    watch = LiveWatch(promises)
    alarms = watch.clicks(slices, p_robot, robotic, X)      every click that the model decided
    alarms = watch.purchase(slice, robotic)                 every purchase that became known of one of them

**Rates.** IVR and FPR, over all clicks and a slice, are counted in windows. A window with h hits of n gives

    x = ln((h + 1/2) / (n p + 1/2))

with the rate p that was promised, and the library's change-point test tells whether the mean of x has changed. It
begins with `PRIMER` made windows that are as promised, so the first change is one from the promise. Robots come in
bursts and by night: an hour of usual traffic may have ten times the promised IVR, and a change for hours is no fault of
a model. So there is an alarm only if the mean rate of the latest `PARTS` windows, a day of clicks, is beyond `MORE` or
`LESS` of what was promised as well. Windows before the first count as promised.

**Distributions.** The scores over all, and every feature, of a day's clicks are compared with those promised, by the
population stability index; see `guardrails.distributions`.

It reads no clock and draws no number: the same calls give the same alarms.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import Any, Literal

import msgspec
import numpy as np
from jaxtyping import Float, Float32

from onlineguard.core.change_point import ChangePoint, Segment
from onlineguard.records.versions import Promises
from onlineguard.slidr.features import CALENDAR, NAMES
from onlineguard.slidr.guardrails.distributions import FLOOR

MORE = {"ivr": 2.0, "fpr": 2.5}  # of what was promised, beyond which a rate is an alarm; fewer purchases are luckier
LESS = 0.05  # of the promised IVR over all, below which it is one too; a day without an attack may have a sixth
SLICE = (3.0, 0.05)  # times the promised IVR, and how much more, of one slice: robots often choose one for a day
PSI = 0.25  # of scores: the usual rule; clean simulated days have .11 at most
FEATURE_PSI = 1.0  # of a feature: a clean day has .7 where one network attacks, a feature gone constant 6 and more
EVERY = 256  # clicks that are counted and tested together
LEAST_CLICKS, PARTS = EVERY, 24  # of a window of clicks, and windows in a day
LEAST_PURCHASES = 16  # of a window of purchases
EXPECTED = {"ivr": 2.0, "fpr": 0.25}  # hits that a window has at least, as promised: of fewer a logarithm says little
SHARE = 0.02  # of the promised clicks that a slice must have to be watched by itself
DAY_AT_LEAST = 2_048  # clicks that distributions are taken from; of fewer the index of equal ones is not near 0
WITHIN = 48  # windows within which a rate of three times the promised one is found
PRIMER, SPREAD = 168, 0.5  # windows that the test begins with, as in the week of the promise, and the spread of x there

_TEST = ChangePoint(features=1, delta=np.float32(0.05), starts=32)
_COUNTED = [name for name in NAMES if name not in CALENDAR]

Figure = Literal["ivr", "fpr", "scores", "features"]


class Alarm(msgspec.Struct, frozen=True):
    """A sharp deviation from what was promised."""

    figure: Figure
    of: str  # the slice or the feature; empty for all clicks
    promised: float  # the rate; of a distribution 0
    seen: float  # the rate, or the index
    limit: float
    clicks: int  # since the model went live

    @property
    def tells_of_the_model(self) -> bool:
        """Whether another model may be without it. Scores and features that changed are another traffic's, and a slice
        may be under attack."""
        return self.figure == "fpr" or (self.figure == "ivr" and not self.of)


class LiveWatch:
    """See this module."""

    def __init__(self, promises: Promises):
        total = max(1, sum(part.clicks for part in promises.slices.values()))
        names = [name for name, part in promises.slices.items() if part.clicks >= SHARE * total]
        self._rates: list[_Rate] = []
        self._row: dict[str, int] = {name: at for at, name in enumerate(names, 1)}
        for name in ("", *names):
            parts = [part for key, part in promises.slices.items() if name in ("", key)]
            day = promises.clicks_a_day * sum(part.clicks for part in parts) / total
            least = max(LEAST_CLICKS, day / PARTS)
            self._rates += [
                _Rate("ivr", name, sum(p.robotic for p in parts), sum(p.clicks for p in parts), least),
                _Rate("fpr", name, sum(p.robotic_purchases for p in parts), sum(p.purchases for p in parts)),
            ]
        scores = np.sum([part.scores for part in promises.slices.values()], axis=0).astype(np.float64)
        self._edges = np.array(promises.score_edges)
        self._features = [name for name in _COUNTED if name in promises.features and promises.features[name].edges]
        self._columns = np.array([NAMES.index(name) for name in self._features], np.int64)
        edges = [promises.features[name].edges for name in self._features]
        self._of_features = np.full((len(edges), max(map(len, edges), default=0)), np.inf)  # of all at once, padded
        for row, of_one in zip(self._of_features, edges, strict=True):
            row[: len(of_one)] = of_one
        then = [scores / max(1.0, scores.sum()), *(np.array(promises.features[n].shares) for n in self._features)]
        self._then = [np.maximum(shares, FLOOR) for shares in then]
        self._day = max(DAY_AT_LEAST, int(promises.clicks_a_day))
        self._histograms = [np.zeros(len(shares), np.int64) for shares in self._then]
        self._binned = 0  # clicks in them
        self._warm = True  # whether all of them had features that had been counted for long enough
        self._waiting: list[tuple[Sequence[str], Sequence[bool], np.ndarray, np.ndarray]] = []  # as `clicks` was given
        self._untested = 0  # clicks since the last test
        self.psi = {"scores": math.nan, "features": math.nan}  # of the last day
        self.worst = ""  # the feature that was farthest from its promise
        self.n_clicks = 0
        self.alarms = 0
        self._raised: set[tuple[str, str]] = set()  # what is beyond its limit now

    @property
    def within(self) -> int:
        """Clicks within which three times the promised IVR is found."""
        return WITHIN * self._rates[0].window

    def clicks(
        self,
        slices: Sequence[str],
        p_robot: Float32[np.ndarray, " n"],
        robotic: Sequence[bool],
        X: Float32[np.ndarray, "n features"],
        warm: bool = True,
    ) -> list[Alarm]:
        """Take n decisions, in order.

        warm: whether the features have been counted for as long as they look back; else they are not compared.
        """
        self.n_clicks += len(slices)
        self._untested += len(slices)
        self._waiting.append((slices, robotic, p_robot, X))
        self._warm &= warm
        if self._untested < EVERY:
            return []
        self.settle()
        self._untested = 0
        alarms = [alarm for rate in self._rates if rate.figure == "ivr" for alarm in self._tested(rate)]
        return alarms + self._compared() if self._binned >= self._day else alarms

    def purchase(self, slice_: str, robotic: bool) -> list[Alarm]:
        """Take a purchase that became known of a click that this model decided."""
        rows = [0] if (row := self._row.get(slice_)) is None else [0, row]
        alarms: list[Alarm] = []
        for row in rows:
            rate = self._rates[2 * row + 1]
            rate.add(1, int(robotic))
            alarms += self._tested(rate)
        return alarms

    def settle(self) -> None:
        """Count the clicks that wait; when that is changes nothing."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        robotic = np.concatenate([np.asarray(marks, bool) for _, marks, _, _ in waiting])
        p_robot = np.concatenate([p for _, _, p, _ in waiting]).astype(np.float64)
        X = np.concatenate([rows for _, _, _, rows in waiting]).T[self._columns].astype(np.float64)
        rows = np.array([self._row.get(name, 0) for names, _, _, _ in waiting for name in names], np.int64)
        n = np.bincount(rows, minlength=len(self._rates) // 2)
        hits = np.bincount(rows[robotic], minlength=len(n))
        n[0], hits[0] = len(rows), robotic.sum()
        for row in range(len(n)):
            self._rates[2 * row].add(int(n[row]), int(hits[row]))
        self._histograms[0] += _binned(self._edges[None], p_robot[None])[0]
        for histogram, counts in zip(self._histograms[1:], _binned(self._of_features, X), strict=True):
            histogram += counts[: len(histogram)]
        self._binned += len(rows)

    def rates(self) -> list[dict[str, Any]]:
        """Each rate over all and a slice: what was promised, and seen since the model went live."""
        return [rate.shown() for rate in self._rates]

    def dump(self) -> dict[str, Any]:
        """A copy of what was seen, of arrays and of what MessagePack holds; promises are not in it."""
        self.settle()
        return {
            "rates": np.array([[r.n, r.hits, r.all_n, r.all_hits, r.windows] for r in self._rates], np.int64),
            "rings": np.stack([rate.ring for rate in self._rates]),
            "tests": [np.stack(leaves) for leaves in zip(*(rate.state for rate in self._rates), strict=True)],
            "histograms": [histogram.copy() for histogram in self._histograms],
            "binned": self._binned,
            "untested": self._untested,
            "warm": self._warm,
            "psi": [self.psi["scores"], self.psi["features"]],
            "worst": self.worst,
            "clicks": self.n_clicks,
            "alarms": self.alarms,
            "raised": sorted(map(list, self._raised)),
        }

    def restore(self, dump: Mapping[str, Any]) -> None:
        """Go on from a dump of a watch with the same promises."""
        for at, (rate, counts) in enumerate(zip(self._rates, dump["rates"].tolist(), strict=True)):
            rate.n, rate.hits, rate.all_n, rate.all_hits, rate.windows = counts
            rate.ring = dump["rings"][at].copy()
            rate.state = Segment(*(leaf[at] for leaf in dump["tests"]))
        self._histograms = [histogram.copy() for histogram in dump["histograms"]]
        self._binned, self._untested, self._warm = dump["binned"], dump["untested"], dump["warm"]
        self.psi = dict(zip(self.psi, dump["psi"], strict=True))
        self.worst, self.n_clicks, self.alarms = dump["worst"], dump["clicks"], dump["alarms"]
        self._raised = {(figure, of) for figure, of in dump["raised"]}

    def _tested(self, rate: "_Rate") -> list[Alarm]:
        level = rate.level()
        return [] if level is None else self._told(rate.figure, rate.of, rate.promised, level, rate.beyond(level))

    def _compared(self) -> list[Alarm]:
        """The alarms of a day's distributions."""
        scores, *features = [
            _stability(then, histogram) for then, histogram in zip(self._then, self._histograms, strict=True)
        ]
        alarms: list[Alarm] = []
        if self._warm:
            self.psi = {"scores": scores, "features": max(features, default=0.0)}
            self.worst = self._features[int(np.argmax(features))] if features else ""
            alarms = self._told("scores", "", 0.0, scores, PSI if scores > PSI else None)
            for name, index in zip(self._features, features, strict=True):
                alarms += self._told("features", name, 0.0, index, FEATURE_PSI if index > FEATURE_PSI else None)
        for histogram in self._histograms:
            histogram[:] = 0
        self._binned, self._warm = 0, True
        return alarms

    def _told(self, figure: Figure, of: str, promised: float, seen: float, limit: float | None) -> list[Alarm]:
        """An alarm where a figure has come to be beyond its limit."""
        if limit is None:
            self._raised.discard((figure, of))
            return []
        if (figure, of) in self._raised:
            return []
        self._raised.add((figure, of))
        self.alarms += 1
        return [Alarm(figure, of, promised, seen, limit, self.n_clicks)]


class _Rate:
    """One rate of one slice: the window that is being counted, the latest ones, and the test."""

    def __init__(self, figure: Figure, of: str, hits: int, trials: int, least: float = LEAST_PURCHASES):
        self.figure: Figure = figure
        self.of = of
        self.promised = (hits + 0.5) / (trials + 1.0)  # none of 20 is no promise of none
        self.window = math.ceil(max(least, EXPECTED[figure] / self.promised))
        self.state = _primed()
        self.ring = np.full(PARTS, self.promised)  # the rates of the latest windows, those before the first as promised
        self.windows = 0
        self.n = self.hits = self.all_n = self.all_hits = 0

    def add(self, n: int, hits: int) -> None:
        self.n, self.hits = self.n + n, self.hits + hits
        self.all_n, self.all_hits = self.all_n + n, self.all_hits + hits

    def level(self) -> float | None:
        """The rate of the latest windows once the test has found a change; None until the next window is full."""
        if self.n < self.window:
            return None
        self.ring[self.windows % PARTS] = self.hits / self.n
        x = math.log((self.hits + 0.5) / (self.n * self.promised + 0.5))
        self.n, self.hits, self.windows = 0, 0, self.windows + 1
        with np.errstate(all="ignore"):  # no scale is known of a segment that has just begun
            self.state, _ = _TEST.step(self.state, np.array([x], np.float32))
        return float(self.ring.mean()) if self.state.changes else self.promised

    def beyond(self, level: float) -> float | None:
        """The limit that a level is beyond."""
        most = MORE[self.figure] * self.promised
        if self.figure == "ivr" and self.of:
            most = SLICE[0] * self.promised + SLICE[1]
        if level > most:
            return most
        least = LESS * self.promised
        return least if self.figure == "ivr" and not self.of and level < least else None

    def shown(self) -> dict[str, Any]:
        seen = self.all_hits / self.all_n if self.all_n else None
        return {"figure": self.figure, "of": self.of, "promised": self.promised, "seen": seen, "n": self.all_n}


@lru_cache(1)
def _primed() -> Segment:
    """The test after `PRIMER` windows as promised, in an order that changes evenly between low and high."""
    state, golden = _TEST.init(), (math.sqrt(5.0) - 1.0) / 2.0
    with np.errstate(all="ignore"):
        for i in range(1, PRIMER + 1):
            x = SPREAD * NormalDist().inv_cdf((i * golden) % 1.0)
            state, _ = _TEST.step(state, np.array([x], np.float32))
    assert not state.changes
    return state


def _binned(edges: Float[np.ndarray, "figures edges"], columns: Float[np.ndarray, "figures n"]) -> np.ndarray:
    """How many of each figure's n numbers lie in each of its bins (figures, edges + 1); a bin holds its upper edge."""
    n_bins = edges.shape[1] + 1
    bins = (edges[:, :, None] < columns[:, None, :]).sum(1)
    at = bins + n_bins * np.arange(len(edges))[:, None]
    return np.bincount(at.ravel(), minlength=len(edges) * n_bins).reshape(-1, n_bins)


def _stability(then: Float[np.ndarray, " bins"], counts: np.ndarray) -> float:
    now = np.maximum(counts / max(1, counts.sum()), FLOOR)
    return float(((now - then) * np.log(now / then)).sum())
