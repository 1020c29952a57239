"""MNIST in a stream whose normal digit switches: scores of every model, claims and tables."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from experiments.common import COLOURS, Options, interval, markdown_table, over, rng
from experiments.mnist_drift.data import Digits, load
from experiments.mnist_drift.measures import TARGETS, alarms, auroc, best_misses, course, measured, recovered
from experiments.mnist_drift.models import River, supervised, unsupervised
from experiments.mnist_drift.streams import Stream, corrupted, draw
from onlineguard.core.neighbours import Fitness, Neighbours
from onlineguard.engine.schedules import scan, scan_lanes

ANOMALY_RATES = (0.01, 0.05, 0.1, 0.2)
ANGLES = (0.0, 30.0, 45.0, 180.0)  # degrees; each image is turned by up to that much, either way
CORRUPTIONS = (("none", 0.0), ("pixels", 0.05), ("pixels", 0.2), ("labels", 0.05), ("labels", 0.2))
USUAL = (0.05, 30.0)  # anomaly rate and angle of the long streams
LONG = np.geomspace(500, 5_000, 10).astype(int)  # segment lengths of the long stream, shuffled anew for each seed
ALIGNED = (1_000,) * 4  # and of streams whose switches coincide, to average over seeds
SHORT = (1_000,) * 3  # and of those in the sweep
QUICK_LONG = QUICK_ALIGNED = QUICK_SHORT = (400, 400)  # of one length, so that models compile once
RIVER_SEEDS = 3  # of the sweep: river takes 0.5 ms an image
RESAMPLES = 1_000  # bootstrap over seeds
ROLLING = 250  # images of the running AUROC

Cell = tuple[float, float, tuple[str, float]]  # of the sweep: anomaly rate, angle, and kind and share of corruption

STYLES: dict[str, tuple[str, str]] = {  # what is drawn, in which colour and line
    "neighbours": (COLOURS["ours"], "-"),
    "FITNESS": (COLOURS["derived"], "-"),
    "location and scale": (COLOURS["decay"], "-"),
    "mean, derived": (COLOURS["constant"], "-"),
    "mean, derived, unclipped": (COLOURS["unclipped"], "--"),
    "mean, frozen": (COLOURS["frozen"], ":"),
    "river HalfSpaceTrees": (COLOURS["peer"], "-"),
    "river LODA": (COLOURS["peer 2"], "-"),
    "river OneClassSVM": (COLOURS["peer 3"], "-."),
}
LABELLED_STYLES: dict[str, tuple[str, str]] = {
    "neighbours": (COLOURS["ours"], "-"),
    "LR, constant": (COLOURS["constant"], "-"),
    "LR, Experts": (COLOURS["derived"], "-"),
    "LR, constant, unclipped": (COLOURS["unclipped"], "--"),
    "LR, frozen": (COLOURS["frozen"], ":"),
    "river LogisticRegression": (COLOURS["peer"], "-"),
}


# ----------------------------------------------------------------------------------------------------------- scores


def scores(models: Mapping[str, Any], events: Any) -> dict[str, Float[np.ndarray, "streams n"]]:
    """Every model's scores over streams of one length; arrays of `events` have the streams on their first axis."""
    streams, n = jax.tree.leaves(events)[0].shape[:2]
    found: dict[str, np.ndarray] = {}
    for name, model in models.items():
        if isinstance(model, Neighbours | Fitness):  # their states fill the cache: one stream after the other
            each = [scan(model, model.init(), jax.tree.map(lambda a, i=i: a[i], events))[1] for i in range(streams)]
            found[name] = np.stack([np.asarray(one) for one in each])
        else:
            states = jax.tree.map(lambda leaf: np.stack([leaf] * streams), model.init())
            found[name] = np.asarray(scan_lanes(model, states, events, np.ones((streams, n), bool))[1])
    return found


