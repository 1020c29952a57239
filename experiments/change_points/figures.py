"""The figures of the experiment."""

from typing import Any

import numpy as np

from experiments import common
from experiments.change_points.detectors import OURS, OURS_PAPER, PUBLISHED, REPRODUCED, RIVER
from experiments.change_points.streams import AFTER, JUMPS

LOOKS = {  # colour, marker
    OURS: (common.COLOURS["ours"], "o"),
    OURS_PAPER: (common.COLOURS["unclipped"], "o"),
    REPRODUCED: (common.COLOURS["constant"], "s"),
    "ADWIN": (common.COLOURS["peer"], "^"),
    "PageHinkley": (common.COLOURS["peer 2"], "v"),
    "KSWIN": (common.COLOURS["peer 3"], "x"),
    "Algorithm 1": (common.COLOURS["derived"], "s"),
    "Improved GLR": (common.COLOURS["truth"], "D"),
    "R-BOCPD": (common.COLOURS["decay"], "P"),
}


def draw_table(table: dict[str, Any]) -> Any:
    common.style()
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8.5, 9.5))
    names = list(table)
    order = [*PUBLISHED, REPRODUCED, OURS_PAPER, OURS, *RIVER]
    for y, name in enumerate(names):
        if y % 2:
            axes.axhspan(y - 0.5, y + 0.5, color="#F4F4F4", zorder=0)
        for rank, model in enumerate(order):
            colour, marker = LOOKS[model]
            place = y + 0.8 * (rank / (len(order) - 1) - 0.5)
            if model in PUBLISHED:
                pair = table[name]["published"].get(model)
                if pair is None:
                    continue
                middle, low, high = pair[0], max(pair[0] - pair[1], 12.0), pair[0] + pair[1]
            else:
                cell = table[name]["measured"].get(model)
                if cell is None:
                    continue
                middle, low, high = cell["regret"]
            axes.plot([max(low, 12.0), high], [place, place], color=colour, linewidth=1.2, zorder=2)
            face = "white" if model in PUBLISHED else colour
            axes.plot([middle], [place], marker, color=colour, markersize=5.5, zorder=3, markerfacecolor=face)
    for model in order:
        colour, marker = LOOKS[model]
        face = "white" if model in PUBLISHED else colour
        label = f"{model} (published)" if model in PUBLISHED else model
        axes.plot([], [], marker, color=colour, label=label, markerfacecolor=face)
    axes.axvline(2400, color="#7F7F7F", linestyle=":", linewidth=1.0)
    axes.text(2400, -0.62, "nothing found", ha="center", va="bottom", fontsize=8, color="#7F7F7F")
    axes.set_xscale("log")
    axes.set_xlim(11, 60_000)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("regret: sum over 1,600 events of |changes found - true changes| (log scale; less is better)")
    figure.suptitle("Three changes of the mean: median of the runs, the line holds 95 % of them", fontsize=10)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def draw_delays(delays: dict[str, Any]) -> Any:
    common.style()
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 2, figsize=(8.5, 7.5), sharex=True, height_ratios=[2.4, 1, 1])
    for column, (law, models) in enumerate(delays.items()):
        delay, missed, before = axes[:, column]
        for model, cells in models.items():
            colour, marker = LOOKS[model]
            look = {"marker": marker, "color": colour, "markersize": 4}
            jumps = [float(jump) for jump in cells]
            middle, low, high = np.transpose([cell["delay"] for cell in cells.values()])
            delay.fill_between(jumps, low, high, color=colour, alpha=0.12, linewidth=0)
            delay.plot(jumps, middle, label=model, **look)
            missed.plot(jumps, [100 * cell["missed"] for cell in cells.values()], **look)
            before.plot(jumps, [100 * cell["alarm before"] for cell in cells.values()], **look)
        delay.set_title("normal" if law == "Normal" else "Pareto, shape 2.01")
        delay.axhline(AFTER, color="#7F7F7F", linestyle=":", linewidth=1.0)
        delay.set_yscale("log")
        for axis in (missed, before):
            axis.set_ylim(-6, 106)
        before.set_xscale("log")
        ticks = [jump for jump in JUMPS if jump in (0.25, 0.5, 1.0, 2.0, 5.0)]
        before.set_xticks(ticks, [f"{jump:g}" for jump in ticks])
        before.minorticks_off()
        unit = "standard deviations" if law == "Normal" else "half widths of its middle 68 %"
        before.set_xlabel(f"jump of the mean, in {unit}")
    for axis, label in zip(axes[:, 0], ("events to the next alarm", "missed, %", "false alarm before, %"), strict=True):
        axis.set_ylabel(label)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(
        "One change after 1,000 events: median and band of 95 % of the runs; dotted: not found in 1,000 events\n"
        "Where false alarms are common, so are short delays: an alarm soon after a change may be one of them",
        fontsize=9,
    )
    return figure


def draw_stationary(stationary: dict[str, Any]) -> Any:
    common.style()
    import matplotlib.pyplot as plt

    laws = [law for law in stationary if "d =" not in law]
    models = (OURS, OURS_PAPER, *RIVER)
    figure, axes = plt.subplots(figsize=(8.5, 4.2))
    floor = 0.1
    for rank, model in enumerate(models):
        colour = LOOKS[model][0]
        for x, law in enumerate(laws):
            counts = stationary[law].get(model)
            place = x + 0.16 * (rank - 2)
            label = model if x == 0 else None
            if counts["alarms"]:
                axes.bar(place, counts["a million"] - floor, 0.14, bottom=floor, color=colour, label=label)
            else:  # none seen: with 95 % confidence fewer than three in as many events
                most = max(3e6 / counts["events"], 1.2 * floor)
                axes.bar(place, most - floor, 0.14, bottom=floor, color="white", edgecolor=colour, linestyle=":")
                axes.text(place, most * 1.15, "0", ha="center", va="bottom", fontsize=8, color=colour)
                if label:
                    axes.bar([0], [0], color=colour, label=label)
    axes.set_axisbelow(True)
    axes.set_yscale("log")
    axes.set_ylim(floor, 1e5)
    axes.set_xticks(range(len(laws)), laws)
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("false alarms a million events")
    axes.set_title(
        "Streams that never change; dotted: no alarm seen, the bar ends at the most that 95 % confidence allows"
    )
    axes.legend(ncols=5, loc="upper center")
    return figure
