"""The drawings of the report of a scorer, each a section: curves, reliability, false positives by hour, and losses."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from onlineguard.report.axes import HEIGHT, WIDTH, Axis, index_ticks
from onlineguard.report.formats import counted, format_number
from onlineguard.report.paths import area_path, bars_path, dots_path, line_path
from onlineguard.report.writing import escaped
from onlineguard.slidr.evaluation.evaluation import Bin, Evaluation, Group, Share, threshold_text
from onlineguard.slidr.evaluation.markup import level_text, share_cell, table

SMOOTHED = 60  # points of the loss curve, each a mean over minibatches
_FPR_TICKS = (0, 1, 5, 20, 50, 100)  # in percent
_COLOURS = ("series", "alarm", "label", "score")  # classes of the template


def curves(evaluation: Evaluation, drawn: Sequence[Group]) -> str:
    """The invalidation rate against the false-positive rate: of all clicks, and of the slices to be drawn."""
    head = "<h2 id='curves'>Invalidation against false positives</h2>"
    if evaluation.overall.curve is None:
        return f"{head}<p>No purchasing click, so no curves.</p>"
    left, level = len(evaluation.slices) - len(drawn), level_text(evaluation)
    which = f" The {len(drawn)} largest slices with purchasing clicks are drawn." if left else ""
    return (
        f'{head}<p class="text">A curve shows the rates of all possible thresholds on these clicks. The point shows '
        f"the calibrated threshold, with its {level} intervals. Over all clicks the point may lie above "
        "the curve, since every slice has its own threshold. The knee is where IVR is farthest above FPR. A score "
        "without any information would follow the dotted line, where IVR equals FPR. It is bent because the FPR axis "
        f"shows square roots, which leaves space for small rates.{which}</p>"
        f'<ul class="legend"><li><i class="series"></i>all thresholds</li><li><b class="alarm"></b>'
        'calibrated</li><li><b class="knee"></b>knee</li><li><i class="even"></i>chance</li>'
        f"{_budget_legend(evaluation.budget)}</ul>"
        + _curve("s0", evaluation.overall, evaluation.budget)
        + '<div class="multiples">'
        + "".join(_curve(f"s{number}", group, evaluation.budget) for number, group in enumerate(drawn, 1))
        + "</div>"
    )


def _curve(id_: str, group: Group, budget: float | None) -> str:
    curve, axis = group.curve, Axis(0.0, 100.0, None)
    if curve is None or group.knee is None:
        return ""
    x, y = _root(curve.fpr), axis.y(100 * curve.ivr)
    marks = "" if budget is None else f'<path class="threshold" d="M{_root(budget):.0f} 0v{HEIGHT}"/>'
    chance = np.linspace(0.0, 1.0, 41)
    marks += f'<path class="even" d="{line_path(WIDTH * chance, axis.y(100 * chance**2))}"/>'
    marks += f'<path class="series" d="{line_path(x, y)}"/>'
    marks += f'<path class="knee" d="{dots_path(x[[group.knee]], y[[group.knee]])}"/>'
    at = axis.y(100 * np.array([group.ivr.value, group.ivr.low, group.ivr.high]))
    right = _root(np.array([group.fpr.value, group.fpr.low, group.fpr.high]))
    marks += f'<path class="mark alarm" d="{bars_path(right[:1], at[1:2], at[2:])}M{right[1]:.0f} {at[0]:.0f}'
    marks += f'H{right[2]:.0f}"/><path class="mark dot alarm" d="{dots_path(right[:1], at[:1])}"/>'
    facts = f"{counted(group.clicks, 'click')}; IVR {group.ivr.value:.2%} at FPR {group.fpr.value:.2%}"
    facts += "" if group.threshold is None else f", threshold {threshold_text(group.threshold)}"
    name = "All clicks" if id_ == "s0" else group.name
    ticks = [(float(_root(tick / 100)), f"{tick}") for tick in _FPR_TICKS]
    return _chart(id_, name, facts, axis, marks, ticks, "FPR, % (square-root axis)", "IVR, %", few=True)


def reliability(evaluation: Evaluation) -> str:
    """The share of known people against what the scorer predicts; nothing where no click is known."""
    bins: Sequence[Bin] = evaluation.reliability
    if not bins:
        return ""
    x, y, low, high = (
        100 * np.array([getattr(b, name) for b in bins]) for name in ("predicted", "known", "low", "high")
    )
    top = float(min(100.0, 1.1 * max(x.max(), y.max(), 1e-6)))
    axis = Axis(0.0, top, None)
    x = x / top * WIDTH
    marks = f'<path class="even" d="M0 {HEIGHT}l{WIDTH} -{HEIGHT}"/>'
    marks += f'<path class="mark series" d="{bars_path(x, axis.y(low), axis.y(high))}"/>'
    marks += f'<path class="mark dot series" d="{dots_path(x, axis.y(y))}"/>'
    ticks = [(WIDTH * (1 - at / HEIGHT), text) for at, text in axis.ticks()]
    weighted = (
        "Clicks have their sample weights here, as in training, so the intervals are approximate. "
        if evaluation.weighted
        else "All clicks count the same here. A model trained with sample weights predicts shares of weighted clicks. "
    )
    return (
        '<section aria-labelledby="reliability"><h2 id="reliability">Reliability</h2><p class="text">Of clicks with '
        f"about the same p_human, the share that is known to be people's, with its {level_text(evaluation)} interval. "
        f"On the dotted line both agree. {weighted}Most people are never known to be people, so p_human is the "
        "probability of being known, not of being human.</p>"
        + _chart("r0", "Known people", "", axis, marks, ticks, "p_human, %", "share that is known, %", square=True)
        + "</section>"
    )


def hourly(fpr: Mapping[str, Sequence[Share]], budget: float | None) -> str:
    """False-positive rates of the hours of the day, by the name of the scorer."""
    shares = [share for of_hour in fpr.values() for share in of_hour if share.trials]
    highest = max((share.value for share in shares), default=0.0)
    usual = float(np.median([share.high for share in shares])) if shares else 0.01
    axis = Axis(0.0, 108 * max(highest, usual, budget or 0.0), None)
    column = WIDTH / 24
    marks = legend = ""
    if budget is not None:
        marks = f'<path class="threshold" d="M0 {axis.y(np.array([100 * budget]))[0]:.0f}h{WIDTH}"/>'
    for number, (name, of_hour) in enumerate(fpr.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        x = column * (np.arange(len(of_hour)) + (number + 1) / (len(fpr) + 1))
        value, low, high = (
            axis.y(100 * np.array([getattr(share, of) for share in of_hour])) for of in ("value", "low", "high")
        )
        marks += f'<path class="mark {colour}" d="{bars_path(x, low, high)}"/>'
        marks += f'<path class="mark dot {colour}" d="{dots_path(x, value)}"/>'
        legend += f'<li><b class="{colour}"></b>{escaped(name)}</li>'
    ticks = [(column * (hour + 0.5), f"{hour}") for hour in range(0, 24, 3)]
    rows = [
        f'<tr><th scope="row">{hour}</th>'
        + "".join(f"<td>{of_hour[hour].trials:,}</td><td>{share_cell(of_hour[hour])}</td>" for of_hour in fpr.values())
        + "</tr>"
        for hour in range(min(map(len, fpr.values())))
    ]
    head = ["Hour", *(text for name in fpr for text in ("Purchasing clicks", f"FPR {name}"))]
    return (
        '<section class="long" aria-labelledby="weights"><h2 id="weights">What sample weights do</h2>'
        '<p class="text">False-positive rate by local hour of the day. With sample weights, quiet hours of the week '
        "count as much as busy ones. Without them a model may take the few people of the night for robots. Intervals "
        "that leave the drawing are cut off.</p>"
        f'<ul class="legend">{legend}{_budget_legend(budget)}</ul>'
        + _chart("h0", "False positives by hour", "", axis, marks, ticks, "local hour", "FPR, %", few=True)
        + f"<details><summary>The figures</summary>{table('FPR by hour', head, rows)}</details></section>"
    )


def losses(of_minibatches: Float[np.ndarray, " n"]) -> str:
    """The loss while a network learned."""
    n = len(of_minibatches)
    scale = WIDTH / max(n - 1, 1)
    pieces = np.array_split(np.arange(n), min(SMOOTHED, n))
    x = np.array([piece.mean() for piece in pieces]) * scale
    means = np.array([of_minibatches[piece].mean() for piece in pieces])
    low, high = np.array([np.quantile(of_minibatches[piece], (0.1, 0.9)) for piece in pieces]).T
    axis = Axis.of(np.concatenate([means, high]), from_zero=True)
    marks = f'<path class="band" d="{area_path(x, axis.y(low), axis.y(high))}"/>'
    marks += f'<path class="series" d="{line_path(x, axis.y(means))}"/>'
    ticks = [(at * scale, text) for at, text in index_ticks(0, n - 1)]
    return (
        '<section aria-labelledby="training"><h2 id="training">Training</h2><ul class="legend"><li>'
        f'<i class="series"></i>mean of {counted(-(-n // len(pieces)), "minibatch", "minibatches")}, each before '
        'it was learned</li><li><i class="band"></i>the middle 80 % of them</li></ul>'
        + _chart(
            "l0",
            "Weighted cross-entropy",
            f"last mean {format_number(float(means[-1]))}",
            axis,
            marks,
            ticks,
            "minibatch",
            "nats",
        )
        + "</section>"
    )


def _chart(
    id_: str,
    name: str,
    facts: str,
    axis: Axis,
    marks: str,
    x_ticks: Sequence[tuple[float, str]],
    x_name: str,
    y_name: str,
    few: bool = False,
    square: bool = False,
) -> str:
    """One drawing with its axes. If `few`, all labels of the x axis are shown on a phone too."""
    y_ticks = axis.ticks()
    grid = "".join(f"M0 {y:.0f}h{WIDTH}" for y, _ in y_ticks) + "".join(f"M{x:.0f} 0v{HEIGHT}" for x, _ in x_ticks)
    left = "".join(f'<span style="top:{y / HEIGHT:.2%}">{text}</span>' for y, text in y_ticks)
    below = "".join(f'<span style="left:{x / WIDTH:.2%}">{text}</span>' for x, text in x_ticks)
    scale = " <small>log scale</small>" if axis.linear_to is not None else ""
    return (
        f'<div class="chart{" square" * square}" id="{id_}"><h3><bdi>{escaped(name)}</bdi>{scale}</h3>'
        f'<p class="facts">{escaped(facts)}</p><p class="yname">{y_name}</p><div class="plot">'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-labelledby="{id_}t">'
        f'<title id="{id_}t">{escaped(name)}: {escaped(facts or f"{y_name} by {x_name}")}</title>'
        f'<path class="grid" d="{grid}"/>{marks}</svg>'
        f'<div class="y" aria-hidden="true">{left}</div></div><div class="x{" few" * few}" aria-hidden="true">{below}'
        f'</div><p class="xname">{x_name}</p></div>'
    )


def _budget_legend(budget: float | None) -> str:
    return "" if budget is None else f'<li><i class="threshold"></i>budget, {budget:.2%}</li>'


def _root(fpr: Float[np.ndarray, " n"] | float) -> Float[np.ndarray, " n"]:
    return WIDTH * np.sqrt(fpr)
