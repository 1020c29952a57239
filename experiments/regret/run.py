"""The experiment as a whole: all streams at all lengths, what is claimed of them, and the table that is printed."""

from collections.abc import Sequence
from typing import Any

from experiments.common import Options, Outcome, interval, markdown_table, over, style
from experiments.regret.figures import draw_jump, draw_ratios, draw_regret, draw_slopes
from experiments.regret.measures import ORDER, SLACK, Cell, Regrets, measure, ratio, slope
from experiments.regret.streams import LONG, QUICK, STREAMS, Stream

BEST = 1.5  # the default is to be within this factor of the best fixed rate


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
