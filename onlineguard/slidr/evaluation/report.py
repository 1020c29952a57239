"""The evaluation of a scorer as one self-contained HTML file, without scripts and without links to other hosts."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from onlineguard.report.axes import HEIGHT, WIDTH, Axis, index_ticks
from onlineguard.report.formats import counted, format_number
from onlineguard.report.paths import line_path
from onlineguard.report.template import filled
from onlineguard.report.writing import escaped, write_page
from onlineguard.slidr.evaluation.evaluation import NONE, Bin, Evaluation, Group, Row, Share, auc_text, threshold_text

CURVES = 12  # slices whose curves are drawn: those with the most clicks
ROWS = 60  # in the table of slices
FEW = 100  # clicks of a slice whose rates say next to nothing; it is folded away
SMOOTHED = 60  # points of the loss curve, each a mean over minibatches
_FPR_TICKS = (0, 1, 5, 20, 50, 100)  # in percent
_COLOURS = ("series", "alarm", "label", "score")  # classes of the template
_STYLE = """
.tiles{grid-template-columns:repeat(auto-fit,minmax(10rem,1fr))}
.tiles>div{display:grid;grid-row:span 2;grid-template-rows:subgrid;row-gap:0}
.tiles small{display:block;font-size:.75rem;letter-spacing:0}
.overview>h2,section>h2{margin-bottom:.2rem}
.text{max-width:48rem;margin:.2rem 0 1rem;color:var(--soft);font-size:.875rem}
.lead{max-width:48rem;margin:0 0 1.5rem}
td small{display:block}
th,td{padding-inline:.45rem}
tbody th{min-width:8rem}
th:first-child{position:sticky;left:0;background:var(--card)}
.multiples{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(19rem,100%),1fr));gap:1.6rem 1.2rem;
margin-top:1.6rem}
.multiples>*{min-width:0}
.chart{margin-left:3rem}
.chart h3{margin-bottom:.1rem;overflow-wrap:anywhere}
.chart svg{overflow:visible}
.chart .facts{margin:0 0 .5rem;font-size:.78rem}
.chart .x,.chart .xname{margin-left:0}
.chart .yname{margin:0 0 .55rem -2.4rem;color:var(--soft);font-size:.75rem;line-height:1}
#s0 .plot{height:clamp(12rem,30vw,18rem)}
.chart.square{max-width:24rem}.chart.square .plot{height:auto;aspect-ratio:1}
.chart .few span:nth-child(even){display:inline}
path.mark{stroke-width:1.6}
path.dot{stroke-width:7;stroke-linecap:round}
path.knee{stroke:var(--ink);stroke-width:6;stroke-linecap:round}
path.mark.alarm{fill:none;stroke:var(--alarm)}path.mark.label{fill:none;stroke:var(--label)}
path.mark.score{stroke:var(--score)}
path.band{fill:var(--score);fill-opacity:.28}
path.even{stroke:var(--soft);stroke-dasharray:2 4}
.legend b{display:inline-block;width:.55rem;height:.55rem;border-radius:50%;margin-right:.45rem;background:currentColor}
.legend b.knee{color:var(--ink)}
.legend b:is(.alarm,.label){border:0;height:.55rem;vertical-align:0;background:currentColor}
.legend .even{color:var(--soft);border-top-style:dotted}
.legend .band{height:.7rem;vertical-align:-.1em;border:0;background:var(--score);opacity:.28}
dl.run{display:grid;grid-template-columns:minmax(7rem,auto) 1fr;gap:.3rem 1.5rem;margin:.6rem 0 0;font-size:.875rem}
dl.run dt{color:var(--soft)}
dl.run dd{margin:0;overflow-wrap:anywhere}
details{margin-top:1rem;font-size:.875rem}
summary{cursor:pointer}
@media print{section.long{break-inside:auto}.chart,tr{break-inside:avoid}}
"""


@dataclass(frozen=True)
class Extras:
    """Parts of a report besides the evaluation. A part that is not given is left out."""

    hourly: Mapping[str, Sequence[Share]] | None = None
    """FPR of the 24 local hours by `evaluation.hourly_fpr`, by the name of the scorer: first with sample weights, then
    without."""
    comparison: Sequence[Row] | None = None
    """Rows of `evaluation.compare`, or others with the same headings in every row. The first column names the row."""
    losses: Sequence[float] | None = None
    """Weighted cross-entropy of each minibatch, as in `Network.losses`."""


def write_report(
    path: str | Path,
    evaluation: Evaluation,
    title: str = "SLIDR evaluation",
    facts: Mapping[str, str] | None = None,
    extras: Extras | None = None,
) -> None:
    """Write one HTML file with the evaluation, the `facts` (time ranges, seed, versions) and the `extras`.

    Curves are drawn for the 12 slices with the most clicks, and the table has at most 60 rows. All text is escaped. An
    existing file is replaced as a whole, or left as it was. Raises InvalidArgument if the file cannot be written.
    """
    extras = extras or Extras()
    drawn = [group for group in evaluation.largest() if group.curve is not None][:CURVES]
    sections = [
        _slices(evaluation, drawn),
        _reliability(evaluation),
        _hourly(extras.hourly, evaluation.budget) if extras.hourly else "",
        _comparison(extras.comparison) if extras.comparison else "",
        _losses(np.asarray(extras.losses, np.float64)) if extras.losses is not None and len(extras.losses) else "",
        _facts(facts) if facts else "",
        _words(evaluation),
    ]
    page = filled(
        escaped(title),
        style=_STYLE,
        tiles=_tiles(evaluation) + f'<p class="lead">{_verdict(evaluation)}</p>',
        table=_curves(evaluation, drawn),
        legend="",
        sections="".join(sections),
    )
    write_page(path, page)


def _tiles(evaluation: Evaluation) -> str:
    all_ = evaluation.overall
    shares = [
        ("Invalidation rate (IVR)", all_.ivr, "click"),
        ("False-positive rate (FPR)", all_.fpr, "purchasing click"),
        ("Robotic coverage", all_.coverage, "click of heavy sessions"),
        ("True recall", all_.recall, "robots' click"),
        ("True precision", all_.precision, "marked click"),
        ("True FPR", all_.true_fpr, "people's click"),
    ]
    tiles = [
        (name, f"{share.value:.2%}", f"{_interval(share)}%<br>{share.hits:,} of {_many(share.trials, noun)}")
        if share.trials
        else (name, NONE, f"no {noun}")
        for name, share, noun in shares
        if share is not None
    ]
    return (
        '<dl class="tiles">'
        + "".join(f"<div><dt>{name}</dt><dd>{value}<small>{small}</small></dd></div>" for name, value, small in tiles)
        + "</dl>"
    )


def _verdict(evaluation: Evaluation) -> str:
    """A few sentences: which clicks were measured, and whether the budget was kept."""
    all_, budget = evaluation.overall, evaluation.budget
    of = f"{counted(all_.clicks, 'click')}, {_many(all_.purchases, 'purchasing click')}; thresholds by method "
    of += f"&ldquo;{escaped(evaluation.method)}&rdquo;"
    if evaluation.confidence is not None:
        of += f" at confidence {evaluation.confidence:g}"
    of += f"; exact {_level(evaluation)} intervals, which take clicks as independent. "
    if not math.isnan(all_.auc):
        of += f"A purchasing click scores below another with probability {auc_text(all_)} (AUC). "
    if budget is None:
        return of + "This method looks at no budget."
    if not all_.fpr.trials:
        return of + f"Without purchasing clicks nothing can be said of the budget of {budget:.2%}."
    if all_.fpr.value <= budget:
        far = ", over the whole interval" if all_.fpr.high <= budget else "; the interval reaches beyond it"
        return of + f"<strong>The budget of {budget:.2%} is kept</strong>{far}. {_capped(evaluation)}"
    far = "by more than chance explains" if all_.fpr.low > budget else "within what chance explains"
    return of + f"<strong>The budget of {budget:.2%} is exceeded</strong>, {far}. {_capped(evaluation)}"


def _capped(evaluation: Evaluation) -> str:
    """A sentence on the cap of every slice."""
    if evaluation.cap is None or evaluation.cap >= 1.0:
        return "No slice has a cap of its own."
    over = [group for group in evaluation.slices if group.over_cap]
    if not over:
        return f"No slice is over its cap of {evaluation.cap:.2%}."
    surely = sum(group.fpr.low > evaluation.cap for group in over)
    return (
        f"<strong>{counted(len(over), 'slice')} over the cap of {evaluation.cap:.2%}</strong>, "
        f"{surely or 'none'} of them by more than chance explains."
    )


def _slices(evaluation: Evaluation, drawn: Sequence[Group]) -> str:
    groups = [group for group in evaluation.largest() if group.clicks >= FEW]
    few = [group for group in evaluation.largest() if group.clicks < FEW]
    numbers = {id(group): number for number, group in enumerate(drawn, 1)}
    shown = groups[:ROWS]
    head = ["Slice", "Clicks", "Purchasing", "Threshold", "IVR", "FPR", "Coverage"]
    head += ["Recall", "Precision", "True FPR"] if evaluation.has_truth else []

    def row(group: Group) -> str:
        name, number = f"<bdi>{escaped(group.name)}</bdi>", numbers.get(id(group))
        shares = [group.ivr, group.fpr, group.coverage, group.recall, group.precision, group.true_fpr]
        cells = [f"{group.clicks:,}", f"{group.purchases:,}", threshold_text(group.threshold)]
        cells += [_cell(share) for share in shares if share is not None]
        if group.over_cap:
            cells[4] += "<small><strong>over the cap</strong></small>"
        return (
            f'<tr><th scope="row">{f'<a href="#s{number}">{name}</a>' if number else name}</th>'
            f"{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        )

    rest = groups[ROWS:]
    more = f" The {len(shown)} with the most clicks are listed; " if rest else ""
    if rest:
        share = sum(group.clicks for group in rest) / evaluation.overall.clicks
        more += f"the other {len(rest):,} hold {share:.1%} of the clicks."
    folded = ""
    if few:
        clicks, purchases = (sum(getattr(group, of) for group in few) for of in ("clicks", "purchases"))
        folded = (
            f"<details><summary>{_many(len(few), 'slice')} of under {FEW} clicks: {counted(clicks, 'click')}, "
            f"{purchases:,} purchasing</summary>"
            f"{_table('Small slices', head, [row(group) for group in few[:ROWS]])}</details>"
        )
    number = _many(len(groups) + len(few), "slice")
    return (
        f'<section class="long"><h2>Slices</h2><p class="text">{number} with their thresholds: a click whose '
        f"p_robot is above its slice's is robotic. Below each rate is its {_level(evaluation)} interval, in percent."
        f"{more}</p>" + _table("Slices", head, [row(group) for group in shown]) + folded + "</section>"
    )


def _curves(evaluation: Evaluation, drawn: Sequence[Group]) -> str:
    head = "<h2 id='curves'>Invalidation against false positives</h2>"
    if evaluation.overall.curve is None:
        return f"{head}<p>No purchasing click, so no curves.</p>"
    left = len(evaluation.slices) - len(drawn)
    which = f" The {len(drawn)} largest slices with purchasing clicks are drawn." if left else ""
    return (
        f'{head}<p class="text">A curve shows the rates of all possible thresholds on these clicks. The point shows '
        f"the calibrated threshold, with its {_level(evaluation)} intervals. Over all clicks the point may lie above "
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
    marks += f'<path class="knee" d="{_dots(x[[group.knee]], y[[group.knee]])}"/>'
    at = axis.y(100 * np.array([group.ivr.value, group.ivr.low, group.ivr.high]))
    right = _root(np.array([group.fpr.value, group.fpr.low, group.fpr.high]))
    marks += f'<path class="mark alarm" d="{_bars(right[:1], at[1:2], at[2:])}M{right[1]:.0f} {at[0]:.0f}'
    marks += f'H{right[2]:.0f}"/><path class="mark dot alarm" d="{_dots(right[:1], at[:1])}"/>'
    facts = f"{counted(group.clicks, 'click')}; IVR {group.ivr.value:.2%} at FPR {group.fpr.value:.2%}"
    facts += "" if group.threshold is None else f", threshold {threshold_text(group.threshold)}"
    name = "All clicks" if id_ == "s0" else group.name
    ticks = [(float(_root(tick / 100)), f"{tick}") for tick in _FPR_TICKS]
    return _chart(id_, name, facts, axis, marks, ticks, "FPR, % (square-root axis)", "IVR, %", few=True)


def _reliability(evaluation: Evaluation) -> str:
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
    marks += f'<path class="mark series" d="{_bars(x, axis.y(low), axis.y(high))}"/>'
    marks += f'<path class="mark dot series" d="{_dots(x, axis.y(y))}"/>'
    ticks = [(WIDTH * (1 - at / HEIGHT), text) for at, text in axis.ticks()]
    weighted = (
        "Clicks have their sample weights here, as in training, so the intervals are approximate. "
        if evaluation.weighted
        else "All clicks count the same here. A model trained with sample weights predicts shares of weighted clicks. "
    )
    return (
        '<section aria-labelledby="reliability"><h2 id="reliability">Reliability</h2><p class="text">Of clicks with '
        f"about the same p_human, the share that is known to be people's, with its {_level(evaluation)} interval. On "
        f"the dotted line both agree. {weighted}Most people are never known to be people, so p_human is the "
        "probability of being known, not of being human.</p>"
        + _chart("r0", "Known people", "", axis, marks, ticks, "p_human, %", "share that is known, %", square=True)
        + "</section>"
    )


def _hourly(hourly: Mapping[str, Sequence[Share]], budget: float | None) -> str:
    shares = [share for of_hour in hourly.values() for share in of_hour if share.trials]
    highest = max((share.value for share in shares), default=0.0)
    usual = float(np.median([share.high for share in shares])) if shares else 0.01
    axis = Axis(0.0, 108 * max(highest, usual, budget or 0.0), None)
    column = WIDTH / 24
    marks = legend = ""
    if budget is not None:
        marks = f'<path class="threshold" d="M0 {axis.y(np.array([100 * budget]))[0]:.0f}h{WIDTH}"/>'
    for number, (name, of_hour) in enumerate(hourly.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        x = column * (np.arange(len(of_hour)) + (number + 1) / (len(hourly) + 1))
        value, low, high = (
            axis.y(100 * np.array([getattr(share, of) for share in of_hour])) for of in ("value", "low", "high")
        )
        marks += f'<path class="mark {colour}" d="{_bars(x, low, high)}"/>'
        marks += f'<path class="mark dot {colour}" d="{_dots(x, value)}"/>'
        legend += f'<li><b class="{colour}"></b>{escaped(name)}</li>'
    ticks = [(column * (hour + 0.5), f"{hour}") for hour in range(0, 24, 3)]
    rows = [
        f'<tr><th scope="row">{hour}</th>'
        + "".join(f"<td>{of_hour[hour].trials:,}</td><td>{_cell(of_hour[hour])}</td>" for of_hour in hourly.values())
        + "</tr>"
        for hour in range(min(map(len, hourly.values())))
    ]
    head = ["Hour", *(text for name in hourly for text in ("Purchasing clicks", f"FPR {name}"))]
    return (
        '<section class="long" aria-labelledby="weights"><h2 id="weights">What sample weights do</h2>'
        '<p class="text">False-positive rate by local hour of the day. With sample weights, quiet hours of the week '
        "count as much as busy ones. Without them a model may take the few people of the night for robots. Intervals "
        "that leave the drawing are cut off.</p>"
        f'<ul class="legend">{legend}{_budget_legend(budget)}</ul>'
        + _chart("h0", "False positives by hour", "", axis, marks, ticks, "local hour", "FPR, %", few=True)
        + f"<details><summary>The figures</summary>{_table('FPR by hour', head, rows)}</details></section>"
    )


def _comparison(rows: Sequence[Row]) -> str:
    first, *others = rows[0]
    lines = [
        f'<tr><th scope="row"><bdi>{escaped(row[first])}</bdi></th>'
        + "".join(f"<td>{_split(row[name])}</td>" for name in others)
        + "</tr>"
        for row in rows
    ]
    text = "The thresholds of every scorer are calibrated in the same way, on the same clicks."
    if "gain" in others:
        text += " &ldquo;gain&rdquo; is the IVR minus that of the first scorer, in percentage points."
    if "IVR at budget" in others:
        text += " &ldquo;IVR at budget&rdquo; uses one threshold that just keeps the budget on these very clicks, "
        text += "so it compares scorers at the same FPR."
    return (
        '<section class="long" aria-labelledby="comparison"><h2 id="comparison">Against other scorers</h2>'
        f'<p class="text">{text}</p>' + _table("Scorers", [first, *others], lines) + "</section>"
    )


def _losses(losses: Float[np.ndarray, " n"]) -> str:
    n = len(losses)
    scale = WIDTH / max(n - 1, 1)
    pieces = np.array_split(np.arange(n), min(SMOOTHED, n))
    x = np.array([piece.mean() for piece in pieces]) * scale
    means = np.array([losses[piece].mean() for piece in pieces])
    low, high = np.array([np.quantile(losses[piece], (0.1, 0.9)) for piece in pieces]).T
    axis = Axis.of(np.concatenate([means, high]), from_zero=True)
    marks = f'<path class="band" d="{_area(x, axis.y(low), axis.y(high))}"/>'
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


def _words(evaluation: Evaluation) -> str:
    """What the words on the page mean."""
    words = {
        "Click": "a request that somebody pays for, by a person or a robot",
        "p_robot": "a model's score of a click, from 0 to 1, higher for robots",
        "Slice": "the clicks of one combination, e.g. of device, marketplace and login, with its own threshold",
        "Robotic": "said of a click whose p_robot is above the threshold of its slice, so that nobody is charged",
        "Purchasing click": "one that led to a purchase, so a person made it; nothing is known of most others",
        "IVR": "invalidation rate: the share of all clicks that are called robotic",
        "FPR": "false-positive rate: the share of purchasing clicks that are called robotic, the price of an IVR",
        "Budget": "the highest FPR over all slices together that was allowed when the thresholds were chosen",
        "Cap": "the highest FPR of any one slice that was allowed",
        "Confidence": "the probability with which the budget was to hold for new clicks",
        "Coverage": "the share called robotic of the clicks of sessions that click more in an hour than people do",
        "Interval": "the range in which a rate lies with the stated probability, given how few clicks tell of it",
        "AUC": "0.5 if scores are chance, 1 if every purchasing click scores below every other one",
        "Knee": "the threshold at which IVR is farthest above FPR",
    }
    if evaluation.has_truth:
        words["True recall"] = "the share of the robots' clicks that are called robotic, which only simulations know"
        words["True FPR"] = "the share of all people's clicks that are called robotic, whether or not they buy"
    items = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(meaning)}</dd>" for name, meaning in words.items())
    return f'<details class="words"><summary>The words on this page</summary><dl class="run">{items}</dl></details>'


def _facts(facts: Mapping[str, str]) -> str:
    items = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in facts.items())
    return f'<section aria-labelledby="run"><h2 id="run">This run</h2><dl class="run">{items}</dl></section>'


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


def _table(label: str, head: Sequence[str], rows: Sequence[str]) -> str:
    columns = "".join(f'<th scope="col">{escaped(name)}</th>' for name in head)
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{label}"><table><thead><tr>'
        f"{columns}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _root(fpr: Float[np.ndarray, " n"] | float) -> Float[np.ndarray, " n"]:
    return WIDTH * np.sqrt(fpr)


def _dots(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> str:
    """Lines without length, whose round ends show as dots. NaN is left out."""
    known = ~np.isnan(y)
    return "".join(f"M{a:.0f} {b:.0f}h0" for a, b in zip(x[known].tolist(), y[known].tolist(), strict=True))


def _bars(x: Float[np.ndarray, " n"], low: Float[np.ndarray, " n"], high: Float[np.ndarray, " n"]) -> str:
    """Vertical lines. NaN is left out."""
    known = ~np.isnan(low)
    ends = zip(x[known].tolist(), low[known].tolist(), high[known].tolist(), strict=True)
    return "".join(f"M{a:.0f} {b:.0f}V{c:.0f}" for a, b, c in ends)


def _area(x: Float[np.ndarray, " n"], low: Float[np.ndarray, " n"], high: Float[np.ndarray, " n"]) -> str:
    """The area between two lines. NaN is left out."""
    known = ~np.isnan(low) & ~np.isnan(high)
    if not known.any():
        return ""
    there, back = (zip(x[known].tolist(), y[known].tolist(), strict=True) for y in (low, high))
    points = [(round(a), round(b)) for a, b in (*there, *reversed(tuple(back)))]
    steps = " ".join(f"{c - a} {d - b}" for (a, b), (c, d) in itertools.pairwise(points))
    return f"M{points[0][0]} {points[0][1]}l{steps}z"


def _cell(share: Share) -> str:
    return f"{share.value:.2%}<small>{_interval(share)}</small>" if share.trials else NONE


def _interval(share: Share) -> str:
    return f"{100 * share.low:.2f} to {100 * share.high:.2f}"


def _split(text: str) -> str:
    """A rate as text, with its interval on a line of its own."""
    value, bracket, interval = text.partition(" (")
    return escaped(value) + (f"<small>{escaped(interval.removesuffix(')'))}</small>" if bracket else "")


def _budget_legend(budget: float | None) -> str:
    return "" if budget is None else f'<li><i class="threshold"></i>budget, {budget:.2%}</li>'


def _many(n: int, noun: str) -> str:
    return counted(n, noun, noun.replace("click", "clicks") if "click" in noun else "")


def _level(evaluation: Evaluation) -> str:
    return f"{100 * evaluation.level:g}%"
