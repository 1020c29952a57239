"""The figures of the experiment."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.common import COLOURS, interval
from experiments.mnist_drift.measures import BINS, TARGETS
from experiments.mnist_drift.run import CORRUPTIONS, LABELLED_STYLES, STYLES, Cell, Found, cells
from onlineguard.estimators.threshold import OneSided


def draw_stream(found: Found) -> Figure:
    """The images around every switch, in order, anomalies framed in red."""
    stream, _ = found.picture
    side = round(stream.pixels.shape[1] ** 0.5)
    starts = np.flatnonzero(np.diff(stream.segment)) + 1
    before, wide = 12, 36
    figure, axes = plt.subplots(len(starts), 1, figsize=(10, 0.62 * len(starts) + 0.5), squeeze=False)
    for axis, start in zip(axes[:, 0], starts, strict=True):
        shown = np.arange(start - before, start - before + wide)
        gap = 2
        canvas = np.ones((side + 2 * gap, wide * (side + gap) + gap))
        for place, i in enumerate(shown):
            left = gap + place * (side + gap)
            canvas[gap : gap + side, left : left + side] = 1.0 - np.clip(stream.pixels[i].reshape(side, side), 0, 1)
        axis.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        for place, i in enumerate(shown):
            left = gap + place * (side + gap)
            if stream.anomalous[i]:
                axis.add_patch(
                    Rectangle((left - 1.5, gap - 1.5), side + 2, side + 2, fill=False, color="#D62728", lw=1.8)
                )
        axis.axvline(gap / 2 + before * (side + gap) - 0.5, color=COLOURS["derived"], lw=2.2)
        axis.set_axis_off()
        axis.set_title(f"images {shown[0]:,} to {shown[-1]:,}", loc="left", fontsize=8, pad=2)
    figure.suptitle(
        "The stream around its switches (blue line): turned by up to 30°, anomalies (5 %) framed in red", fontsize=10
    )
    return figure


def draw_running(found: Found) -> Figure:
    """AUROC of the last 250 images through the switches, means over seeds with 95 % bands."""
    figure, axes = plt.subplots(2, 1, figsize=(9, 7), sharex=True)
    switches = np.flatnonzero(np.diff(found.picture[0].segment)) + 1
    for axis, styles, title in (
        (axes[0], STYLES, "(b) no labels ever"),
        (axes[1], LABELLED_STYLES, "(a) labels revealed after scoring (neighbours: still none)"),
    ):
        for name, (colour, line) in styles.items():
            bands = [interval(values) for values in found.running[name].T]
            axis.plot(found.ends, [b.mean for b in bands], line, color=colour, label=name)
            axis.fill_between(
                found.ends, [b.low for b in bands], [b.high for b in bands], color=colour, alpha=0.12, lw=0
            )
        for switch in switches:
            axis.axvline(switch, color="black", lw=0.8, ls=":")
        axis.set(ylabel="AUROC of the last 250 images", ylim=(0.2, 1.0), title=title)
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    axes[1].set_xlabel("image; dotted: the normal digit switches. Lines are means over seeds, bands 95 % intervals")
    return figure


def draw_recovery(found: Found) -> Figure:
    """AUROC by images since a switch."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True)
    for axis, styles, title in (
        (axes[0], STYLES, "(b) no labels ever"),
        (axes[1], LABELLED_STYLES, "(a) labels revealed after scoring"),
    ):
        for name, (colour, line) in styles.items():
            right, total = found.courses[name].sum(0).T
            curve = right / np.maximum(total, 1.0)
            there = total[:-1] > 0
            axis.plot(BINS[1:][there], curve[:-1][there], line, color=colour, label=name)
            axis.plot([BINS[-1] * 1.03], curve[-1:], marker="_", ms=12, mew=2.5, color=colour)
        axis.set(xlabel="images since the switch, in bins of 50; at the right: settled", title=title)
        axis.legend(fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    axes[0].set(ylabel="AUROC, all switches and seeds", ylim=(0.2, 1.0))
    return figure


def draw_threshold(found: Found) -> Figure:
    """Score and online threshold over time for one run."""
    stream, scores_ = found.picture
    figure, axes = plt.subplots(2, 1, figsize=(10, 5.6), sharex=True, sharey=True)
    for axis, name in zip(axes, ("neighbours", "mean, derived"), strict=True):
        heights, limits = followed(scores_[name], TARGETS[0])
        normal, odd = ~stream.anomalous, stream.anomalous
        axis.plot(np.flatnonzero(normal), heights[normal], ".", ms=2, color=COLOURS["frozen"], label="normal image")
        axis.plot(np.flatnonzero(odd), heights[odd], ".", ms=4.5, color="#D62728", label="anomaly")
        axis.plot(limits, color=COLOURS["truth"], lw=1.2, label=f"threshold, target {TARGETS[0]:g}")
        limits = followed(scores_[name], TARGETS[1])[1]
        axis.plot(limits, "--", color=COLOURS["truth"], lw=1.2, label=f"threshold, target {TARGETS[1]:g}")
        for switch in np.flatnonzero(np.diff(stream.segment)) + 1:
            axis.axvline(switch, color=COLOURS["derived"], lw=1.2)
        axis.set(yscale="log", ylabel="height of the score", xlim=(0, len(heights)), ylim=(0.1, 12.0))
        axis.set_title(name, loc="left")
        axis.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
        axis.minorticks_off()
    axes[0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, fontsize=8, markerscale=2)
    axes[1].set_xlabel("image; blue: the normal digit switches. Height: 1 + z above the usual score, exp(z) below it")
    return figure


def followed(score: np.ndarray, target: float) -> tuple[np.ndarray, np.ndarray]:
    """The height of every score and the threshold before it, as the library's one-sided threshold sees them."""
    model = OneSided(target, 500.0)
    state, seen = model.init(1), []
    with np.errstate(all="ignore"):
        for value in score.astype(np.float32):
            state, judged = model.step(state, np.array([value]))
            seen.append((float(judged.score), float(judged.threshold)))
    heights, limits = np.array(seen).T
    return np.maximum(heights, 1e-3), limits


def draw_sweep(found: Found, labelled: bool, quick: bool) -> Figure:
    """Settled AUROC over anomaly rates, a column an angle, a row a corruption."""
    styles = LABELLED_STYLES if labelled else STYLES
    grid = cells(labelled, quick)
    angles, kinds = list(dict.fromkeys(cell[1] for cell in grid)), list(dict.fromkeys(cell[2] for cell in grid))
    figure, axes = plt.subplots(
        len(kinds), len(angles), figsize=(10, 1.9 * len(kinds) + 1.0), sharex=True, sharey=True, squeeze=False
    )
    for row, kind in zip(axes, kinds, strict=True):
        for axis, angle in zip(row, angles, strict=True):
            chosen = [i for i, cell in enumerate(grid) if cell[1:] == (angle, kind)]
            at = [100 * grid[i][0] for i in chosen]
            for name, (colour, line) in styles.items():
                bands = [interval(_in_cell(found, labelled, name, grid[i], quick)) for i in chosen]
                axis.errorbar(
                    at,
                    [b.mean for b in bands],
                    [np.nan_to_num(b.high - b.mean) for b in bands],
                    ls=line,
                    color=colour,
                    label=name,
                    marker="o",
                    ms=2.5,
                    lw=1.2,
                    elinewidth=0.8,
                )
            axis.set(xscale="log", ylim=(0.3, 1.0))
            axis.set_xticks(at, [f"{x:g}" for x in at])
            axis.minorticks_off()
        of = "images: 1e6 in pixels" if kind[0] == "pixels" else "labels false"
        row[0].set_ylabel(f"{100 * kind[1]:g} % of {of}\nAUROC" if kind[1] else "nothing corrupted\nAUROC")
    for axis, angle in zip(axes[0], angles, strict=True):
        axis.set_title(f"turned by up to {angle:g}°")
    for axis in axes[-1]:
        axis.set_xlabel("anomalies, %")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5, fontsize=8)
    return figure


def _in_cell(found: Found, labelled: bool, name: str, cell: Cell, quick: bool) -> np.ndarray:
    """Settled AUROC in a cell, a number a seed; to a model that is told no label, false ones are none."""
    if name in found.sweep[labelled]:
        return found.sweep[labelled][name][:, cells(labelled, quick).index(cell), 0]
    rate, angle, kind = cell
    same = (rate, angle, CORRUPTIONS[0] if kind[0] == "labels" else kind)
    return found.sweep[False][name][:, cells(False, quick).index(same), 0]
