"""The experiment: streams, thresholds, what is counted, figures and tables.

A threshold's verdict is 1 (anomaly), 0 (usual) or NaN (it abstains), from the scores up to and including the event's.
"""

import bisect
import math
from typing import Any

import numpy as np
from river import anomaly, base
from scipy import special, stats

from experiments import common
from onlineguard.estimators import AdaptiveThreshold, ClippedChangePoint

# The protocol. The paper's main text says 2,000 events, its appendix 1,000; both are run.
LEVEL = 0.99
LENGTHS = (1000, 2000)
SEGMENT = 300  # mean of the Poisson law of a segment's length
MEANS, VARIANCES = (0.0, 10.0), (0.2, 2.0)
ALPHA = 1e-3  # of the confidence sequence
RUNS = 50

WINDOW = 300  # of the sliding quantile: the mean segment, which favours it
COLD_SHARE = 0.3  # of the stream, from which the fixed threshold is taken

# The run-length threshold. None of it comes from the protocol but the normal shape.
HAZARD = 1 / 500  # risk of a change at an event
PRIOR_EVENTS = 0.05  # what the stream's mean is worth to a new segment: its mean lies within 4.5 of its deviations
PRIOR_SHAPE = 2.0  # what the usual variance is worth to it: four events
CALIBRATION = 10  # events before the first verdict
KEPT = 40  # run lengths kept, the likeliest
DOUBT = (
    0.3,
    0.1,
    0.03,
    0.01,
    0.003,
    0.001,
)  # it abstains if the probability of an anomaly lies between this and 1 - this
DEFAULT_DOUBT = 0.01

PUBLISHED = {  # FP + FN; only the first may abstain, how often is not known to us
    "confidence sequence": {"without shift": 0.0, "with shift": 5.2},
    "fixed threshold": {"without shift": 5.3, "with shift": 195.0},
    "DSpot": {"without shift": 9.1, "with shift": 225.0},
    "online-gradient quantile": {"without shift": 3.9, "with shift": 219.0},
}

RUN_LENGTH, CAUTIOUS = "run lengths, normal", "run lengths, normal, abstaining"
SEQUENCE, NEVER, FIXED = "confidence sequence, abstaining", "never an alarm", "first 30 %, fixed"
ADAPTIVE, RESTARTED = "AdaptiveThreshold", "AdaptiveThreshold, restarted at changes"
WINDOWED, FILTER = "sliding window", "river QuantileFilter"
METHODS = (RUN_LENGTH, CAUTIOUS, ADAPTIVE, RESTARTED, FILTER, WINDOWED, FIXED, NEVER, SEQUENCE)
ABSTAINING = (CAUTIOUS, SEQUENCE)
COLOUR = {
    RUN_LENGTH: common.COLOURS["ours"],
    CAUTIOUS: common.COLOURS["ours"],
    ADAPTIVE: common.COLOURS["unclipped"],
    RESTARTED: common.COLOURS["decay"],
    FILTER: common.COLOURS["peer"],
    WINDOWED: common.COLOURS["peer 2"],
    FIXED: common.COLOURS["constant"],
    NEVER: common.COLOURS["frozen"],
    SEQUENCE: common.COLOURS["derived"],
}
EVERY = 20  # events between two points of a curve


# Streams


def stream(rng: np.random.Generator, length: int, shift: bool, law: str = "normal") -> tuple[np.ndarray, np.ndarray]:
    """Scores, and the quantile of the law of the moment above which a score is an anomaly."""
    scores, truth = np.empty(length), np.empty(length)
    start = 0
    while start < length:
        stop = min(start + int(rng.poisson(SEGMENT)), length) if shift else length
        mean, deviation = rng.uniform(*MEANS), math.sqrt(rng.uniform(*VARIANCES))
        if law == "normal":
            unit, quantile = rng.standard_normal(stop - start), float(stats.norm.ppf(LEVEL))
        else:  # skewed: an exponential law, also of mean 0 and variance 1
            unit, quantile = rng.exponential(size=stop - start) - 1.0, -math.log(1.0 - LEVEL) - 1.0
        scores[start:stop], truth[start:stop] = mean + deviation * unit, mean + deviation * quantile
        start = stop
    return scores, truth


# Thresholds: scores to verdicts, and where it has one to the threshold in force at each event


