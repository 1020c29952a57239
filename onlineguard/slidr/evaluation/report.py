"""The evaluation of a scorer as one self-contained HTML file, without scripts and without links to other hosts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onlineguard.report.formats import counted
from onlineguard.report.template import filled
from onlineguard.report.writing import escaped, write_page
from onlineguard.slidr.evaluation import charts
from onlineguard.slidr.evaluation.evaluation import NONE, Evaluation, Group, Row, Share, auc_text, threshold_text
from onlineguard.slidr.evaluation.markup import interval_text, level_text, share_cell, table

CURVES = 12  # slices whose curves are drawn: those with the most clicks
ROWS = 60  # in the table of slices
FEW = 100  # clicks of a slice whose rates say next to nothing; it is folded away
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
        charts.reliability(evaluation),
        charts.hourly(extras.hourly, evaluation.budget) if extras.hourly else "",
        _comparison(extras.comparison) if extras.comparison else "",
        charts.losses(np.asarray(extras.losses, np.float64))
        if extras.losses is not None and len(extras.losses)
        else "",
        _facts(facts) if facts else "",
        _words(evaluation),
    ]
    page = filled(
        escaped(title),
        style=_STYLE,
        tiles=_tiles(evaluation) + f'<p class="lead">{_verdict(evaluation)}</p>',
        table=charts.curves(evaluation, drawn),
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
        (name, f"{share.value:.2%}", f"{interval_text(share)}%<br>{share.hits:,} of {_many(share.trials, noun)}")
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
    """A few sentences: which clicks were measured, whether the budget was kept, and what the truth says of it."""
    unseen = evaluation.unseen()
    said = _of_purchases(evaluation)
    return said if unseen is None else f"{said} <strong>But {escaped(unseen)}.</strong>"


def _of_purchases(evaluation: Evaluation) -> str:
    """What purchases say."""
    all_, budget = evaluation.overall, evaluation.budget
    of = f"{counted(all_.clicks, 'click')}, {_many(all_.purchases, 'purchasing click')}; thresholds by method "
    of += f"&ldquo;{escaped(evaluation.method)}&rdquo;"
    if evaluation.confidence is not None:
        of += f" at confidence {evaluation.confidence:g}"
    of += f"; exact {level_text(evaluation)} intervals, which take clicks as independent. "
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
        cells += [share_cell(share) for share in shares if share is not None]
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
            f"{table('Small slices', head, [row(group) for group in few[:ROWS]])}</details>"
        )
    number = _many(len(groups) + len(few), "slice")
    return (
        f'<section class="long"><h2>Slices</h2><p class="text">{number} with their thresholds: a click whose '
        f"p_robot is above its slice's is robotic. Below each rate is its {level_text(evaluation)} interval, in "
        f"percent.{more}</p>" + table("Slices", head, [row(group) for group in shown]) + folded + "</section>"
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
        f'<p class="text">{text}</p>' + table("Scorers", [first, *others], lines) + "</section>"
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


def _split(text: str) -> str:
    """A rate as text, with its interval on a line of its own."""
    value, bracket, interval = text.partition(" (")
    return escaped(value) + (f"<small>{escaped(interval.removesuffix(')'))}</small>" if bracket else "")


def _many(n: int, noun: str) -> str:
    return counted(n, noun, noun.replace("click", "clicks") if "click" in noun else "")
