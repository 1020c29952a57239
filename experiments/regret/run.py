"""Regret of clipped SGD and of `Experts`: streams, estimators, sums of distances to the truth, slopes, ratios."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.common import COLOURS, Interval, Options, Outcome, interval, markdown_table, over, rng, style
from onlineguard.core.clipped_sgd import ClippedSGD
from onlineguard.core.clips import Adaptive
from onlineguard.core.estimands import Linear, LinearRegression, LogisticRegression, Mean
from onlineguard.core.experts import Experts
from onlineguard.core.protocols import Array, Event, Theta
from onlineguard.core.pytree import pytree
from onlineguard.core.rates import Decay, Derived, epoch
from onlineguard.engine.schedules import scan_lanes

CHUNK = 1000  # events made and learned at a time, so that no stream is ever whole in memory
CONSTANT = tuple(2.0**-k for k in range(15))  # the fixed rates to choose from in hindsight
WARM = tuple(4.0**-k for k in range(8))  # and those that begin as a running mean, until their memory is full
RADIUS = 2.0  # truths lie at this distance from the point that every estimate starts from
DOMAIN = 10.0  # the diameter that the theory's clip is told, twice what the truths need
CURVATURE = 0.15  # of the logistic loss at a truth of that length, under standard normal features
SEGMENTS = 5  # of a stream that jumps: four jumps, whatever its length
SINE = 2000  # events a period
WALK = 0.02  # length of a walk's step, in standard deviations of a Gaussian feature's noise
WAY = 10.0  # length of all steps of a slow walk together
FAR = 100.0  # how far off corrupted points and targets are
BEST = 1.5  # the default is to be within this factor of the best fixed rate
ORDER, SLACK = 2 / 3, 0.05  # of the derived rate, and what an interval of a measured slope may differ by


@dataclass(frozen=True)
class Stream:
    """One row of the table; a share of None corrupts T^(1/3) of the T events, in expectation."""

    model: str  # mean, linear, logistic
    d: int
    noise: str  # gaussian, student, pareto (skewed), symmetric (Pareto); labels, which logistic regression has
    drift: str  # still, jumps, slow sine, slow walk: of bounded total; sine, walk: as long as the stream
    attack: str = ""  # far, direction, flips
    share: float | None = 0.0
    longest: int = 100_000

    @property
    def name(self) -> str:
        share = "∛T" if self.share is None else f"{100 * self.share:g} %"
        return f"{self.model} d={self.d}, {self.noise}, {self.drift}" + (
            f", {share} {self.attack}" if self.attack else ""
        )

    @property
    def theory(self) -> bool:
        """Whether the theory promises T^(2/3): total drift bounded, and not more than T^(1/3) corrupted events."""
        return self.drift in ("still", "jumps", "slow sine", "slow walk") and not self.share


LONG = 1_000_000
STREAMS = (
    Stream("mean", 1, "gaussian", "still", longest=LONG),
    Stream("mean", 1, "gaussian", "jumps", longest=LONG),
    Stream("mean", 1, "student", "slow sine", "far", None, longest=LONG),
    Stream("mean", 1, "pareto", "still", "direction", None, longest=LONG),
    Stream("mean", 1, "symmetric", "walk", "direction", 0.2, LONG),
    Stream("mean", 1, "student", "sine", "far", 0.02, LONG),
    Stream("mean", 20, "gaussian", "still", "direction", None),
    Stream("mean", 20, "gaussian", "walk"),
    Stream("mean", 20, "student", "still", "far", 0.2),
    Stream("mean", 20, "student", "jumps", "direction", None, LONG),
    Stream("mean", 20, "symmetric", "slow walk", "far", None),
    Stream("mean", 20, "pareto", "sine", "far", 0.05),
    Stream("mean", 100, "gaussian", "still", "direction", 0.1),
    Stream("mean", 100, "student", "jumps", "direction", None),
    Stream("linear", 1, "student", "still", "far", None, longest=LONG),
    Stream("linear", 1, "symmetric", "slow walk", "direction", 0.1, LONG),
    Stream("linear", 20, "gaussian", "jumps", "far", None, LONG),
    Stream("linear", 20, "student", "walk", "direction", 0.05),
    Stream("linear", 20, "pareto", "slow sine", "far", 0.2),
    Stream("linear", 100, "gaussian", "still"),
    Stream("linear", 100, "student", "jumps", "far", 0.01),
    Stream("logistic", 1, "labels", "still", longest=LONG),
    Stream("logistic", 20, "labels", "jumps", "flips", None, LONG),
    Stream("logistic", 20, "labels", "walk", "flips", 0.05),
    Stream("logistic", 100, "labels", "slow sine", "direction", 0.1),
    Stream("logistic", 100, "labels", "still", "flips", 0.2),
)
QUICK = (0, 3, 16, 21)  # of them: every model, and where the mean is not what a median clip finds
JUMP = Stream("mean", 20, "student", "jumps", "far", 0.05)

# --------------------------------------------------------------------------------------------------------- streams


def noise(law: str, random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Independent numbers of mean zero. Of all laws but the first the variance is only just finite."""
    if law == "gaussian":
        return random.standard_normal(shape, np.float32)
    if law == "student":
        return random.standard_t(2.1, shape)
    above = np.expm1(random.standard_exponential(shape) / 2.01)  # Pareto of shape 2.01, counted from its least value
    return above - 1 / 1.01 if law == "pareto" else above * random.choice((-1.0, 1.0), shape)