def scores_of(
    streams: Sequence[Stream], labelled: bool, ours: bool = True, river: bool = True
) -> dict[str, np.ndarray]:
    """Scores (streams, n) of all models of a reading over streams of one length."""
    pixels = np.stack([stream.pixels for stream in streams])
    revealed = np.stack([stream.revealed for stream in streams])
    side = round(pixels.shape[-1] ** 0.5)
    found: dict[str, np.ndarray] = {}
    if ours:
        models = supervised(side) if labelled else unsupervised(side)
        found |= scores(models, (pixels, revealed) if labelled else pixels)
    if river:
        peer = River(side)
        each = [
            peer.supervised(stream.pixels, stream.revealed) if labelled else peer.unsupervised(stream.pixels)
            for stream in streams
        ]
        found |= {name: np.stack([one[name] for one in each]) for name in each[0]}
    return {name: np.nan_to_num(s, nan=-np.inf, posinf=np.inf, neginf=-np.inf) for name, s in found.items()}


# ------------------------------------------------------------------------------------- one seed's work, in a process


@dataclass(frozen=True)
class Work:
    """What a process is asked for."""

    kind: str  # long, aligned, sweep, sweep with river
    seed: int
    quick: bool
    data: Path | None


@functools.lru_cache(1)
def _digits(data: Path | None, quick: bool) -> Digits:
    return load(data, quick)


def done(work: Work) -> Any:
    """The result of one piece of work: plain numbers and arrays."""
    digits = _digits(work.data, work.quick)
    if work.kind == "long":
        return _long(digits, work)
    if work.kind == "aligned":
        return _aligned(digits, work)
    return _sweep(digits, work)


def _long(digits: Digits, work: Work) -> dict[str, Any]:
    """Every measure of every model over one long stream; both readings."""
    lengths = rng(3, work.seed).permutation(QUICK_LONG if work.quick else LONG).tolist()
    stream = draw(digits, work.seed, lengths, *USUAL)
    found = {name: one[0] for labelled in (False, True) for name, one in scores_of([stream], labelled).items()}
    judged = alarms(found, stream)
    return {
        name: (measured(one, stream) | judged[name] | best_misses(one, stream), course(one, stream))
        for name, one in found.items()
    }


def _aligned(digits: Digits, work: Work) -> dict[str, Any]:
    """Running AUROC through three switches; of the first seed also what the pictures show."""
    stream = draw(digits, work.seed, QUICK_ALIGNED if work.quick else ALIGNED, *USUAL)
    found = {
        name: one[0]
        for labelled, styles in ((False, STYLES), (True, LABELLED_STYLES))
        for name, one in scores_of([stream], labelled).items()
        if name in styles
    }
    ends = np.arange(ROLLING, len(stream.pixels) + 1, 10)
    running = {
        name: np.array([auroc(one[end - ROLLING : end], stream.anomalous[end - ROLLING : end]) for end in ends])
        for name, one in found.items()
    }
    picture = (stream, found) if work.seed == 0 else None
    return {"ends": ends, "running": running, "picture": picture}


def cells(labelled: bool, quick: bool) -> list[Cell]:
    """Anomaly rate, angle and corruption of every cell of the sweep; labels can only be corrupted where told."""
    rates_, angles = (ANOMALY_RATES[1:2], ANGLES[1:2]) if quick else (ANOMALY_RATES, ANGLES)
    kinds = [corruption for corruption in CORRUPTIONS if labelled or corruption[0] != "labels"]
    return [(rate, angle, kind) for kind in kinds for rate in rates_ for angle in angles]


def _sweep(digits: Digits, work: Work) -> dict[bool, dict[str, list[list[float]]]]:
    """AUROC, settled and after a switch, of every model in every cell; by reading."""
    river = work.kind == "sweep with river"
    lengths = QUICK_SHORT if work.quick else SHORT
    clean = {cell[:2]: draw(digits, work.seed, lengths, *cell[:2]) for cell in cells(False, work.quick)}
    found: dict[bool, dict[str, list[list[float]]]] = {False: {}, True: {}}
    for labelled, of_reading in found.items():
        streams = [corrupted(clean[rate, angle], work.seed, *kind) for rate, angle, kind in cells(labelled, work.quick)]
        for name, each in scores_of(streams, labelled, not river, river).items():
            values = [measured(one, stream) for one, stream in zip(each, streams, strict=True)]
            of_reading[name] = [[v["auroc settled"], v["auroc after switch"]] for v in values]
    return found


