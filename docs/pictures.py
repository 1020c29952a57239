"""Draws the small pictures of the pages choose.md and concepts/ into docs/pictures, each from a seed.

uv run --group dev python docs/pictures.py
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from onlineguard import (
    Adaptive,
    ClippedSGD,
    Constant,
    Detector,
    Engine,
    Fixed,
    Mean,
    Series,
    linear_regression,
    step,
)
from onlineguard.estimators import ClippedChangePoint, NeighboursDetector
from onlineguard.models.one_sided import OneSided
from onlineguard.slidr.thresholds.allocation import Quadratic

USUAL, ODD, LINE = "#94a3b8", "#dc2626", "#0f172a"
BLUE, GREEN, ORANGE = "#2563eb", "#16a34a", "#f59e0b"
STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "font.family": "DejaVu Sans"}


def draw_together(ax: Axes) -> None:
    """Numbers that rise and fall together, and an event that breaks the relation."""
    rng = np.random.default_rng(1)
    load = rng.gamma(4.0, 10.0, 3_000)
    x = np.column_stack([load, 3.0 * load + rng.normal(0.0, 12.0, 3_000)])
    odd = np.array([[60.0, 40.0], [20.0, 190.0], [95.0, 285.0]])
    engine = Engine(2)
    engine.update("web", x)
    found = engine.score(["web"] * 3, odd).anomalous
    ax.plot(*x[::3].T, ".", ms=2, color=USUAL)
    ax.plot(*odd[found].T, "o", color=ODD, label="odd")
    ax.plot(*odd[~found].T, "o", color=GREEN, label="far, but as usual")
    ax.set(xlabel="requests a second", ylabel="load")
    ax.legend(frameon=False)


def draw_alone(ax: Axes) -> None:
    """A value for each of several sensors, judged by its own past."""
    rng = np.random.default_rng(2)
    n, sensors = 1_500, 3
    x = rng.normal([[0.0, 6.0, 14.0]], [[0.5, 1.5, 0.3]], (n, sensors))
    x[1_000, 0], x[1_100, 2], x[1_200, 1] = 6.0, 6.0, -3.0
    engine = Engine(1, 0.001, estimator=Detector(0.001))
    for sensor in range(sensors):
        odd = engine.update(f"sensor {sensor}", x[:, sensor]).anomalous
        ax.plot(x[:, sensor], ".", ms=1.5, color=(BLUE, GREEN, ORANGE)[sensor])
        ax.plot(np.flatnonzero(odd), x[odd, sensor], "o", color=ODD, label="odd" if sensor == 0 else None)
    ax.set(xlabel="event", ylabel="value")
    ax.legend(frameon=False, loc="upper left")


def draw_series(ax: Axes) -> None:
    """A daily wave, one day of which is missing."""
    rng = np.random.default_rng(3)
    day, days = 144, 14
    t = np.arange(day * days)
    x = 50.0 + 30.0 * np.sin(2.0 * np.pi * t / day) + rng.normal(0.0, 2.0, len(t))
    x[day * 11 + 20 : day * 11 + 60] = 50.0 + rng.normal(0.0, 2.0, 40)
    odd = Engine(1, estimator=Series()).update("cpu", x).anomalous
    ax.plot(t / day, x, color=USUAL, lw=0.8)
    ax.plot(t[odd] / day, x[odd], "o", color=ODD, label="alarm")
    ax.set(xlabel="day", ylabel="CPU, %", xlim=(6, 14))
    ax.legend(frameon=False, loc="upper left")


def draw_categories(ax: Axes) -> None:
    """Shares of browsers, and the one that is rare enough to be odd."""
    rng = np.random.default_rng(4)
    names, shares = ["chrome", "safari", "firefox", "curl"], [0.6, 0.25, 0.149, 0.001]
    seen = rng.choice(names, 5_000, p=shares)
    engine = Engine(features=["browser", "ms"])
    engine.update("shop", [{"browser": name, "ms": rng.normal(20.0, 4.0)} for name in seen])
    odd = engine.score(["shop"] * 4, [{"browser": name, "ms": 20.0} for name in names]).anomalous
    ax.barh(names, [max((seen == name).mean(), 1e-4) for name in names], color=np.where(odd, ODD, USUAL))
    ax.set(xscale="log", xlabel="share of the slice's events")
    ax.invert_yaxis()


def draw_neighbours(ax: Axes) -> None:
    """Events on a ring: the middle is the mean, and odd."""
    rng = np.random.default_rng(5)
    turn = rng.uniform(0.0, 2.0 * np.pi, 3_000)
    x = np.column_stack([np.cos(turn), np.sin(turn)]) + rng.normal(0.0, 0.05, (3_000, 2))
    detector = NeighboursDetector()
    for row in x:
        detector.learn_one({"x": row[0], "y": row[1]})
    asked = np.array([[0.0, 0.0], [0.6, 0.8], [0.4, -0.3]])
    odd = np.array([detector.judge_one({"x": a, "y": b}).anomalous for a, b in asked])
    ax.plot(*x[::4].T, ".", ms=2, color=USUAL)
    ax.plot(*asked[odd].T, "o", color=ODD, label="odd")
    ax.plot(*asked[~odd].T, "o", color=GREEN, label="usual")
    ax.set(aspect="equal", xlabel="x", ylabel="y")
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def draw_change(ax: Axes) -> None:
    """A mean that moves by one deviation, among heavy tails."""
    rng = np.random.default_rng(6)
    x = rng.standard_t(3.0, 1_200) + 1.5 * (np.arange(1_200) >= 700)
    detector, found = ClippedChangePoint(), []
    for i, value in enumerate(x):
        detector.update(float(value))
        if detector.drift_detected:
            found.append(i)
    ax.plot(x, ".", ms=2, color=USUAL)
    ax.axvline(700, color=LINE, lw=1, ls=":", label="the mean moves")
    for i in found:
        ax.axvline(i, color=ODD, lw=1.5, label="found")
    ax.set(xlabel="event", ylabel="value", ylim=(-8, 9))
    ax.legend(frameon=False, loc="lower left")


def draw_regression(ax: Axes) -> None:
    """A line through points of which a tenth are false."""
    rng = np.random.default_rng(7)
    x = rng.normal(0.0, 1.0, 4_000)
    y = 2.0 * x + 1.0 + rng.normal(0.0, 0.4, 4_000)
    false = rng.random(4_000) < 0.1
    y[false] = 12.0
    engine = Engine(1, estimator=linear_regression(1))
    engine.update("line", x[:, None], y)
    at = np.linspace(-3.0, 3.0, 20)
    ax.plot(x[::6], y[::6], ".", ms=2, color=USUAL)
    ax.plot(at, np.polyval(np.polyfit(x, y, 1), at), "--", color=ORANGE, label="least squares")
    ax.plot(at, engine.predict(["line"] * 20, at[:, None]), color=BLUE, lw=2, label="linear_regression")
    ax.set(xlabel="x", ylabel="y")
    ax.legend(frameon=False, loc="lower right")


def draw_threshold(ax: Axes) -> None:
    """Any detector's scores, which drift, and the threshold that follows."""
    rng = np.random.default_rng(8)
    n = 6_000
    score = rng.exponential(1.0 + np.arange(n) / 2_000, n)
    odd = rng.random(n) < 0.003
    score[odd] += 30.0
    verdicts = Engine(1, estimator=OneSided(0.01, 1_000.0)).update("scores", score)
    flagged = verdicts.anomalous
    ax.plot(score, ".", ms=1.5, color=USUAL)
    ax.plot(np.flatnonzero(flagged), score[flagged], ".", ms=4, color=ODD, label="flagged, 1 % of the usual ones")
    ax.set(xlabel="event", ylabel="score of your detector")
    ax.legend(frameon=False, loc="upper left")