def confidence_sequence(scores: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    """The paper's: alarm above the confidence sequence of the quantile, usual below, abstain within.

    Where the sequence asks for a level above 1, or not above 0, no score bounds it, and it is infinite.
    """
    verdicts, past = np.full(len(scores), np.nan), [scores[0]]
    for t in range(1, len(scores)):
        width = 2.0 * confidence_width(t, alpha)
        low = past[math.ceil((LEVEL - width) * t) - 1] if LEVEL > width else -math.inf
        high = past[math.ceil((LEVEL + width) * t) - 1] if LEVEL + width < 1.0 else math.inf
        verdicts[t] = 1.0 if scores[t] > high else 0.0 if scores[t] < low else np.nan
        bisect.insort(past, scores[t])
    return verdicts


def confidence_width(n: float, alpha: float) -> float:
    """u_n, in quantile levels: half the width of the sequence on each side after n scores."""
    return 0.85 * math.sqrt((math.log(math.log(math.e * n)) + 0.8 * math.log(1612.0 / alpha)) / n)


def run_lengths(scores: np.ndarray, hazard: float = HAZARD) -> tuple[np.ndarray, np.ndarray]:
    """Probability that each score lies above the quantile of its law, and the threshold of the likeliest segment.

    Scores are normal with a mean and a variance that start anew at times nobody tells. Kept are the posterior of where
    the present segment began and, for each beginning, the normal-inverse-gamma posterior of its mean and variance; a
    new segment is expected around the mean and the usual variance so far.

    Source: Ryan Adams and David MacKay, Bayesian online changepoint detection, arXiv 0710.3742, 2007. Asking it for the
    probability of exceeding a quantile is ours.

    `scores` and both results are (runs, events); NaN during the calibration.
    """
    runs, events = scores.shape
    quantile = stats.norm.ppf(LEVEL)
    probability, threshold = np.full((2, runs, events), np.nan)
    mean, usual = scores[:, :CALIBRATION].mean(1, keepdims=True), scores[:, :CALIBRATION].var(1, keepdims=True)
    new = np.ones((runs, 1))
    # (runs, beginnings): log weight; mean, events it is worth; shape and scale of the variance
    weight, centre, worth = 0.0 * new, mean, (PRIOR_EVENTS + CALIBRATION) * new
    shape, scale = (PRIOR_SHAPE + CALIBRATION / 2) * new, (PRIOR_SHAPE + CALIBRATION / 2) * usual
    for t in range(CALIBRATION, events):
        x = scores[:, t : t + 1]
        # the event belongs to a segment kept, or begins one
        weight = np.concatenate([weight + math.log1p(-hazard), math.log(hazard) * new], 1)
        centre, worth = np.concatenate([centre, mean], 1), np.concatenate([worth, PRIOR_EVENTS * new], 1)
        shape = np.concatenate([shape, PRIOR_SHAPE * new], 1)
        scale = np.concatenate([scale, PRIOR_SHAPE * usual], 1)
        # its predictive density under each is Student's t
        distance = x - centre
        spread = 2.0 * scale * (worth + 1.0) / worth
        weight = weight + special.gammaln(shape + 0.5) - special.gammaln(shape) - 0.5 * np.log(spread)
        weight = weight - (shape + 0.5) * np.log1p(distance**2 / spread)
        scale = scale + 0.5 * worth * distance**2 / (worth + 1.0)
        centre, worth, shape = centre + distance / (worth + 1.0), worth + 1.0, shape + 0.5
        kept = np.argsort(-weight, 1, kind="stable")[:, :KEPT]
        weight, centre, worth, shape, scale = (
            np.take_along_axis(part, kept, 1) for part in (weight, centre, worth, shape, scale)
        )
        weight = weight - weight[:, :1]
        share = np.exp(weight) / np.exp(weight).sum(1, keepdims=True)
        # P((x - mu) / sigma > quantile): 1 / sigma by its mean and variance to first order
        height = (x - centre) * np.sqrt(shape / scale)
        above = special.ndtr((height - quantile) / np.sqrt(1.0 / worth + height**2 / (4.0 * shape)))
        probability[:, t] = (share * above).sum(1)
        threshold[:, t] = centre[:, 0] + quantile * np.sqrt(scale[:, 0] / shape[:, 0])
        mean = mean + (x - mean) / (t + 1)
        usual = usual + ((share * scale / shape).sum(1, keepdims=True) - usual) / (t + 1)
    return probability, threshold


def judged(probability: np.ndarray, doubt: float | None) -> np.ndarray:
    """Verdicts from probabilities: the likelier one, or none in doubt. Usual while there is no probability yet."""
    verdicts = np.where(probability > 0.5, 1.0, 0.0)
    if doubt is None:
        return verdicts
    return np.where((probability <= doubt) | (probability >= 1.0 - doubt), verdicts, np.nan)


class Given(base.AnomalyDetector):
    """The score itself, as a detector that a filter of river can hold."""

    def learn_one(self, x: dict[Any, Any]) -> None:
        """There is nothing to learn."""

    def score_one(self, x: dict[Any, Any]) -> float:
        return x["score"]


def adaptive(scores: np.ndarray, restart: bool) -> tuple[np.ndarray, np.ndarray]:
    """Our AdaptiveThreshold; with `restart`, one that begins anew at each change of the scores' mean.

    The events since the latest place where the change may lie are taught to the new one.
    """
    model, changes = AdaptiveThreshold(Given(), 1.0 - LEVEL), ClippedChangePoint()
    verdicts, thresholds = np.zeros(len(scores)), np.full(len(scores), np.nan)
    for t, x in enumerate(scores.tolist()):
        verdicts[t], thresholds[t] = model.classify(x), model.threshold
        model.learn_one({"score": x})
        if restart:
            changes.update(x)
            if changes.drift_detected and changes.location is not None:
                model = AdaptiveThreshold(Given(), 1.0 - LEVEL)
                for past in scores[changes.location[1] : t + 1].tolist():
                    model.learn_one({"score": past})
    return verdicts, thresholds


def river_filter(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """river's QuantileFilter."""
    model = anomaly.QuantileFilter(Given(), q=LEVEL, protect_anomaly_detector=False)
    verdicts, thresholds = np.zeros(len(scores)), np.full(len(scores), np.nan)
    for t, x in enumerate(scores.tolist()):
        verdicts[t], thresholds[t] = model.classify(x), model.quantile.get() or np.nan
        model.learn_one({"score": x})
    return verdicts, thresholds


def windowed(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The quantile of the latest WINDOW scores, from CALIBRATION on."""
    verdicts, thresholds = np.zeros(len(scores)), np.full(len(scores), np.nan)
    for t in range(CALIBRATION, len(scores)):
        thresholds[t] = np.quantile(scores[max(0, t - WINDOW) : t], LEVEL)
        verdicts[t] = scores[t] > thresholds[t]
    return verdicts, thresholds


def fixed(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The quantile of the first 30 % of the scores, of which none is called an anomaly."""
    cold = int(COLD_SHARE * len(scores))
    thresholds = np.where(np.arange(len(scores)) < cold, np.nan, np.quantile(scores[:cold], LEVEL))
    return np.where(scores > thresholds, 1.0, 0.0), thresholds


# What is counted


def verdicts_of(key: tuple[int, bool, str, str, int]) -> np.ndarray:
    """(runs, events) verdicts of a method: stream length, shift, law, method, runs."""
    length, shift, law, method, runs = key
    scores = np.stack([_stream(length, shift, law, run)[0] for run in range(runs)])
    if method in (RUN_LENGTH, CAUTIOUS):
        return run_lengths(scores)[0]  # probabilities, of which both are made
    if method == NEVER:
        return np.zeros_like(scores)
    one = {
        ADAPTIVE: lambda row: adaptive(row, restart=False)[0],
        RESTARTED: lambda row: adaptive(row, restart=True)[0],
        FILTER: lambda row: river_filter(row)[0],
        WINDOWED: lambda row: windowed(row)[0],
        FIXED: lambda row: fixed(row)[0],
        SEQUENCE: confidence_sequence,
    }[method]
    return np.stack([one(row) for row in scores])


def _stream(length: int, shift: bool, law: str, run: int) -> tuple[np.ndarray, np.ndarray]:
    return stream(common.rng(4, length, shift, law == "normal", run), length, shift, law)


def counted(verdicts: np.ndarray, anomalous: np.ndarray) -> dict[str, Any]:
    """Means over the runs, each with its 95 % interval, and how mistakes grow along the stream."""
    decided = np.isfinite(verdicts)
    positive = decided & (verdicts > 0.5) & ~anomalous
    negative = decided & (verdicts < 0.5) & anomalous
    mistakes = (positive | negative).cumsum(1)[:, EVERY - 1 :: EVERY]
    return {
        "mistakes": common.interval(mistakes[:, -1]),
        "false positives": common.interval(positive.sum(1)),
        "false negatives": common.interval(negative.sum(1)),
        "abstentions": common.interval((~decided).sum(1)),
        "after the first 30 %": common.interval((positive | negative)[:, int(COLD_SHARE * verdicts.shape[1]) :].sum(1)),
        "curve": [common.interval(column).as_list() for column in mistakes.T],
    }


# The run


def run(options: common.Options) -> common.Outcome:
    """Thresholds: mistakes with and without shift, ours beside river's and the published figures."""
    lengths = LENGTHS[:1] if options.quick else LENGTHS
    cells = [(length, shift, "normal") for length in lengths for shift in (False, True)]
    cells.append((lengths[-1], True, "exponential"))
    # the longest first; one pass makes both verdicts of the run lengths
    methods = (RESTARTED, ADAPTIVE, RUN_LENGTH, WINDOWED, FILTER, SEQUENCE, FIXED, NEVER)
    keys = [(*cell, method, options.seeds) for method in methods for cell in cells]
    processes = 1 if options.quick else None
    found = dict(zip(keys, common.over(verdicts_of, keys, "thresholds", processes), strict=True))
    results: dict[str, Any] = {}
    for length, shift, law in cells:
        streams = [_stream(length, shift, law, run) for run in range(options.seeds)]
        anomalous = np.stack([scores > truth for scores, truth in streams])
        cell: dict[str, Any] = {}
        for method in METHODS:
            verdicts = found[(length, shift, law, RUN_LENGTH if method == CAUTIOUS else method, options.seeds)]
            if method in (RUN_LENGTH, CAUTIOUS):
                verdicts = judged(verdicts, DEFAULT_DOUBT if method == CAUTIOUS else None)
            cell[method] = counted(verdicts, anomalous)
        probability = found[(length, shift, law, RUN_LENGTH, options.seeds)]
        trade = {f"{doubt:g}": counted(judged(probability, doubt), anomalous) for doubt in DOUBT}
        for counts in trade.values():
            del counts["curve"]
        results[_name(length, shift, law)] = {"methods": cell, "doubt": trade}
    figures = {"mistakes": _draw_mistakes(results, lengths[-1]), "abstentions": _draw_trade(results, lengths[-1])}
    figures["one_run"] = _draw_one_run(lengths[-1])
    return common.Outcome({"runs": options.seeds, "published": PUBLISHED, "measured": results}, figures, _text(results))


def _name(length: int, shift: bool, law: str) -> str:
    return f"{length:,} events, {law}, {'with' if shift else 'without'} shift"


def _text(results: dict[str, Any]) -> str:
    tables: list[str] = []
    for name, result in results.items():
        rows = []
        for method, counts in result["methods"].items():
            mistakes = counts["mistakes"]
            rows.append(
                [
                    method,
                    f"{mistakes.mean:.2f} ± {mistakes.high - mistakes.mean:.2f}",
                    f"{counts['false positives'].mean:.2f}",
                    f"{counts['false negatives'].mean:.2f}",
                    f"{counts['abstentions'].mean:.1f}",
                ]
            )
        if "normal" in name:
            case = name.rsplit(", ", 1)[1]
            for method, figures in PUBLISHED.items():
                may = "not known" if method == "confidence sequence" else "0.0"
                rows.append([f"published: {method}", f"{figures[case]:g}", "", "", may])
        header = [name, "mistakes", "false positives", "false negatives", "abstentions"]
        tables.append(common.markdown_table(header, rows))
    return "\n\n".join(tables)


def _draw_mistakes(results: dict[str, Any], length: int) -> Any:
    common.style()
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9.5, 5.2), sharey=True)
    at = np.arange(EVERY, length + 1, EVERY)
    floor = 0.1
    for ax, case in zip(axes, ("without shift", "with shift"), strict=True):
        methods = results[f"{length:,} events, normal, {case}"]["methods"]
        for method in METHODS:
            middle, low, high = np.maximum(np.transpose(methods[method]["curve"]), floor)
            dashed = "--" if method in ABSTAINING else "-"
            ax.fill_between(at, low, high, color=COLOUR[method], alpha=0.18, linewidth=0)
            ax.plot(at, middle, dashed, color=COLOUR[method], label=method)
        for method, figures in PUBLISHED.items():
            marker = {"confidence sequence": "s", "fixed threshold": "D", "DSpot": "v"}.get(method, "^")
            place = length * 1.03
            ax.plot(
                [place],
                [max(figures[case], floor)],
                marker,
                color="black",
                markerfacecolor="white",
                markersize=6,
                clip_on=False,
                linestyle="none",
                label=f"published: {method}",
            )
        ax.set_yscale("log")
        ax.set_ylim(floor, 500)
        ax.set_xlim(0, length * 1.06)
        ax.set_title(case)
        ax.set_xlabel("events")
    axes[0].set_ylabel("false positives + false negatives so far")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    figure.suptitle(
        "Mistakes along the stream: mean and its 95 % interval; dashed: may abstain; what is 0 lies on the lower edge",
        fontsize=10,
    )
    return figure


def _draw_trade(results: dict[str, Any], length: int) -> Any:
    common.style()
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9.5, 4.2), sharey=True)
    floor = 0.03
    for ax, case in zip(axes, ("without shift", "with shift"), strict=True):
        result = results[f"{length:,} events, normal, {case}"]
        points = [result["methods"][RUN_LENGTH], *result["doubt"].values()]
        mistakes = [max(point["mistakes"].mean, floor) for point in points]
        ax.plot([p["abstentions"].mean for p in points], mistakes, "o-", color=COLOUR[RUN_LENGTH], markersize=4)
        ax.annotate(
            "run lengths, normal (ours),\nmore doubt to the right",
            (points[1]["abstentions"].mean, mistakes[1]),
            xytext=(12, 6),
            textcoords="offset points",
            color=COLOUR[RUN_LENGTH],
            fontsize=8,
        )
        for method in (SEQUENCE, NEVER, ADAPTIVE, RESTARTED, FILTER, WINDOWED):
            counts = result["methods"][method]
            ax.plot(
                [counts["abstentions"].mean],
                [max(counts["mistakes"].mean, floor)],
                "s",
                color=COLOUR[method],
                label=method,
            )
        ax.axhline(
            max(PUBLISHED["confidence sequence"][case], floor),
            color=COLOUR[SEQUENCE],
            linestyle=":",
            label="published: confidence sequence (abstentions not known)",
        )
        ax.set_yscale("log")
        ax.set_ylim(floor, 500)
        ax.set_xscale("symlog", linthresh=10)
        ax.set_xlim(-0.7, length)
        ticks = [0, 10, 30, 100, 300, 1000]
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.minorticks_off()
        ax.set_title(case)
        ax.set_xlabel(f"abstentions in {length:,} events")
    axes[0].set_ylabel("false positives + false negatives")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    figure.suptitle(
        "Mistakes against abstentions: fewer of both is better; what is 0 lies on the lower edge", fontsize=10
    )
    return figure


