"""What is shown of a stream's slices: totals, the latest judgements, and what was flagged among them."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple, Self

import msgspec
import numpy as np

from onlineguard.engine.slices import UNKNOWN, SliceTable
from onlineguard.models.carrying import Columns, carried_leaves

LATEST = 1 << 16  # judgements kept, of all slices together
# Judgements that wait before they are worked off together. A thousand of them, which is a second's, took 7 to 25 ms at
# once, since so many small arrays have left the caches by then.
TOGETHER = 64
HISTORY = 256  # of one slice that are shown, at most
ANOMALOUS, ROBOTIC, JUDGED, HEAVY = 1, 2, 4, 8  # flags of a judgement; the last: its session clicks as no human does
FLAGGED = ANOMALOUS | JUDGED  # the flags of an anomalous event

_JUDGEMENT = np.dtype(
    [
        ("row", "i4"),  # of the slice; -1 where that has gone
        ("flags", "u1"),
        ("ts", "i8"),
        ("score", "f4"),
        ("threshold", "f4"),
        ("p_robot", "f4"),
        ("robot_threshold", "f4"),
    ]
)


class _Waiting(NamedTuple):
    """What `add` was given."""

    slices: Sequence[Hashable]
    flags: Sequence[int] | np.ndarray
    ts: Sequence[int]
    score: np.ndarray
    threshold: np.ndarray
    X: np.ndarray
    p_robot: np.ndarray | None
    robot_threshold: Sequence[float] | None


_TOTALS = ("events", "anomalies", "robotic", "purchases", "purchases_robotic", "heavy", "heavy_robotic")
_RATES = ("events", "robotic", "purchases", "purchases_robotic", "heavy", "heavy_robotic")  # IVR, FPR and coverage


class Figures:
    """The slices of one stream: at most `most`, the least recently used forgotten first.

    Judgements wait until somebody looks, or enough have come to be worked off together. When that is changes nothing.
    """

    def __init__(self, most: int):
        self._table = SliceTable(most, 0)
        self._ring = np.zeros(LATEST, _JUDGEMENT)
        self._ring["row"] = UNKNOWN
        self._waiting: list[_Waiting] = []
        self._n_waiting = 0  # judgements in them
        self._added = 0  # judgements that the rest of this has
        self._totals = np.zeros((1_024, len(_TOTALS)), np.int64)
        self._all = np.zeros(len(_TOTALS), np.int64)  # of slices that have gone too
        self._last = np.full(1_024, -1, np.int64)  # by row: the number of its latest judgement
        self._names: list[Hashable] = []  # by row
        self._x = np.empty((1_024, 0))  # by row: its latest event

    def add(
        self,
        slices: Sequence[Hashable],
        flags: Sequence[int] | np.ndarray,
        ts: Sequence[int],
        score: np.ndarray,
        threshold: np.ndarray,
        X: np.ndarray,
        p_robot: np.ndarray | None = None,
        robot_threshold: Sequence[float] | None = None,
    ) -> None:
        """Take the judgements of n events X (n, d), in order; arrays (n,), which are not copied."""
        self._waiting.append(_Waiting(slices, flags, ts, score, threshold, X, p_robot, robot_threshold))
        self._n_waiting += len(slices)
        if self._n_waiting >= TOGETHER:
            self.settle()

    def _widen(self, n_features: int) -> None:
        if self._x.shape[1] != n_features:
            self._x = np.full((len(self._totals), n_features), np.nan)

    def label(self, slice_: Hashable, robotic: bool) -> None:
        """A click of the slice, which had been called robotic or not, led to a purchase."""
        self.settle()
        row = self._table.rows.get(slice_)
        if row is not None:
            self._totals[row, 3:5] += (1, robotic)
            self._all[3:5] += [1, int(robotic)]

    def keep(self, most: int) -> None:
        """Keep so many slices from now on."""
        self.settle()
        self._table.max_slices = most
        while len(self._table.rows) > most:
            self._evict()

    def carry(self, columns: Columns) -> None:
        """Events have other features from now on; see `onlineguard.models.carrying`."""
        self.settle()
        if self._x.shape[1]:
            self._x = carried_leaves(np.full(len(columns), np.nan), self._x, columns)

    def settle(self) -> None:
        """Work off the judgements that wait."""
        if not self._waiting:
            return
        waiting, self._waiting, self._n_waiting = self._waiting, [], 0
        names = [name for part in waiting for name in part.slices]
        judgements = np.empty(len(names), _JUDGEMENT)
        for field in ("flags", "ts", "score", "threshold"):
            judgements[field] = np.concatenate([getattr(part, field) for part in waiting])
        for field in ("p_robot", "robot_threshold"):
            columns = [getattr(part, field) for part in waiting]
            judgements[field] = np.nan if columns[0] is None else np.concatenate(columns)
        X = np.concatenate([part.X for part in waiting])
        self._widen(X.shape[1])
        start = 0
        while start < len(names):
            rows = self._admit(names, start)
            part = slice(start, start + len(rows))
            self._write(rows, judgements[part], X[part])
            start += len(rows)

    def totals(self) -> dict[str, int]:
        """Over all slices that there ever were: never falling."""
        self.settle()
        return dict(zip(_TOTALS, self._all.tolist(), strict=True))

    def counts(self) -> dict[str, int]:
        """The clicks of every slice that is kept."""
        self.settle()
        return {str(name): int(self._totals[row, 0]) for name, row in self._table.rows.items()}

    def rates(self, most: int) -> dict[str, dict[Hashable, int]]:
        """What the rates of so many slices are made of, those of most clicks: by count, of each slice.

        IVR is robotic / clicks, FPR purchases_robotic / purchases, coverage heavy_robotic / heavy. Those of several
        services add up.
        """
        rows = self._busiest(most)
        counts = {name: self._totals[rows, _TOTALS.index(name)].tolist() for name in _RATES}
        counts["clicks"] = counts.pop("events")
        names = [self._names[row] for row in rows.tolist()]
        return {name: dict(zip(names, column, strict=True)) for name, column in counts.items()}

    def ivr(self, most: int) -> dict[Hashable, float]:
        """The share of a slice's clicks that was called robotic, for so many slices, those of most clicks.

        Takes some 0.4 ms of 100,000 slices.
        """
        clicks, robotic = self._totals[:, 0], self._totals[:, 2]
        return {self._names[row]: int(robotic[row]) / int(clicks[row]) for row in self._busiest(most).tolist()}

    def _busiest(self, most: int) -> np.ndarray:
        """The places of so many slices, those of most clicks."""
        self.settle()
        clicks = self._totals[: len(self._names), 0]
        rows = np.argpartition(clicks, -most)[-most:] if len(clicks) > most else np.arange(len(clicks))
        return rows[clicks[rows] > 0]

    def tables(self) -> dict[str, int]:
        """How many slices are kept now, and how many were ever born and evicted."""
        self.settle()
        return {"held": len(self._table.rows), "born": self._table.born, "evicted": self._table.evicted}

    def latest(self, slice_: Hashable) -> np.ndarray:
        """The latest event (d,) of a slice. Raises KeyError for one not known."""
        self.settle()
        return self._x[self._table.rows[slice_]]

    def row(self, slice_: Hashable, clicks: bool) -> dict[str, Any]:
        """The entry of one slice. Raises KeyError for one not known."""
        self.settle()
        return self.entries([slice_], np.array([self._table.rows[slice_]]), clicks)[0]

    def rows(self, clicks: bool) -> list[dict[str, Any]]:
        """One entry a slice, for a table."""
        names = self.names()
        return self.entries(names, self.places(names), clicks)

    def names(self) -> list[Hashable]:
        """The slices, oldest first."""
        self.settle()
        return list(self._table.rows)

    def places(self, names: Sequence[Hashable]) -> np.ndarray:
        """The place of each slice in here, int64; UNKNOWN for one that has gone."""
        self.settle()
        known = self._table.rows
        return np.fromiter((known.get(name, UNKNOWN) for name in names), np.int64, len(names))

    def held(self) -> np.ndarray:
        """The places of all slices, int64, oldest first."""
        return self.born_since(0)

    def numbers(self, places: np.ndarray) -> np.ndarray:
        """The number of the slice at each place of `held`, int64, which no other slice ever gets."""
        return self._table.numbers(places)

    def holds(self, places: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Whether the slice with this number is still at each of these places."""
        self.settle()
        return self._table.holds(places, numbers)

    def born_since(self, number: int) -> np.ndarray:
        """The places of the slices with this number and higher ones, int64, oldest first."""
        self.settle()
        rows = self._table.used()
        numbers = self._table.numbers(rows)
        late = np.flatnonzero(numbers >= number)
        return rows[late[np.argsort(numbers[late], kind="stable")]]

    def name(self, place: int) -> Hashable:
        """The slice at a place of `held`."""
        return self._names[place]

    def column(self, name: str, rows: np.ndarray) -> np.ndarray:
        """A column of `entries` as numbers, float64, NaN where there is none."""
        self.settle()
        with np.errstate(invalid="ignore"):
            if name in ("score", "threshold"):
                latest, there = self._latest(rows)
                return np.where(there & np.isfinite(latest[name]), latest[name], np.nan).astype(np.float64)
            if name == "drift":
                flagged, seen = self._drift()
                return flagged[rows] / np.maximum(seen[rows], 1)
            if name == "ivr":
                return self._totals[rows, 2] / self._totals[rows, 0]
        return self._totals[rows, _TOTALS.index(name)].astype(np.float64)

    def entries(self, names: Sequence[Hashable], rows: np.ndarray, clicks: bool) -> list[dict[str, Any]]:
        """One entry for each of the slices, given their places."""
        self.settle()
        flagged, seen = self._drift()
        latest, latest_there = self._latest(rows)
        shown: list[dict[str, Any]] = []
        for i, (name, row) in enumerate(zip(names, rows.tolist(), strict=True)):
            events, anomalies, robotic, purchases, wrong, heavy, found = self._totals[row].tolist()
            last = latest[i] if latest_there[i] else None
            entry: dict[str, Any] = {
                "slice": name,
                "events": events,
                "anomalies": anomalies,
                "last_ts": None if last is None else int(last["ts"]),
                "score": None if last is None else number(last["score"]),
                "threshold": None if last is None else number(last["threshold"]),
                "drift": float(flagged[row] / seen[row]) if seen[row] else 0.0,
            }
            if clicks:
                entry["ivr"] = robotic / events if events else None
                entry["fpr"] = wrong / purchases if purchases else None
                entry["coverage"] = found / heavy if heavy else None
                entry["p_robot"] = None if last is None else number(last["p_robot"])
                entry["robot_threshold"] = None if last is None else number(last["robot_threshold"])
            shown.append(entry)
        return shown

    def history(self, slice_: Hashable, clicks: bool) -> dict[str, list[Any]]:
        """The latest judgements of the slice that are still kept, oldest first. Raises KeyError for one not known."""
        self.settle()
        row = self._table.rows[slice_]
        order = np.roll(self._ring, -(self._added % LATEST))
        kept = order[order["row"] == row][-HISTORY:]
        shown: dict[str, list[Any]] = {
            "ts": kept["ts"].tolist(),
            "score": [number(value) for value in kept["score"]],
            "threshold": [number(value) for value in kept["threshold"]],
            "anomalous": (kept["flags"] & ANOMALOUS > 0).tolist(),
        }
        if clicks:
            shown["p_robot"] = [number(value) for value in kept["p_robot"]]
        return shown

    def __len__(self) -> int:
        """Slices known now."""
        self.settle()
        return len(self._table.rows)

    def __contains__(self, slice_: Hashable) -> bool:
        self.settle()
        return slice_ in self._table.rows

    def dump(self) -> dict[str, Any]:
        """A copy of everything: arrays, and lists of what MessagePack holds."""
        self.settle()
        plain, tensors = self._table.dump()
        return {
            "most": self._table.max_slices,
            "slices": plain,
            **{f"table_{name}": tensor for name, tensor in tensors.items()},
            "ring": self._ring.view(np.uint8).reshape(LATEST, -1).copy(),
            "added": self._added,
            "totals": self._totals.copy(),
            "all": self._all.copy(),
            "last": self._last.copy(),
            "x": self._x.copy(),
        }

    @classmethod
    def restored(cls, dump: dict[str, Any]) -> Self:
        """What was dumped."""
        figures = cls(dump["most"])
        figures._table.restore(dump["slices"], {name: dump[f"table_{name}"] for name in ("rows", "last_used", "free")})
        figures._ring = dump["ring"].copy().view(_JUDGEMENT).reshape(LATEST)
        figures._added = dump["added"]
        figures._totals, figures._all = _widened(dump["totals"]), _widened(dump["all"])
        figures._last, figures._x = dump["last"].copy(), dump["x"].copy()
        figures._names = [None] * figures._table.end
        for name, row in figures._table.rows.items():
            figures._names[row] = name
        return figures

    def _latest(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The latest judgement of each slice, and whether it is still kept."""
        return self._ring[self._last[rows] % LATEST], self._last[rows] >= max(0, self._added - LATEST)

    def _drift(self) -> tuple[np.ndarray, np.ndarray]:
        """By row: judgements flagged, and judgements, among those kept."""
        rows, flags, room = self._ring["row"], self._ring["flags"], len(self._totals)
        judged = (rows >= 0) & (flags & JUDGED > 0)
        flagged = judged & (flags & ANOMALOUS > 0)
        return np.bincount(rows[flagged], minlength=room), np.bincount(rows[judged], minlength=room)

    def _admit(self, names: Sequence[Hashable], start: int) -> np.ndarray:
        """The rows of the slices from `start` on, up to the first for which others must go, or as the ring holds."""
        rows = self._table.lookup(list(names[start : start + LATEST]))
        for i in np.flatnonzero(rows == UNKNOWN).tolist():
            name = names[start + i]
            if name not in self._table.rows:
                if not self._table.capacity_left and i:
                    return rows[:i]
                if not self._table.capacity_left:
                    self._evict()
                    return self._admit(names, start)
                self._birth(name)
            rows[i] = self._table.rows[name]
        return rows

    def _evict(self) -> None:
        rows, gone = self._ring["row"], np.zeros(len(self._totals) + 1, bool)  # the last is UNKNOWN's, which is -1
        evicted = self._table.evict()
        gone[evicted] = True
        self._totals[evicted], self._last[evicted] = 0, -1
        rows[gone[rows]] = UNKNOWN

    def _birth(self, slice_: Hashable) -> None:
        row = self._table.birth(slice_)
        self._names[row : row + 1] = [slice_]
        if row == len(self._totals):
            self._totals = np.concatenate([self._totals, np.zeros_like(self._totals)])
            self._last = np.concatenate([self._last, np.full_like(self._last, -1)])
            self._x = np.concatenate([self._x, np.full_like(self._x, np.nan)])

    def _write(self, rows: np.ndarray, judgements: np.ndarray, X: np.ndarray) -> None:
        n, flags = len(rows), judgements["flags"]
        numbers = np.arange(self._added, self._added + n)
        judgements["row"] = rows
        self._ring[numbers % LATEST] = judgements
        self._all[:3] += [n, int(np.count_nonzero(flags & ANOMALOUS)), int(np.count_nonzero(flags & ROBOTIC))]
        np.add.at(self._totals[:, 0], rows, 1)
        np.add.at(self._totals[:, 1], rows, flags & ANOMALOUS)
        robotic, heavy = (flags & ROBOTIC) // ROBOTIC, (flags & HEAVY) // HEAVY
        self._all[5:] += [int(np.count_nonzero(heavy)), int(np.count_nonzero(heavy & robotic))]
        for column, counted in ((2, robotic), (5, heavy), (6, heavy & robotic)):
            np.add.at(self._totals[:, column], rows, counted)
        self._last[rows], self._x[rows] = numbers, X  # of several of one slice the last stays
        self._table.touch(rows, self._added)
        self._added += n


def _widened(totals: np.ndarray) -> np.ndarray:
    """Totals as they are kept now; of old there were fewer of them."""
    return np.pad(totals, [(0, 0)] * (totals.ndim - 1) + [(0, len(_TOTALS) - totals.shape[-1])])


def shown_key(key: Any) -> str:
    """A slice's key as text: itself, or its JSON."""
    return key if isinstance(key, str) else msgspec.json.encode(key).decode()


def number(value: Any) -> float | None:
    """A finite number, or None."""
    return float(value) if np.isfinite(value) else None