def draw_clip(ax: Axes) -> None:
    """A running mean with and without the clip, while a tenth of the events are absurd."""
    rng = np.random.default_rng(9)
    n = 2_000
    x = rng.normal(0.0, 1.0, (n, 1)).astype(np.float32)
    x[(np.arange(n) > 500) & (rng.random(n) < 0.1)] = 100.0
    for clip, color, label in ((Fixed(1e30), ORANGE, "steps used whole"), (Adaptive(), BLUE, "steps clipped")):
        params = ClippedSGD(Mean(np.zeros(1)), Constant(0.02), clip)
        state, path = params.init(), []
        for event in x:
            state, _ = step(params, state, event)
            path.append(float(state.theta[0]))
        ax.plot(path, color=color, label=label)
    ax.axvspan(500, n, color=USUAL, alpha=0.2, lw=0)
    ax.text(1_250, -2.2, "a tenth of the events are 100", ha="center", color=LINE)
    ax.set(xlabel="event", ylabel="estimate of the mean", ylim=(-3, None))
    ax.legend(frameon=False, loc="upper left")


def draw_memories(ax: Axes) -> None:
    """The fast memory follows a burst, the slow one judges; after `patience` events the new regime is taken over."""
    rng = np.random.default_rng(10)
    n, patience = 12_000, 2_000
    t = np.arange(n)
    x = rng.normal(0.0, 1.0, n) + 8.0 * ((t > 4_000) & (t < 5_000)) + 8.0 * (t > 7_000)
    engine = Engine(1, estimator=Detector(0.01, patience))
    fast, slow, odd = [], [], []
    for start in range(0, n, 20):
        odd.append(engine.update("s", x[start : start + 20]).anomalous)
        state = engine.state("s")
        fast.append(float(state.fast.location[0]))
        slow.append(float(state.slow.location[0]))
    flagged = np.concatenate(odd)
    ax.plot(t[::3], x[::3], ".", ms=1, color=USUAL)
    ax.plot(t[flagged], x[flagged], ".", ms=1, color=ODD, label="flagged")
    ax.plot(t[19::20], fast, color=ORANGE, lw=1.5, label="fast memory")
    ax.plot(t[19::20], slow, color=BLUE, lw=2, label="slow memory, which judges")
    ax.set(xlabel="event", ylabel="value", ylim=(-4, 15))
    ax.legend(frameon=False, loc="upper left", markerscale=4, ncols=2)