def _draw_one_run(length: int) -> Any:
    common.style()
    import matplotlib.pyplot as plt

    scores, truth = _stream(length, True, "normal", 0)
    figure, ax = plt.subplots(figsize=(9.5, 4.6))
    at = np.arange(length)
    odd = scores > truth
    ax.plot(at[~odd], scores[~odd], ".", color="#BBBBBB", markersize=2.5)
    ax.plot(at[odd], scores[odd], "o", color="black", markersize=4, markerfacecolor="white", label="true anomaly")
    ax.plot(at, truth, color="black", linewidth=1.0, label="true 99 % quantile")
    for method, threshold in (
        (FILTER, river_filter(scores)[1]),
        (WINDOWED, windowed(scores)[1]),
        (ADAPTIVE, adaptive(scores, restart=False)[1]),
        (RUN_LENGTH, run_lengths(scores[None])[1][0]),
    ):
        ax.plot(at, np.where(np.isfinite(threshold), threshold, np.nan), color=COLOUR[method], label=method)
    alarms = judged(run_lengths(scores[None])[0][0], None) > 0.5
    ax.plot(at[alarms], scores[alarms], "+", color=COLOUR[RUN_LENGTH], markersize=9, label="alarm of the run lengths")
    ax.set_xlim(0, length)
    ax.set_ylim(scores.min() - 0.5, scores.max() + 1.5)
    ax.set_xlabel("event")
    ax.set_ylabel("score")
    ax.set_title("One stream with shifts: scores, and the thresholds in force")
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    return figure
