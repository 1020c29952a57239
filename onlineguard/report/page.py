"""The page of a report: one self-contained HTML file.

All of it is there without its script, which adds what a reader does with it: a crosshair, sorting, a filter. Alarms are
lanes under the plots and the colour of the line itself, so that no point is under a band.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onlineguard.report.alarms import nan_last
from onlineguard.report.axes import HEIGHT, WIDTH, Axis
from onlineguard.report.formats import counted, format_moment, format_number
from onlineguard.report.hover import points
from onlineguard.report.paths import band_path, line_path
from onlineguard.report.plot import Plot
from onlineguard.report.template import SCRIPT, filled
from onlineguard.report.track import SliceReport
from onlineguard.report.writing import escaped, write_page

_ALARM_ROWS, _DRIVER_ROWS = 5, 6
_COLUMNS = ("Events", "Anomalies", "Alarms", "Evidence", "Highest score", "Lowest p-value")  # of numbers, in the table
_RANKED = (
    "The slices with the most evidence come first: it says by how many decades their alarms are less likely than "
    "chance, as if events were independent. An alarm that lasts has more than a single odd event."
)
_ALARM_LANE, _LABEL_LANE, _SPARK_LANE = (HEIGHT + 25, 50), (-75, 50), (HEIGHT + 40, 110)  # top and height


def write_report(
    path: str | Path, slices: Sequence[SliceReport], summary: Mapping[str, Any], title: str = "Anomaly report"
) -> None:
    """Write one HTML file that shows `summary`, a table of the slices, and a section for each, in the given order.

    All text is escaped. An existing file is replaced at once, or left as it was. Raises InvalidArgument where the file
    cannot be written.
    """
    plots = [Plot.of(slice_) for slice_ in slices]
    tiles = "".join(f"<div><dt>{escaped(k)}</dt><dd>{escaped(_value(v))}</dd></div>" for k, v in summary.items())
    labelled = any(plot.labels for plot in plots)
    page = filled(
        escaped(title),
        tiles=f'<dl class="tiles">{tiles}</dl>' if tiles else "",
        table=_table(plots) if plots else "<p>No slice was recorded.</p>",
        legend=_legend(labelled) if plots else "",
        sections="".join(_section(number, plot) for number, plot in enumerate(plots, 1)),
        script=SCRIPT,
    )
    write_page(path, page)


def _table(plots: Sequence[Plot]) -> str:
    rows: list[str] = []
    for number, plot in enumerate(plots, 1):
        slice_ = plot.of_slice
        peak = max((alarm[2] for alarm in slice_.alarms), default=math.nan)
        p_value = min((alarm[3] for alarm in slice_.alarms), default=math.nan)
        share = f" <small>{slice_.n_anomalies / slice_.n_events:.2%}</small>" if slice_.n_events else ""
        driver = max(slice_.drivers, key=lambda feature: slice_.drivers[feature], default="")
        figures = (slice_.n_events, slice_.n_anomalies, plot.n_alarms, slice_.evidence, peak, p_value)
        line = line_path(plot.x * (120 / WIDTH), Axis.of(plot.values).y(plot.values))
        bands = band_path([(low // 6, -(-high // 6)) for low, high in plot.alarms], *_SPARK_LANE)
        rows.append(
            f'<tr data-of="s{number}"><th scope="row"><a href="#s{number}"><bdi>{escaped(slice_.name)}</bdi></a></th>'
            f'<td class="spark"><svg viewBox="0 0 120 {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
            f'<path class="alarm" d="{bands}"/><path class="series" d="{line}"/></svg></td>'
            f"{''.join(map(_cell, _COLUMNS, figures, ('', share, *[''] * 4)))}"
            f'<td class="by" data-title="Driven by"><bdi>{escaped(driver) or "n/a"}</bdi></td></tr>'
        )
    heads = "".join(f'<th scope="col"{" data-lowest" * (name == _COLUMNS[-1])}>{name}</th>' for name in _COLUMNS)
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Slices">'
        '<table class="slices"><thead><tr><th scope="col">Slice</th><th scope="col" data-plain>Series</th>'
        f'{heads}<th scope="col">Driven by</th></tr>'
        f'</thead><tbody>{"".join(rows)}</tbody></table></div><p class="facts">{_RANKED}</p>'
    )


def _cell(title: str, value: float, more: str) -> str:
    """A cell with the number that it is sorted by."""
    raw = "" if math.isnan(value) else f"{value:.17g}".replace("inf", "1e999")
    return f'<td data-title="{title}" data-value="{raw}">{_value(value)}{more}</td>'


def _legend(labelled: bool) -> str:
    entries = [("series", "series"), ("score", "score"), ("threshold", "threshold"), ("alarm", "alarm")]
    entries += [("label", "labelled window")] * labelled
    return '<ul class="legend">' + "".join(f'<li><i class="{c}"></i>{name}</li>' for c, name in entries) + "</ul>"


def _section(number: int, plot: Plot) -> str:
    slice_, id_ = plot.of_slice, f"s{number}"
    name = escaped(slice_.name)
    facts = f"{counted(slice_.n_events, 'event')}, {counted(slice_.n_anomalies, 'anomaly', 'anomalies')} in "
    facts += counted(plot.n_alarms, "alarm")
    if slice_.drawn_from:
        facts += f"; drawn from its event {slice_.drawn_from:,} on"
    if plot.times is not None:
        facts += f"; {format_moment(int(plot.times[0]))} to {format_moment(int(plot.times[-1]))}"
    panels = ""
    valued = slice_.value_name != "score" and not np.array_equal(plot.values, plot.scores, equal_nan=True)
    if valued:
        axis = Axis.of(plot.values)
        line = f'<path id="{id_}l" class="series" d="{line_path(plot.x, axis.y(plot.values))}"/>'
        if plot.alarms:
            line += f'<clipPath id="{id_}a"><path d="{band_path(plot.alarms)}"/></clipPath>'
            line += f'<g class="odd" clip-path="url(#{id_}a)"><use href="#{id_}l"/></g>'
        panels += _panel(id_ + "v", plot, axis, slice_.value_name, line, facts)
    axis = Axis.of(np.concatenate([plot.scores, plot.thresholds]), from_zero=True)
    limit = axis.y(plot.thresholds)
    marks = (
        f'<clipPath id="{id_}c"><path d="{line_path(plot.x, limit, floor=0)}"/></clipPath>'
        f'<defs><path id="{id_}p" d="{line_path(plot.x, axis.y(plot.scores), floor=HEIGHT)}"/></defs>'
        f'<use class="score" href="#{id_}p"/><use class="over" href="#{id_}p" clip-path="url(#{id_}c)"/>'
        f'<path class="threshold" d="{line_path(plot.x, limit)}"/>'
    )
    panels += _panel(id_ + "t", plot, axis, "score", marks, facts)
    ticks = "".join(f'<span style="left:{x / WIDTH:.2%}">{text}</span>' for x, text in plot.ticks)
    start = "" if plot.times is None else f' data-start="{int(plot.times[0]) // 1_000}"'
    axis_name = "time (UTC)" if plot.times is not None else "event"
    return (
        f'<section id="{id_}" aria-labelledby="{id_}h"><h2 id="{id_}h"><bdi>{name}</bdi></h2>'
        f'<p class="facts">{facts}</p><div class="panels" data-of="{name}" data-value="{escaped(slice_.value_name)}" '
        f'data-width="{WIDTH}"{start} data-points="{points(plot, valued)}">{panels}</div>'
        f'<div class="x" aria-hidden="true">{ticks}</div><p class="xname">{axis_name}</p>'
        f'<div class="below">{_drivers(slice_)}{_alarms(plot)}</div></section>'
    )


def _panel(id_: str, plot: Plot, axis: Axis, name: str, marks: str, facts: str) -> str:
    ticks = axis.ticks()
    grid = "".join(f"M0 {y:.0f}h{WIDTH}" for y, _ in ticks) + "".join(f"M{x:.0f} 0v{HEIGHT}" for x, _ in plot.ticks)
    labels = "".join(f'<span style="top:{y / HEIGHT:.2%}">{text}</span>' for y, text in ticks)
    scale = " <small>log scale</small>" if axis.linear_to is not None else ""
    bands = "".join(
        f'<path class="{kind}" d="{band_path(spans, *lane)}"/>'
        for kind, spans, lane in (("label", plot.labels, _LABEL_LANE), ("alarm", plot.alarms, _ALARM_LANE))
        if spans
    )
    return (
        f'<div class="panel"><h3>{escaped(name)}{scale}</h3><div class="plot"><svg viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'preserveAspectRatio="none" role="img" aria-labelledby="{id_}t {id_}d"><title id="{id_}t">{escaped(name)} '
        f'of {escaped(plot.of_slice.name)} over time</title><desc id="{id_}d">{facts}.</desc>'
        f'<path class="grid" d="{grid}"/>{bands}{marks}</svg>'
        f'<div class="y" aria-hidden="true">{labels}</div></div></div>'
    )


def _drivers(slice_: SliceReport) -> str:
    ranked = sorted(slice_.drivers.items(), key=lambda item: -item[1])
    if not ranked:
        return ""
    shown, rest = ranked[:_DRIVER_ROWS], ranked[_DRIVER_ROWS:]
    if rest:
        shown.append((f"{len(rest)} others", sum(share for _, share in rest)))
    bars = "".join(
        f'<li><span><bdi>{escaped(feature)}</bdi></span><b><i style="width:{min(max(share, 0), 1):.1%}"></i></b>'
        f"<em>{share:.0%}</em></li>"
        for feature, share in shown
    )
    return f'<div><h3>What drove the alarms</h3><ul class="drivers">{bars}</ul></div>'


def _alarms(plot: Plot) -> str:
    alarms = sorted(plot.of_slice.alarms, key=lambda one: (-one.evidence, nan_last(one.p_value), -one.peak_score))
    alarms = alarms[:_ALARM_ROWS]
    if not alarms:
        return "<div><h3>Alarms</h3><p>None.</p></div>"
    rows = "".join(
        f"<tr><td>{plot.when(start)}</td><td>{counted(end - start + 1, 'event')}</td><td>{format_number(peak)}</td>"
        f"<td>{format_number(p_value)}</td></tr>"
        for start, end, peak, p_value, *_ in alarms
    )
    share_shown = f" <small>{len(alarms)} of {plot.n_alarms:,}</small>" if plot.n_alarms > len(alarms) else ""
    return (
        f"<div><h3>Least likely alarms{share_shown}</h3>"
        '<div class="wide" tabindex="0" role="region" aria-label="Alarms"><table><thead><tr><th scope="col">Start</th>'
        '<th scope="col">Length</th><th scope="col">Peak score</th><th scope="col">p-value</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></div>"
    )


def _value(value: object) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return f"{int(value):,}"
    return format_number(float(value)) if isinstance(value, float | np.floating) else str(value)
