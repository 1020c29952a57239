"""What is shown of a stream's slices: totals, the latest judgements, and what was flagged among them."""

import math
from collections.abc import Hashable, Sequence
from typing import Any, Self

import msgspec
import numpy as np

from onlineguard.engine.slices import UNKNOWN, SliceTable

LATEST = 1 << 16  # judgements kept, of all slices together
HISTORY = 256  # of one slice that are shown, at most
ANOMALOUS, ROBOTIC, JUDGED = 1, 2, 4  # flags of a judgement

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
_TOTALS = ("events", "anomalies", "robotic", "purchases", "purchases_robotic")


class Figures:
    """The slices of one stream: at most `most`, the least recently used forgotten first.

    Judgements go into a ring; what they add up to is counted only when somebody looks, or the ring is about to turn.
    """

    def __init__(self, most: int):
        self._table = SliceTable(most, 0)
        self._ring = np.zeros(LATEST, _JUDGEMENT)
        self._ring["row"] = UNKNOWN
        self._added = self._settled = 0  # judgements ever added, and those of them that the totals have
        self._totals = np.zeros((1_024, len(_TOTALS)), np.int64)
        self._all = np.zeros(len(_TOTALS), np.int64)  # of slices that have gone too
        self._last = np.full(1_024, -1, np.int64)  # by row: the number of its latest judgement
        self._x = np.empty((1_024, 0))  # by row: its latest event

    def add(
        self,
        slices: Sequence[Hashable],
        flags: np.ndarray,
        ts: Sequence[int],
        score: np.ndarray,
        threshold: np.ndarray,
        X: np.ndarray,
        p_robot: Any = np.nan,
        robot_threshold: Any = np.nan,
    ) -> None:
        """Take the judgements of n events X (n, d), in order; arrays (n,), NaN for what there is none of."""
        self._widen(X.shape[1])
        step = max(1, min(LATEST // 4, self._table.max_slices // 2))  # so that no slice of a part makes another go
        for start in range(0, len(slices), step):
            part = slice(start, start + step)
            rows = self._rows(slices[part])
            if self._added + len(rows) - self._settled > LATEST // 2:
                self.settle()
            at = np.arange(self._added, self._added + len(rows)) % LATEST
            taken = np.empty(len(rows), _JUDGEMENT)
            taken["row"], taken["flags"], taken["ts"] = rows, flags[part], ts[part]
            taken["score"], taken["threshold"] = score[part], threshold[part]
            taken["p_robot"] = p_robot[part] if isinstance(p_robot, np.ndarray) else p_robot
            taken["robot_threshold"] = (
                robot_threshold[part] if isinstance(robot_threshold, np.ndarray) else robot_threshold
            )
            self._ring[at] = taken
            self._x[rows] = X[part]  # of several of one slice the last stays
            self._added += len(rows)

    def add_one(
        self,
        slice_: Hashable,
        flags: int,
        ts: int,
        score: float,
        threshold: float,
        x: np.ndarray,
        p_robot: float = math.nan,
        robot_threshold: float = math.nan,
    ) -> None:
        """`add` of one judgement, in a third of the time."""
        self._widen(len(x))
        row = self._table.rows.get(slice_)
        if row is None:
            row = self._born(slice_)
        if self._added - self._settled >= LATEST // 2:
            self.settle()
        self._ring[self._added % LATEST] = (row, flags, ts, score, threshold, p_robot, robot_threshold)
        self._table.touch_one(row, self._added)
        self._x[row] = x
        self._added += 1

    def _widen(self, n_features: int) -> None:
        if self._x.shape[1] != n_features:
            self._x = np.full((len(self._totals), n_features), np.nan)

    def label(self, slice_: Hashable, robotic: bool) -> None:
        """A click of the slice, which had been called robotic or not, led to a purchase."""
        row = self._table.rows.get(slice_)
        if row is not None:
            self._totals[row, 3:] += (1, robotic)
            self._all[3:] += [1, int(robotic)]

    def settle(self) -> None:
        """Bring the totals up to date."""
        at = np.arange(self._settled, self._added) % LATEST
        fresh = self._ring[at]
        kept = fresh["row"] >= 0
        rows, flags = fresh["row"][kept], fresh["flags"][kept]
        self._all[:3] += [len(rows), int(np.count_nonzero(flags & ANOMALOUS)), int(np.count_nonzero(flags & ROBOTIC))]
        np.add.at(self._totals[:, 0], rows, 1)
        np.add.at(self._totals[:, 1], rows, flags & ANOMALOUS)
        np.add.at(self._totals[:, 2], rows, (flags & ROBOTIC) // ROBOTIC)
        self._last[rows] = np.arange(self._settled, self._added)[kept]
        self._settled = self._added

    def totals(self) -> dict[str, int]:
        """Over all slices that there ever were: never falling."""
        self.settle()
        return dict(zip(_TOTALS, self._all.tolist(), strict=True))

    def ivr(self) -> dict[Hashable, float]:
        """The share of each slice's clicks that was called robotic."""
        self.settle()
        return {
            name: float(self._totals[row, 2] / self._totals[row, 0])
            for name, row in self._table.rows.items()
            if self._totals[row, 0]
        }

    def latest(self, slice_: Hashable) -> np.ndarray:
        """The latest event (d,) of a slice. Raises KeyError for one not known."""
        return self._x[self._table.rows[slice_]]

    def row(self, slice_: Hashable, clicks: bool) -> dict[str, Any]:
        """The entry of one slice. Raises KeyError for one not known."""
        return self.entries([slice_], np.array([self._table.rows[slice_]]), clicks)[0]

    def rows(self, clicks: bool) -> list[dict[str, Any]]:
        """One entry a slice, for a table."""
        return self.entries(*self.named(""), clicks)

    def named(self, contains: str) -> tuple[list[Hashable], np.ndarray]:
        """The slices whose `shown_key` contains the text, in whatever case, oldest first, and their places in here."""
        known = self._table.rows
        if not contains:
            return list(known), np.fromiter(known.values(), np.int64, len(known))
        part = contains.lower()
        names = [name for name in known if part in shown_key(name).lower()]
        return names, np.array([known[name] for name in names], np.int64)

    def column(self, name: str, rows: np.ndarray) -> np.ndarray:
        """A column of `entries` as numbers, float64, NaN where there is none."""
        self.settle()
        totals = self._totals[rows]
        with np.errstate(invalid="ignore"):
            if name in ("score", "threshold"):
                latest, there = self._latest(rows)
                return np.where(there & np.isfinite(latest[name]), latest[name], np.nan).astype(np.float64)
            if name == "drift":
                flagged, seen = self._drift()
                return flagged[rows] / np.maximum(seen[rows], 1)
            if name == "ivr":
                return totals[:, 2] / totals[:, 0]
        return totals[:, _TOTALS.index(name)].astype(np.float64)

    def entries(self, names: Sequence[Hashable], rows: np.ndarray, clicks: bool) -> list[dict[str, Any]]:
        """One entry for each of the slices that `named` gave."""
        self.settle()
        flagged, seen = self._drift()
        latest, latest_there = self._latest(rows)
        shown: list[dict[str, Any]] = []
        for i, (name, row) in enumerate(zip(names, rows.tolist(), strict=True)):
            events, anomalies, robotic, purchases, wrong = self._totals[row].tolist()
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
                entry["p_robot"] = None if last is None else number(last["p_robot"])
                entry["robot_threshold"] = None if last is None else number(last["robot_threshold"])
            shown.append(entry)
        return shown

    def history(self, slice_: Hashable, clicks: bool) -> dict[str, list[Any]]:
        """The latest judgements of the slice that are still kept, oldest first. Raises KeyError for one not known."""
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
        return len(self._table.rows)

    def __contains__(self, slice_: Hashable) -> bool:
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
        figures._added = figures._settled = dump["added"]
        figures._totals, figures._all = dump["totals"].copy(), dump["all"].copy()
        figures._last, figures._x = dump["last"].copy(), dump["x"].copy()
        return figures

    def _latest(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The latest judgement of each slice, and whether it is still kept."""
        return self._ring[self._last[rows] % LATEST], self._last[rows] >= max(0, self._added - LATEST)

    def _drift(self) -> tuple[np.ndarray, np.ndarray]:
        """By row: judgements flagged, and judgements, among those kept."""
        kept = self._ring[(self._ring["row"] >= 0) & (self._ring["flags"] & JUDGED > 0)]
        room = len(self._totals)
        flagged = kept["flags"] & ANOMALOUS > 0
        return np.bincount(kept["row"][flagged], minlength=room), np.bincount(kept["row"], minlength=room)

    def _rows(self, slices: Sequence[Hashable]) -> np.ndarray:
        rows = self._table.lookup(list(slices))
        self._table.touch(rows[rows != UNKNOWN], self._added)
        for i in np.flatnonzero(rows == UNKNOWN).tolist():
            row = self._table.rows.get(slices[i])
            if row is None:
                row = self._born(slices[i])
            rows[i] = row
        return rows

    def _born(self, slice_: Hashable) -> int:
        if not self._table.capacity_left:
            self.settle()
            before = set(self._table.rows.values())
            self._table.evict()
            gone = list(before - set(self._table.rows.values()))
            self._totals[gone], self._last[gone] = 0, -1
            self._ring["row"][np.isin(self._ring["row"], gone)] = UNKNOWN
        row = self._table.birth(slice_)
        self._table.touch(np.array([row]), self._added)
        if row == len(self._totals):
            self._totals = np.concatenate([self._totals, np.zeros_like(self._totals)])
            self._last = np.concatenate([self._last, np.full_like(self._last, -1)])
            self._x = np.concatenate([self._x, np.full_like(self._x, np.nan)])
        return row


def shown_key(key: Any) -> str:
    """A slice's key as text: itself, or its JSON."""
    return key if isinstance(key, str) else msgspec.json.encode(key).decode()


def number(value: Any) -> float | None:
    """A finite number, or None."""
    return float(value) if np.isfinite(value) else None