def direction(random: np.random.Generator, d: int) -> Array:
    """A point on the unit sphere."""
    point = random.standard_normal(d)
    return point / np.linalg.norm(point)


class Source:
    """One seed's draw of a stream of a given length, chunk by chunk."""

    def __init__(self, stream: Stream, length: int, random: np.random.Generator):
        self.stream, self.length, self.random, self.t = stream, length, random, 0
        self.places = RADIUS * np.stack([direction(random, stream.d) for _ in range(SEGMENTS)])
        if stream.d == 1:  # there are two directions only, and a jump to where one is would be none
            self.places[:, 0] = RADIUS * (-1.0) ** np.arange(SEGMENTS)
        self.toward = direction(random, stream.d)
        self.place = self.places[0]
        self.share = length ** (-2 / 3) if stream.share is None else stream.share

    def chunk(self, n: int) -> tuple[Event, Array]:
        """The next n events, and the truth at each."""
        truth = self._truth(n)
        self.t += n
        hit = self.random.random(n) < self.share
        event = self._point(truth, hit) if self.stream.model == "mean" else self._pair(truth, hit)
        return event, truth.astype(np.float32)

    def _truth(self, n: int) -> Array:
        t, drift = np.arange(self.t, self.t + n), self.stream.drift
        if drift == "still":
            return np.tile(self.place, (n, 1))
        if drift == "jumps":
            return self.places[t * SEGMENTS // self.length]
        if drift.endswith("sine"):
            return self.places[0] * np.cos(2 * np.pi * t / (SINE if drift == "sine" else self.length))[:, None]
        step = WALK if drift == "walk" else WAY / self.length
        steps = self.random.standard_normal((n, self.stream.d)) * (step / math.sqrt(self.stream.d))
        path = self.place + np.cumsum(steps, axis=0)
        self.place = path[-1]
        return path

    def _point(self, truth: Array, hit: Array) -> Array:
        x = truth + noise(self.stream.noise, self.random, truth.shape)
        far = self.random.standard_normal((int(hit.sum()), self.stream.d))
        far = far / np.linalg.norm(far, axis=1, keepdims=True) if self.stream.attack == "far" else self.toward
        x[hit] = FAR * far
        return x.astype(np.float32)

    def _pair(self, truth: Array, hit: Array) -> tuple[Array, Array]:
        x = self.random.standard_normal(truth.shape, np.float32)
        signal = (x * truth).sum(-1)
        aligned = np.sign(x[hit] @ self.toward)  # what pulls every time in the same direction
        if self.stream.model == "linear":
            y = signal + noise(self.stream.noise, self.random, signal.shape)
            y[hit] = FAR * (self.random.choice((-1.0, 1.0), len(aligned)) if self.stream.attack == "far" else aligned)
        else:
            y = (self.random.random(len(x)) < 1 / (1 + np.exp(-signal))).astype(np.float64)
            y[hit] = 1 - y[hit] if self.stream.attack == "flips" else aligned > 0
        return x, y.astype(np.float32)


# ------------------------------------------------------------------------------------------------------ estimators


class Grown(NamedTuple):
    """What the theory's clip remembers."""

    seen: Array


@pytree
class Growing:
    """The clip that our derivation asks for: max(least, scale n^(1/3)) through an epoch of n = 1, 2, 4, ... events."""

    least: Array
    scale: Array

    def init(self) -> Grown:
        return Grown(np.int32(0))

    def observe(self, state: Grown, norm: Array, bounds: tuple[Array, Array]) -> tuple[Array, Grown]:
        limit = self.scale * jnp.cbrt(epoch(state.seen).astype(jnp.float32))
        return jnp.maximum(limit, self.least), Grown(state.seen + 1)


@pytree
class Distance:
    """An estimator that scores an event by how far its estimate was from the truth, which comes with the event."""

    estimator: Any

    def init(self) -> Any:
        return self.estimator.init()

    def step(self, state: Any, event: tuple[Event, Array]) -> tuple[Any, Array]:
        event, truth = event
        theta = self.estimator.theta(state) if isinstance(self.estimator, Experts) else state.theta
        return self.estimator.learn(state, event), distance(theta, truth)


def distance(theta: Theta, truth: Array) -> Array:
    """Euclidean; a regression's intercept counts, and its truth is zero."""
    square = theta.b**2 if isinstance(theta, Linear) else 0.0
    w = theta.w if isinstance(theta, Linear) else theta
    return jnp.sqrt(((w - truth) ** 2).sum(-1) + square)


# Clipped SGD at many rates at once: the rates differ, all else and the events are shared.
scan_rates = jax.jit(jax.vmap(scan_lanes, in_axes=(Distance(ClippedSGD(None, 0, None)), 0, None, None)))  # type: ignore


def fixed_rates() -> Decay:
    """The grid in hindsight, the same begun as running means, and 1/t, on one axis."""
    rows = [(eta, 0.0, 0.0) for eta in CONSTANT] + [(1.0, 1.0, eta) for eta in WARM] + [(1.0, 1.0, 0.0)]
    return Decay(*jnp.asarray(rows, jnp.float32).T)


def estimators(stream: Stream) -> tuple[Distance, dict[str, Distance]]:
    """Clipped SGD at all fixed rates, and each other method by its name.

    All clip at the running median, logistic regression at the 99th percentile, as its docstring asks for; but "derived"
    clips as the theory does.
    """
    estimand = {"mean": Mean, "linear": LinearRegression, "logistic": LogisticRegression}[stream.model](stream.d)
    clip = Adaptive(0.99) if stream.model == "logistic" else Adaptive()
    rate = Derived(m=CURVATURE if stream.model == "logistic" else 1.0)
    others = {
        "default": Experts(estimand, clip=clip),
        "derived": ClippedSGD(estimand, rate, Growing(2 * DOMAIN, math.sqrt(stream.d))),
        "derived, median clip": ClippedSGD(estimand, rate, clip),
    }
    return Distance(ClippedSGD(estimand, fixed_rates(), clip)), {name: Distance(e) for name, e in others.items()}


# -------------------------------------------------------------------------------------------------------- measures


@dataclass(frozen=True)
class Cell:
    """What one process works on at a time."""

    row: int  # of STREAMS
    length: int
    seeds: int


@dataclass(frozen=True)
class Regrets:
    """Of one stream at one length, one number a seed."""

    constant: Array  # (rates, seeds)
    warm: Array  # (rates, seeds)
    methods: dict[str, Array]  # each (seeds,)


def repeated(tree: Any, count: int) -> Any:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(jnp.asarray(leaf), (count, *jnp.shape(leaf))), tree)


