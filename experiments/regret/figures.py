"""The figures of the experiment."""

from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.common import COLOURS, Interval, rng
from experiments.regret.measures import ORDER, SLACK, distances
from experiments.regret.methods import CONSTANT
from experiments.regret.streams import JUMP, SEGMENTS, STREAMS, Source

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