# ---------------------------------------------------------------------------------------------------------- results


@dataclass(frozen=True)
class Found:
    """All that was measured, seeds on the first axis of every array."""

    measures: dict[str, dict[str, np.ndarray]]  # on the long stream, by model and measure
    courses: dict[str, np.ndarray]  # pairs since a switch, by model
    ends: np.ndarray  # last image of each window of the running AUROC
    running: dict[str, np.ndarray]
    picture: tuple[Stream, dict[str, np.ndarray]]
    sweep: dict[bool, dict[str, np.ndarray]]  # (seeds, cells, 2), by reading and model


def collect(options: Options) -> Found:
    """Do all the work, in as many processes as there are cores."""
    kinds = {"long": options.seeds, "aligned": options.seeds, "sweep": options.seeds}
    kinds["sweep with river"] = min(options.seeds, RIVER_SEEDS)
    keys = [Work(kind, seed, options.quick, options.data) for kind, count in kinds.items() for seed in range(count)]
    _digits(options.data, options.quick)  # what is wrong with the data is said before any process starts
    results = over(done, keys, "streams", processes=1 if options.quick else None)
    by_kind = {kind: [result for key, result in zip(keys, results, strict=True) if key.kind == kind] for kind in kinds}
    long, aligned = by_kind["long"], by_kind["aligned"]
    names = list(long[0])
    return Found(
        {name: {m: np.array([one[name][0][m] for one in long]) for m in long[0][name][0]} for name in names},
        {name: np.stack([one[name][1] for one in long]) for name in names},
        aligned[0]["ends"],
        {name: np.stack([one["running"][name] for one in aligned]) for name in aligned[0]["running"]},
        aligned[0]["picture"],
        {
            labelled: {
                name: np.array([one[labelled][name] for one in by_kind[kind]])
                for kind in ("sweep", "sweep with river")
                for name in by_kind[kind][0][labelled]
            }
            for labelled in (False, True)
        },
    )


def recovery(found: Found, name: str, level: float | None = None) -> dict[str, float]:
    """Images until recovered, over all seeds, with a bootstrap interval over seeds."""
    pairs = found.courses[name]
    seeds = len(pairs)
    counts = rng(4).multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES)
    low, high = np.quantile(recovered(np.tensordot(counts, pairs, 1), level), (0.025, 0.975), method="nearest")
    return {"images": float(recovered(pairs.sum(0), level)), "low": float(low), "high": float(high)}


def over_cells(found: Found, labelled: bool, name: str, quick: bool, kinds: Sequence[tuple[str, float]]) -> np.ndarray:
    """Settled AUROC, mean over the sweep's cells of these corruptions, a number a seed."""
    chosen = [i for i, cell in enumerate(cells(labelled, quick)) if cell[2] in kinds]
    return np.nanmean(found.sweep[labelled][name][:, chosen, 0], axis=1)


