"""The public benchmark's score for labelled windows: what a detector's alarms are worth, given when they come.

A window is a stretch of a series around something that its labellers found odd. With the weights of a profile,

- the first alarm in a window earns `A_TP sigma(y) / sigma(-1)`, where y runs from -1 at its first value to just under 0
  at its last one, and `sigma(y) = 2 / (1 + e^(5 y)) - 1`: early is better. Further alarms in it change nothing;
- every other alarm costs `A_FP |sigma(y)|`, where y is how far it lies behind the window before it, in widths of that
  window; -1 beyond three of them, and before the first window;
- a window without any alarm costs `A_FN`;
- the first 15 % of a series, 750 values at most, are probation: alarms in them are not looked at.

The sum over all series is scaled so that no alarm at all is worth 0, and one at the first value of each window, and no
other, 100.

Source: Lavin and Ahmad, "Evaluating real-time anomaly detection algorithms - the Numenta Anomaly Benchmark", ICMLA
2015, with the constants of its published scorer: a window of n values is n wide for what lies in it, n - 1 for what
lies behind it, and the sigmoid ends at three widths.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

PROBATION = 0.15  # share of a series,
LONGEST_PROBATION = 750  # but no more values than this
LAST = 3.0  # widths behind a window after which the sigmoid is -1

Windows = list[tuple[int, int]]  # first and last place of each, in order


class Profile(NamedTuple):
    """What a detector's alarms cost and earn."""

    hit: float
    false: float
    missed: float


PROFILES = {
    "standard": Profile(1.0, 0.11, 1.0),
    "low false positives": Profile(1.0, 0.22, 1.0),
    "low false negatives": Profile(1.0, 0.11, 2.0),
}


def windows_of(labels: np.ndarray) -> Windows:
    """Where labelled stretches of a series begin and end."""
    edges = np.diff(np.asarray(labels, bool).astype(int), prepend=0, append=0)
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    return list(zip(begins.tolist(), ends.tolist(), strict=True))


def normalised(series: Iterable[tuple[np.ndarray, np.ndarray]], profile: Profile) -> float:
    """The score of a detector over many series, each as (alarms, labels), both (n,) bool; 0 to 100, or less."""
    raw, windows = 0.0, 0
    for alarms, labels in series:
        found = windows_of(labels)
        raw += score(alarms, found, profile)
        windows += len(found)
    nothing, everything = -profile.missed * windows, profile.hit * windows
    return 100.0 * (raw - nothing) / (everything - nothing)


def score(alarms: np.ndarray, windows: Windows, profile: Profile) -> float:
    """The score of a detector's alarms (n,) in one series, not scaled."""
    begun = probation(len(alarms))
    places = [place for place in np.flatnonzero(alarms).tolist() if place >= begun]
    total = 0.0
    for first, last in windows:
        inside = [place for place in places if first <= place <= last]
        total += profile.hit * earned(inside[0], first, last) if inside else -profile.missed
    return total + sum(profile.false * cost(place, windows) for place in false_alarms(places, windows))


def probation(n: int) -> int:
    """Values of a series of n in which alarms are not looked at."""
    return min(int(PROBATION * n), LONGEST_PROBATION)


def false_alarms(places: list[int], windows: Windows) -> list[int]:
    """The alarms outside all windows."""
    return [place for place in places if not any(first <= place <= last for first, last in windows)]


def earned(place: int, first: int, last: int) -> float:
    """What an alarm in a window is worth: 1 at its first value."""
    return sigmoid(-(last - place + 1) / (last - first + 1)) / sigmoid(-1.0)


def cost(place: int, windows: Windows) -> float:
    """What an alarm outside all windows is worth, from 0 to -1."""
    before = [(first, last) for first, last in windows if last < place]
    if not before:
        return -1.0
    first, last = before[-1]
    return sigmoid((place - last) / max(last - first, 1))


def sigmoid(y: float) -> float:
    """1 far before 0, -1 far behind it."""
    return -1.0 if y > LAST else 2.0 / (1.0 + math.exp(5.0 * y)) - 1.0