def distances(stream: Stream, sources: Sequence[Source], length: int) -> Any:
    """Chunk by chunk: of the fixed rates, (rates, seeds, events), and of every other method, (seeds, events)."""
    seeds = len(sources)
    fixed, others = estimators(stream)
    many = repeated(repeated(fixed.init(), seeds), len(CONSTANT) + len(WARM) + 1)
    states = {name: repeated(params.init(), seeds) for name, params in others.items()}
    mask = np.ones((seeds, CHUNK), bool)
    for _ in range(length // CHUNK):
        events = jax.tree.map(lambda *parts: np.stack(parts), *(source.chunk(CHUNK) for source in sources))
        many, far = scan_rates(fixed, many, events, mask)
        result = {}
        for name, params in others.items():
            states[name], result[name] = scan_lanes(params, states[name], events, mask)
        yield np.asarray(far, np.float64), {name: np.asarray(score, np.float64) for name, score in result.items()}


def measure(cell: Cell) -> Regrets:
    stream = STREAMS[cell.row]
    sources = [Source(stream, cell.length, rng(cell.row, cell.length, seed)) for seed in range(cell.seeds)]
    fixed, methods = np.zeros(()), {}
    for far, others in distances(stream, sources, cell.length):
        fixed = fixed + far.sum(-1)
        methods = {name: methods.get(name, 0.0) + score.sum(-1) for name, score in others.items()}
    constant, warm, decay = np.split(fixed, [len(CONSTANT), len(CONSTANT) + len(WARM)])
    rates = {"1/t": decay[0], "1/8": constant[3], "1/128": constant[7], "1/2048": constant[11]}
    return Regrets(constant, np.concatenate([warm, decay]), methods | rates)


def slope(lengths: Sequence[int], regrets: Sequence[Array]) -> Interval:
    """Exponent of T, fitted to each seed's regrets by least squares on log axes; the interval is over seeds."""
    x = np.log(np.asarray(lengths, np.float64))
    x = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    return interval(x @ np.log(np.stack(regrets)))


def ratio(ours: Array, best: Array) -> Interval:
    """Of two means over the same seeds, with the interval of the delta method."""
    value = float(ours.mean() / best.mean())
    spread = interval(ours - value * best)
    return Interval(value, value + spread.low / best.mean(), value + spread.high / best.mean())


# ------------------------------------------------------------------------------------------------------------- run


def run(options: Options) -> Outcome:
    """Measure all streams at all lengths, longest first, then set side by side."""
    style()
    rows = QUICK if options.quick else tuple(range(len(STREAMS)))
    choice = (1000, 3000) if options.quick else (1000, 10_000, 100_000, LONG)
    lengths = {row: [n for n in choice if n <= STREAMS[row].longest] for row in rows}
    cells = [Cell(row, n, options.seeds) for row in rows for n in lengths[row]]
    cells.sort(key=lambda cell: -cell.length)  # the last to finish is a short one
    measured = dict(zip(cells, over(measure, cells, "streams"), strict=True))
    results = {
        STREAMS[row].name: summary(
            STREAMS[row], lengths[row], [measured[Cell(row, n, options.seeds)] for n in lengths[row]]
        )
        for row in rows
    }
    figures = {
        "regret": draw_regret(results),
        "slopes": draw_slopes(results),
        "ratios": draw_ratios(results),
        "jump": draw_jump(options.seeds, 2000 if options.quick else 20_000),
    }
    claims = verdict(results)
    return Outcome({"claims": claims, "seeds": options.seeds, "streams": results}, figures, report(claims, results))


def summary(stream: Stream, lengths: Sequence[int], regrets: Sequence[Regrets]) -> dict[str, Any]:
    """What results.json says of one stream."""
    methods = regrets[0].methods
    lengthwise = []
    for length, at in zip(lengths, regrets, strict=True):
        best = int(at.constant.mean(1).argmin())
        warm = int(at.warm.mean(1).argmin())
        lengthwise.append(
            {
                "T": length,
                "best rate": f"2^-{best}",
                "regret": {n: interval(r) for n, r in (at.methods | {"best fixed": at.constant[best]}).items()},
                "ratio": {n: ratio(r, at.constant[best]) for n, r in at.methods.items()},
                "default to best warm": ratio(at.methods["default"], at.warm[warm]),
            }
        )
    return {
        "theory": stream.theory,
        "slope": {name: slope(lengths, [at.methods[name] for at in regrets]) for name in methods},
        "lengths": lengthwise,
    }


def verdict(results: dict[str, Any]) -> dict[str, Any]:
    """The claims: each with its worst case and whether it holds there."""
    ratios = {(at["T"], name): at["ratio"]["default"] for name, one in results.items() for at in one["lengths"]}
    warm = {(at["T"], name): at["default to best warm"] for name, one in results.items() for at in one["lengths"]}
    slopes = {name: one["slope"]["derived"] for name, one in results.items() if one["theory"]}
    worst, worst_warm = (max(some, key=lambda key: some[key].mean) for some in (ratios, warm))
    steepest = max(slopes, key=lambda name: slopes[name].mean)
    return {
        "default": {
            "holds": ratios[worst].mean <= BEST,
            "worst ratio to the best fixed rate": ratios[worst],
            "worst case": f"{worst[1]}, T={worst[0]}",
            "cases": len(ratios),
            "cases better than the best fixed rate": sum(r.mean < 1 for r in ratios.values()),
            "worst ratio to the best begun as a running mean": warm[worst_warm],
            "worst case of these": f"{worst_warm[1]}, T={worst_warm[0]}",
        },
        "derived": {
            "holds": slopes[steepest].mean <= ORDER + SLACK,
            "steepest slope where the theory speaks": slopes[steepest],
            "steepest on": steepest,
            "streams": len(slopes),
        },
    }


def report(claims: dict[str, Any], results: dict[str, Any]) -> str:
    """The table that is printed: one row a stream, at its longest."""
    header = ("stream", "T", "best rate", "default", "derived", "1/t", "slope: default", "derived", "theory")
    rows = []
    for name, one in results.items():
        at = one["lengths"][-1]
        ratios = [f"{at['ratio'][method].mean:.2f}" for method in ("default", "derived", "1/t")]
        slopes = [f"{one['slope'][method].mean:.2f}" for method in ("default", "derived")]
        rows.append((name, f"{at['T']:.0e}", at["best rate"], *ratios, *slopes, "2/3" if one["theory"] else "-"))
    default, derived = claims["default"], claims["derived"]
    return (
        f"{markdown_table(header, rows)}\n\nDefault against the best fixed rate: at worst "
        f"{default['worst ratio to the best fixed rate']} times ({default['worst case']}), "
        f"{'within' if default['holds'] else 'NOT within'} {BEST}.\nSlope of the derived rate where the theory speaks: "
        f"at most {derived['steepest slope where the theory speaks']} ({derived['steepest on']}), "
        f"{'within' if derived['holds'] else 'NOT within'} 2/3 + {SLACK}."
    )


# --------------------------------------------------------------------------------------------------------- figures

LINES: dict[str, tuple[str, Literal["-", "--"]]] = {  # method: colour, line
    "default": (COLOURS["ours"], "-"),
    "best fixed": (COLOURS["truth"], "--"),
    "derived": (COLOURS["derived"], "-"),
    "derived, median clip": (COLOURS["peer 2"], "-"),
    "1/t": (COLOURS["decay"], "-"),
}
LABELS = {
    "default": "default (Experts)",
    "best fixed": "best fixed rate in hindsight",
    "derived": "derived rate, its own clip",
    "derived, median clip": "derived rate, median clip",
    "1/t": "1/t, median clip",
}
PANELS = (0, 1, 3, 9, 7, 14, 16, 22)  # of STREAMS: what the figure of regrets shows, where measured


def draw_regret(results: dict[str, Any]) -> Figure:
    """Regret against T, one panel a stream; bands are 95% intervals of the mean over seeds."""
    names = [STREAMS[row].name for row in PANELS if STREAMS[row].name in results]
    columns = min(4, len(names))
    figure, axes = plt.subplots(
        -(-len(names) // columns), columns, figsize=(3.1 * columns, 2.9 * -(-len(names) // columns)), squeeze=False
    )
    for axis, name in zip(axes.flat, names, strict=False):
        one = results[name]
        lengths = [at["T"] for at in one["lengths"]]
        for method, (colour, line) in LINES.items():
            regrets = [at["regret"][method] for at in one["lengths"]]
            steep = f" {one['slope'][method].mean:.2f}" if method in one["slope"] else ""
            axis.plot(lengths, [r.mean for r in regrets], line, color=colour, marker="o", markersize=2.5)
            low = [max(r.low, r.mean / 10) for r in regrets]
            axis.fill_between(lengths, low, [r.high for r in regrets], color=colour, alpha=0.2, linewidth=0)
            if steep:
                spot = (0.04, 0.96 - 0.085 * list(LINES).index(method))
                axis.text(*spot, f"slope{steep}", color=colour, transform=axis.transAxes, va="top", fontsize=8)
        first = one["lengths"][0]["regret"]["derived"].mean
        guide = [first * (n / lengths[0]) ** ORDER for n in lengths]
        axis.plot(lengths, guide, ":", color="#999999", linewidth=1)
        axis.set(xscale="log", yscale="log", title=name.replace(", ", ",\n", 1))
        axis.title.set_fontsize(8.5)
    for axis in axes.flat[len(names) :]:
        axis.remove()
    for axis in axes[:, 0]:
        axis.set_ylabel("regret: sum of distances")
    for axis in axes[-1]:
        axis.set_xlabel("events T")
    handles = [Line2D([], [], color=c, linestyle=line, label=LABELS[m]) for m, (c, line) in LINES.items()]
    handles.append(Line2D([], [], color="#999999", linestyle=":", label="order $T^{2/3}$"))
    figure.legend(handles=handles, loc="outside lower center", ncols=6 if columns == 4 else 3)
    return figure


def draw_slopes(results: dict[str, Any]) -> Figure:
    """The fitted slope of every stream and method with its 95% interval; above the line, those the theory speaks of."""
    names = sorted(results, key=lambda name: results[name]["theory"])  # drawn from the bottom up
    spoken = sum(results[name]["theory"] for name in names)
    figure, axis = plt.subplots(figsize=(7.5, 1.4 + 0.24 * len(names)))
    methods = ("default", "derived", "derived, median clip")
    for y, name in enumerate(names):
        for offset, method in zip((0.22, 0.0, -0.22), methods, strict=True):
            at: Interval = results[name]["slope"][method]
            axis.plot([at.low, at.high], [y + offset] * 2, color=LINES[method][0], linewidth=1.2)
            axis.plot(at.mean, y + offset, "o", color=LINES[method][0], markersize=3.5)
    axis.axvline(ORDER + SLACK, color="black", linewidth=1, linestyle="--")
    axis.text(ORDER + SLACK + 0.01, len(names) - 0.4, "2/3 + 0.05", fontsize=8)
    if 0 < spoken < len(names):
        axis.axhline(len(names) - spoken - 0.5, color="#999999", linewidth=0.8)
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set(
        ylim=(-0.6, len(names) + 0.1), xlabel="fitted slope of log regret in log T (bars: 95% interval over seeds)"
    )
    axis.set_title("above the grey line: where the theory promises $T^{2/3}$", loc="left")
    handles = [Line2D([], [], color=LINES[m][0], marker="o", markersize=3.5, label=LABELS[m]) for m in methods]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def draw_ratios(results: dict[str, Any]) -> Figure:
    """Regret relative to the best fixed rate in hindsight, at every stream's longest T."""
    methods = ("default", "derived", "derived, median clip", "1/t", "1/8", "1/128", "1/2048")
    heads = ("default,\nworst T", "default", "derived,\nits clip", "derived,\nmedian", *methods[3:])
    names = list(results)
    values = np.array(
        [
            [max(at["ratio"]["default"].mean for at in one["lengths"])]
            + [one["lengths"][-1]["ratio"][method].mean for method in methods]
            for one in results.values()
        ]
    )
    figure, axis = plt.subplots(figsize=(9.0, 1.4 + 0.25 * len(names)))
    image = axis.imshow(np.clip(values, 0.2, 5), cmap="RdBu_r", norm=LogNorm(0.2, 5), aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        dark = value > 3.2 or value < 0.31
        text = f"{value:.2f}" if value < 100 else f"{value:.0e}"
        weight = "bold" if x < 2 else "normal"
        axis.text(x, y, text, ha="center", va="center", fontsize=8, color="white" if dark else "black", weight=weight)
    axis.set_xticks(range(len(heads)), heads, fontsize=8)
    axis.xaxis.tick_top()
    labels = [f"{name}, T={results[name]['lengths'][-1]['T']:,}" for name in names]
    axis.set_yticks(range(len(names)), labels, fontsize=8)
    axis.tick_params(length=0)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axis, ticks=[0.2, 0.5, 1, 2, 5], format="%g", shrink=0.6, aspect=30)
    bar.minorticks_off()
    bar.set_label("regret over that of the best fixed rate")
    return figure


def draw_jump(seeds: int, length: int) -> Figure:
    """Distance to the truth before and after jumps, as medians and quartiles over seeds."""
    sources = [Source(JUMP, length, rng(len(STREAMS), length, seed)) for seed in range(seeds)]
    pieces = list(distances(JUMP, sources, length))
    fixed = np.concatenate([far for far, _ in pieces], axis=-1)
    best = int(fixed[: len(CONSTANT)].mean((1, 2)).argmin())
    lines = {name: np.concatenate([others[name] for _, others in pieces], axis=-1) for name in ("default", "derived")}
    lines |= {"1/t": fixed[-1], "best fixed": fixed[best]}
    jump = 2 * length // SEGMENTS
    shown = slice(jump - length // 10, jump + length // SEGMENTS)
    figure, axis = plt.subplots(figsize=(7.0, 3.6))
    t = np.arange(length)[shown] - jump
    for name, far in lines.items():
        low, middle, high = np.quantile(far[:, shown], (0.25, 0.5, 0.75), axis=0)
        colour, line = LINES[name]
        label = f"best fixed rate, 2^-{best}" if name == "best fixed" else LABELS[name]
        axis.plot(t, middle, line, color=colour, label=label)
        axis.fill_between(t, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.set(yscale="log", xlabel="events since the jump", ylabel="distance to the truth")
    axis.set_title(f"{JUMP.name}: median and quartiles of {seeds} seeds", loc="left")
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    return figure