def claims(found: Found, quick: bool) -> dict[str, Any]:
    """What was to be shown, as numbers."""
    rates_ = ("1/t", "constant", "derived", "Experts")
    clean = [CORRUPTIONS[0]]
    said: dict[str, Any] = {}
    for labelled, model, kinds in ((False, "mean", ("pixels",)), (True, "LR", ("pixels", "labels"))):
        for kind in kinds:
            hit = [corruption for corruption in CORRUPTIONS if corruption[0] == kind]
            said[f"{model}, {kind} corrupted: mean over the sweep"] = {
                name: interval(over_cells(found, labelled, name, quick, hit))
                for rate in rates_
                for name in (f"{model}, {rate}", f"{model}, {rate}, unclipped")
            }
        said[f"{model}, nothing corrupted: what the clip adds"] = {
            rate: interval(
                over_cells(found, labelled, f"{model}, {rate}", quick, clean)
                - over_cells(found, labelled, f"{model}, {rate}, unclipped", quick, clean)
            )
            for rate in rates_
        }
    unlabelled = found.sweep[False]
    said["neighbours: mean over the sweep"] = {
        f"{kind} {share:g}": {
            name: interval(over_cells(found, False, name, quick, [(kind, share)]))
            for name in unlabelled
            if name.startswith(("neighbours", "FITNESS"))
        }
        for kind, share in CORRUPTIONS
        if kind != "labels"
    }
    for peer in (name for name in unlabelled if name.startswith("river")):
        count = len(unlabelled[peer])
        margin = np.nanmean(unlabelled["neighbours"][:count, :, 0] - unlabelled[peer][:, :, 0], axis=0)
        said[f"neighbours less {peer}, settled AUROC"] = {
            "least over the cells": margin.min(),
            "mean": margin.mean(),
            "cells led": int((margin > 0).sum()),
            "cells": len(margin),
        }
    return said


def results(found: Found, options: Options) -> dict[str, Any]:
    """What results.json holds."""
    about = {
        "data": _digits(options.data, options.quick).source,
        "seeds": options.seeds,
        "seeds of river in the sweep": min(options.seeds, RIVER_SEEDS),
        "quick": options.quick,
    }
    return about | tabulate(found, options.quick)


def tabulate(found: Found, quick: bool) -> dict[str, Any]:
    """results.json without what it says about the run itself."""
    return {
        "long stream": {
            name: {measure: interval(values) for measure, values in measures.items()}
            | {
                "images until within 0.02 of the own settled AUROC": recovery(found, name),
                "images until AUROC 0.85": recovery(found, name, 0.85),
            }
            for name, measures in found.measures.items()
        },
        "sweep": {
            "(a) labels revealed" if labelled else "(b) no labels": {
                f"{kind} {share:g}, {rate:g} anomalous, {angle:g} degrees": {
                    name: {
                        "settled": interval(values[:, i, 0]),
                        "after switch": float(np.nanmean(values[:, i, 1]))
                        if np.isfinite(values[:, i, 1]).any()
                        else None,
                    }
                    for name, values in found.sweep[labelled].items()
                }
                for i, (rate, angle, (kind, share)) in enumerate(cells(labelled, quick))
            }
            for labelled in (False, True)
        },
        "claims": claims(found, quick),
    }


def table(found: Found) -> str:
    """The long stream in Markdown."""
    rows = []
    for name, measures in found.measures.items():
        images = [recovery(found, name)["images"], recovery(found, name, 0.85)["images"]]
        judged = [[100 * measures[f"{what} at {t:g}"].mean() for what in ("false alarms", "misses")] for t in TARGETS]
        rows.append(
            [
                name,
                *(interval(measures[m]) for m in ("auroc settled", "ap settled", "auroc after switch")),
                *(f"{count:.0f}" if np.isfinite(count) else "never" for count in images),
                *(f"{false:.1f} / {missed:.0f}" for false, missed in judged),
            ]
        )
    header = ["model", "AUROC settled", "AP settled", "AUROC first 300", "to own - 0.02", "to 0.85"]
    return markdown_table([*header, *(f"FA / miss % at {t:g}" for t in TARGETS)], rows)


def sweep_table(found: Found, quick: bool) -> str:
    """The mean over the sweep's anomaly rates and angles in Markdown, a column a corruption."""
    rows = []
    for labelled, of_reading in found.sweep.items():
        for name in of_reading:
            columns = [
                interval(over_cells(found, labelled, name, quick, [kind])) if labelled or kind[0] != "labels" else ""
                for kind in CORRUPTIONS
            ]
            rows.append([name, len(of_reading[name]), *columns])
    header = [f"{kind} {100 * share:g} %" if share else "nothing corrupted" for kind, share in CORRUPTIONS]
    return markdown_table(["AUROC settled, mean over the sweep", "seeds", *header], rows)
