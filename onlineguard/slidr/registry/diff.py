"""Two versions side by side: what they are, what was measured of them, their thresholds, and training features."""

from typing import Any

import numpy as np

from onlineguard.records.versions import FeaturePromise, Record
from onlineguard.slidr.pipeline import slice_name
from onlineguard.slidr.registry.registry import Registry

Row = dict[str, Any]  # name, a, b

METRICS = ("ivr", "fpr", "coverage")


def difference(registry: Registry, a: str, b: str) -> dict[str, list[Row]]:
    """facts, metrics and thresholds as rows of name, a and b; None where one has none. features: name and distance.

    Metrics of two versions are of the days that each was measured on. The distance of a feature is the largest
    difference of its cumulative distributions in training, 0 to 1; the largest comes first.
    """
    records = registry.record(a), registry.record(b)
    models = registry.load(a), registry.load(b)

    def row(name: str, *values: Any) -> Row:
        return {"name": name, "a": values[0], "b": values[1]}

    facts = [row("kind", *(model.config.kind for model in models))]
    facts += [row("slices", *(", ".join(model.config.slices) for model in models))]
    facts += [row(f"training {name}", *(record.trained[name] for record in records)) for name in records[0].trained]
    facts += [
        row(f"option {name}", *(model.options.get(name) for model in models))
        for name in _names(*(m.options for m in models))
    ]
    overall: list[dict[str, Any]] = [record.metrics.get("overall") or {} for record in records]
    metrics = [row(name, *((part.get(name) or {}).get("value") for part in overall)) for name in METRICS]
    metrics.append(row("auc", *(part.get("auc") for part in overall)))
    tables: list[dict[str, float]] = []
    for model in models:
        assert model.thresholds is not None
        names = map(slice_name, model.thresholds.keys)
        tables.append(dict(zip(names, model.thresholds.calibration.thresholds.tolist(), strict=True)))
        tables[-1]["any other slice"] = model.thresholds.calibration.default
    thresholds = [row(name, *(table.get(name) for table in tables)) for name in _names(*tables)]
    return {"facts": facts, "metrics": metrics, "thresholds": thresholds, "features": _distances(*records)}


def _names(*tables: Any) -> list[str]:
    return list(dict.fromkeys(name for table in tables for name in table))


def _distances(a: Record, b: Record) -> list[Row]:
    """How far apart every feature is that both were trained on."""
    if a.promises is None or b.promises is None:
        return []
    both = a.promises.features.keys() & b.promises.features.keys()
    rows = [
        {"name": name, "distance": _distance(a.promises.features[name], b.promises.features[name])}
        for name in sorted(both)
    ]
    return sorted(rows, key=lambda row: -row["distance"])


def _distance(a: FeaturePromise, b: FeaturePromise) -> float:
    """The largest difference of two cumulative distributions at the edges of the first, the second interpolated."""
    if not a.edges or not b.edges:
        return float(bool(a.edges) != bool(b.edges))  # one varied, the other did not
    then = np.cumsum(a.shares)[:-1]
    now = np.interp(a.edges, b.edges, np.cumsum(b.shares)[:-1])
    return float(np.abs(then - now).max())
