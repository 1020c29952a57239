"""The demonstration: a synthetic stream whose anomalies are known, judged by onlineguard and by a running z-score.

Eight slices on scales from 1e-6 to 1e12 drift, jump, change their spread and grow heavy tails. Hidden among them are
single odd events, a burst, and corruption. Not counted, for anyone: the first events of a slice, and the first
`patience` events after a jump or a change of spread, of which nobody can know yet whether they are an attack.

The z-score of an event is its distance from the mean of the slice's events before it, in their standard deviations;
of all of them, or of the last 1,000. Flagging what lies over 3 is the usual rule. So that nobody wins by a different
number of false alarms, it is also given the one threshold, found in hindsight, at which it has as many false alarms as
onlineguard, whose threshold was set online by its target rate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from onlineguard.engine.engine import Engine
from onlineguard.report import SeriesRecorder, write_report

TARGET_RATE = 0.005  # one usual event in 200
WINDOW = 1_000  # events that the windowed z-score remembers
USUAL = 3.0  # standard deviations
BATCH = 8_192
ONLINEGUARD = "onlineguard"


class Trouble(NamedTuple):
    """One slice, named after the trouble in it."""

    name: str
    scale: float  # of its usual deviations, in its own unit


STEADY = Trouble("steady", 1.0)
DRIFT = Trouble("level drifts", 1e-6)
JUMPS = Trouble("level jumps twice", 1e3)
SPREAD = Trouble("spread x 3, x 0.2", 1e9)
TAILS = Trouble("tails grow heavy", 1e6)
BURST = Trouble("burst in a row", 1e-3)
CORRUPTION = Trouble("2 % corrupt x 50", 1e12)
EVERYTHING = Trouble("everything at once", 1e2)
TROUBLES = (STEADY, DRIFT, JUMPS, SPREAD, TAILS, BURST, CORRUPTION, EVERYTHING)


@dataclass(frozen=True)
class Stream:
    """Events of all slices, mixed; arrays (n,) in the order of arrival."""

    slices: Int[np.ndarray, " n"]  # positions in TROUBLES
    values: Float[np.ndarray, " n"]
    odd: Bool[np.ndarray, " n"]  # the truth, hidden from everyone
    counted: Bool[np.ndarray, " n"]
    patience: int  # events that a new regime must last before it counts as usual


@dataclass(frozen=True)
class Tally:
    """The hits and misses of a method, in one slice or in all."""

    found: int
    missed: int
    false_alarms: int
    usual: int  # counted events that are not odd

    @property
    def hidden(self) -> int:
        return self.found + self.missed


@dataclass(frozen=True)
class Comparison:
    """The tallies of each method; the first is onlineguard."""

    by_slice: dict[str, list[Tally]]  # at equally many false alarms, by method, in the order of TROUBLES
    total: dict[tuple[str, str], Tally]  # by method and threshold
    not_counted: str
    conclusion: str  # one sentence


def synthetic_stream(n_events: int, seed: int) -> Stream:
    """Eight slices of n_events / 8 events each; the same seed makes the same stream."""
    rng = np.random.default_rng(seed)
    n = n_events // len(TROUBLES)
    patience = min(1_000, n // 5)
    columns: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for trouble in TROUBLES:
        values, odd, counted = _synthetic_slice(trouble, n, patience, rng)
        columns.append((values * trouble.scale, odd, counted))
    slices = rng.permutation(np.repeat(np.arange(len(TROUBLES)), n))
    order = np.argsort(np.argsort(slices, kind="stable"))  # keeps the order within each slice
    values, odd, counted = (np.concatenate(column)[order] for column in zip(*columns, strict=True))
    return Stream(slices, values, odd, counted, patience)


def judge(stream: Stream, report: Path, progress: Callable[[int], None]) -> Comparison:
    """Run the stream through an engine, event by event in order, write the report, and compare with the z-scores."""
    engine = Engine(features=["value"], target_rate=TARGET_RATE, patience=stream.patience)
    recorder = SeriesRecorder()
    flagged = np.zeros(len(stream.values), np.bool_)
    names = np.array([trouble.name for trouble in TROUBLES])[stream.slices]
    for start in range(0, len(stream.values), BATCH):
        batch = slice(start, start + BATCH)
        values = stream.values[batch]
        verdicts = engine.update(names[batch], values[:, None])
        flagged[batch] = verdicts.anomalous
        recorder.add(
            names[batch],
            values,
            verdicts.score,
            verdicts.threshold,
            verdicts.anomalous,
            verdicts.p_value,
            labels=stream.odd[batch].astype(np.int8),
        )
        progress(min(start + BATCH, len(stream.values)))
    comparison = compared(stream, flagged)
    write_report(
        report,
        recorder.reports(slices=[trouble.name for trouble in TROUBLES]),
        {
            "Events": len(stream.values),
            "Hidden anomalies": sum(tally.hidden for tally in comparison.by_slice[ONLINEGUARD]),
            **{f"Found by {name}": f"{_found(tallies):.1%}" for name, tallies in comparison.by_slice.items()},
        },
        "onlineguard: a synthetic stream",
    )
    return comparison


def compared(stream: Stream, flagged: Bool[np.ndarray, " n"]) -> Comparison:
    """Tallies of onlineguard's flags and of the z-scores' on the same stream."""
    positions = [np.flatnonzero(stream.slices == i) for i in range(len(TROUBLES))]
    budget = int((flagged & stream.counted & ~stream.odd).sum())
    alike, usual_rule = {(ONLINEGUARD, "its own, online"): flagged}, {}
    for method, window in ((f"z-score, last {WINDOW:,}", WINDOW), ("z-score, all history", None)):
        z = np.empty(len(stream.values))
        for rows in positions:
            z[rows] = running_z(stream.values[rows], window)
        threshold = threshold_for(z[stream.counted & ~stream.odd], budget)
        alike[method, f"{threshold:.2f}, in hindsight"] = z > threshold
        usual_rule[method, f"{USUAL:.0f}, the usual rule"] = z > USUAL
    by_slice = {method: [_tally(stream, mine, rows) for rows in positions] for (method, _), mine in alike.items()}
    total = {name: _tally(stream, mine) for name, mine in (alike | usual_rule).items()}
    ours, *others = (total[name] for name in alike)
    best = max(other.found for other in others)
    return Comparison(
        by_slice,
        total,
        f"the first {stream.patience:,} events of a slice and after a jump or a change of spread",
        f"At {ours.false_alarms:,} false alarms each, {ours.false_alarms / ours.usual:.2%} of the usual events, "
        f"onlineguard found {ours.found / ours.hidden:.0%} of {ours.hidden:,} hidden anomalies; the better z-score, "
        f"its threshold picked in hindsight, {best / ours.hidden:.0%}.",
    )


def running_z(values: Float[np.ndarray, " n"], window: int | None) -> Float[np.ndarray, " n"]:
    """Distance of each value from the mean of the `window` values before it (None: of all), in their standard
    deviations; 0 for the first two."""
    centred = (values - np.median(values)) / np.median(np.abs(values - np.median(values)))  # sums keep their digits
    sums = np.concatenate([np.zeros((2, 1)), np.cumsum([centred, centred**2], axis=1)], axis=1)
    end = np.arange(len(values))
    start = np.zeros_like(end) if window is None else np.maximum(end - window, 0)
    count = np.maximum(end - start, 1)
    mean, square = (sums[:, end] - sums[:, start]) / count
    deviation = np.sqrt(np.maximum(square - mean**2, 1e-12))
    return np.where(end < 2, 0.0, np.abs(centred - mean) / deviation)


def threshold_for(z: Float[np.ndarray, " n"], n_above: int) -> float:
    """The lowest threshold over which at most `n_above` of the z-scores lie."""
    return float(np.sort(z)[::-1][n_above]) if n_above < len(z) else -np.inf


def _found(tallies: Sequence[Tally]) -> float:
    return sum(tally.found for tally in tallies) / sum(tally.hidden for tally in tallies)


def _tally(stream: Stream, flagged: np.ndarray, rows: np.ndarray | slice = slice(None)) -> Tally:
    flagged, odd, counted = flagged[rows], stream.odd[rows], stream.counted[rows]
    usual = counted & ~odd
    hits = int((flagged & odd & counted).sum())
    return Tally(hits, int((odd & counted).sum()) - hits, int((flagged & usual).sum()), int(usual.sum()))


def _synthetic_slice(
    trouble: Trouble, n: int, patience: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Values in units of the slice's first deviation, which of them are odd, and which are counted."""
    everything = trouble is EVERYTHING
    at = np.linspace(0.0, 1.0, n)
    level, spread, freedom = np.full(n, 10.0), np.ones(n), np.full(n, np.inf)
    breaks: list[int] = []  # where a new regime begins
    if trouble is DRIFT or everything:
        level += 100.0 * np.sin(2 * np.pi * at) * (0.3 if everything else 1.0)
    if trouble is JUMPS or everything:
        for where, height in ((0.3, 25.0), (0.7, -40.0)):
            level += height * (at >= where)
            breaks.append(int(np.argmax(at >= where)))
    if trouble is SPREAD or everything:
        for where, factor in ((0.4, 3.0), (0.8, 0.2)):
            spread *= np.where(at >= where, factor, 1.0)
            breaks.append(int(np.argmax(at >= where)))
    if trouble is TAILS or everything:
        freedom = 30.0 * (4.0 if everything else 2.5) ** at / 30.0**at  # from almost normal to Student's t
    noise = rng.standard_normal(n)
    heavy = np.isfinite(freedom)
    noise[heavy] *= np.sqrt(freedom[heavy] / rng.chisquare(freedom[heavy]))

    counted = np.arange(n) >= patience
    for start in breaks:
        counted[start : start + patience] = False
    odd = rng.random(n) < (0.02 if trouble is CORRUPTION else 0.002)
    size = rng.choice([-1.0, 1.0], n) * rng.uniform(8.0, 16.0, n)
    if trouble is CORRUPTION or everything:
        size = 50.0 * rng.standard_normal(n)
    if trouble is TAILS:
        size *= 3.0
    if trouble is BURST or everything:
        length = patience * 4 // 10
        start = int(0.55 * n)
        odd[start : start + length] = True
        size[start : start + length] = 8.0 + rng.standard_normal(length)
    return level + spread * np.where(odd, size, noise), odd, counted