def draw_pvalues(ax: Axes) -> None:
    """p-values of usual events are uniform, whatever the law."""
    rng = np.random.default_rng(11)
    n = 20_000
    laws = {
        "normal": rng.normal(size=n),
        "Cauchy": rng.standard_cauchy(n),
        "log-normal": rng.lognormal(size=n),
        "counts": rng.poisson(5.0, n).astype(float),
    }
    engine, at = Engine(1), np.geomspace(1e-2, 1.0, 60)
    for (name, x), color in zip(laws.items(), (BLUE, ODD, GREEN, ORANGE), strict=True):
        p = engine.update(name, x).p_value[5_000:]
        ax.loglog(at, [(p <= level).mean() for level in at], color=color, label=name)
    ax.plot(at, at, ":", color=LINE, label="exact")
    ax.set(xlabel="p", ylabel="share with at most this p")
    ax.legend(frameon=False)


def draw_budget(ax: Axes) -> None:
    """Two slices share one budget: their slopes are equal where it is spent."""
    a, b = np.array([-8.0, -20.0]), np.array([2.0, 3.0])
    clicks, purchases = np.array([100_000.0, 40_000.0]), np.array([1_000.0, 300.0])
    best = Quadratic(a, b, clicks, purchases, np.zeros(2), np.full(2, 0.06)).at(0.02 * purchases.sum())
    rate = best.spend / purchases
    f = np.linspace(0.0, 0.07, 100)
    for i, (name, color) in enumerate((("phones", BLUE), ("desktops", GREEN))):
        gain = a[i] * f**2 + b[i] * f
        ax.plot(100 * f, 100 * gain, color=color, label=name)
        at, slope = rate[i], 2 * a[i] * rate[i] + b[i]
        value = a[i] * at**2 + b[i] * at
        near = at + np.array([-0.012, 0.012])
        ax.plot(100 * at, 100 * value, "o", color=color)
        ax.plot(100 * near, 100 * (value + slope * (near - at)), color=LINE, lw=1)
    ax.set(xlabel="purchasing clicks marked, % (FPR)", ylabel="clicks marked, % (IVR)", xlim=(0, 7), ylim=(0, None))
    ax.legend(frameon=False, loc="lower right")


def draw_slices(ax: Axes) -> None:
    """A new slice among alike ones is judged from the typical slice."""
    rng = np.random.default_rng(12)
    for others, color, label in ((0, ORANGE, "alone"), (200, BLUE, "among 200 slices like it")):
        engine = Engine(1)
        for slice_ in range(others):
            engine.update(f"s{slice_}", rng.normal(100.0, 5.0, 400))
        threshold = engine.update("new", np.random.default_rng(13).normal(100.0, 5.0, 1_500)).threshold
        ax.plot(threshold, color=color, label=label)
    ax.set(xlabel="events of the new slice", ylabel="its threshold", ylim=(0, 8))
    ax.legend(frameon=False)


def draw_exact(ax: Axes) -> None:
    """Scores of a stream in one call, and in calls of other sizes: the same bits."""
    rng = np.random.default_rng(14)
    x = rng.normal(0.0, 1.0, 300)
    whole = Engine(1).update("s", x).score
    pieces, engine, start = [], Engine(1), 0
    while start < len(x):
        size = int(rng.integers(1, 25))
        pieces.append(engine.update("s", x[start : start + size]).score)
        ax.axvline(start, color=USUAL, lw=0.5)
        start += size
    again = np.concatenate(pieces)
    assert np.array_equal(whole, again, equal_nan=True)
    ax.plot(whole, color=ORANGE, lw=2.5, label="one call")
    ax.plot(again, color=BLUE, lw=0.8, label="calls that end at the lines")
    ax.set(xlabel="event", ylabel="score", xlim=(220, 300))
    ax.legend(frameon=False, loc="upper left")


DRAWN: dict[str, Callable[[Axes], None]] = {
    name.removeprefix("draw_"): function for name, function in list(globals().items()) if name.startswith("draw_")
}


def draw(name: str, folder: Path) -> Path:
    """Draw one picture; returns its path."""
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(5.2, 2.5), layout="constrained")
        DRAWN[name](ax)
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=110, metadata={"Software": None})
        plt.close(figure)
    return path


if __name__ == "__main__":
    for name in sys.argv[1:] or DRAWN:
        print(draw(name, Path(__file__).with_name("pictures")))
