"""A history made of a log of clicks, as a service would have written it that saw each click at its own time."""

import numpy as np
import polars as pl
from onlineguard_service.history.blocks import Judged, Labelled, Replaced, decode, encode
from onlineguard_service.history.closing import clicks_frame, decisions_frame, labels_frame
from onlineguard_service.history.recorder import Recorder

from onlineguard.slidr.clicks.clicks import SCHEMA
from onlineguard.slidr.features import NAMES, Featuriser
from onlineguard.slidr.history.layout import DECISION, KINDS, LABELS, clicks_schema, parts, standing
from onlineguard.slidr.history.writing import write_part
from onlineguard.slidr.model import FEATURES

ABOUT = {"features": str(FEATURES), "pseudonyms": "no"}


def recorded(frame, X=None, source="", decisions=None, start=1):
    """The clicks as rows of a history, an entry each that arrived at the click's own time, without purchases.

    decisions: columns of `DECISION`; by default nothing is robotic.
    """
    X = Featuriser().transform(frame) if X is None else X
    n = frame.height
    usual = {"score": 0.1, "threshold": 0.5, "slice": "all", "robotic": False, "model": "none", "p_value": None}
    columns = {name: pl.repeat(value, n, eager=True, dtype=DECISION[name]) for name, value in usual.items()}
    return pl.DataFrame(
        {
            "sequence": np.arange(start, start + n),
            "position": pl.zeros(n, pl.Int32, eager=True),
            "t": frame["ts"],
            **{name: frame[name] for name in SCHEMA if name != "purchase_ts"},
            "purchase_ts": pl.repeat(None, n, eager=True, dtype=pl.Int64),
            **{name: X[:, at] for at, name in enumerate(NAMES) if name not in SCHEMA},
            **columns,
            **(decisions or {}),
        }
    ).select(pl.col(name).cast(kind) for name, kind in clicks_schema(NAMES).items())


def told(frame, delay=0, start=1_000_000):
    """The purchases of a log as rows of labels that arrived so many ms after each."""
    bought = frame.filter(pl.col("purchase_ts").is_not_null()).sort("purchase_ts")
    return pl.DataFrame(
        {
            "sequence": np.arange(start, start + bought.height),
            "position": pl.zeros(bought.height, pl.Int32, eager=True),
            "t": bought["purchase_ts"] + delay,
            "click_id": bought["click_id"],
            "purchase_ts": bought["purchase_ts"],
            "rfm": pl.repeat(None, bought.height, eager=True, dtype=pl.Float64),
        }
    ).select(pl.col(name).cast(kind) for name, kind in LABELS.items())


def written(root, clicks, labels=None, every=1_000, source="", about=None):
    """Write both as files of `every` rows."""
    for kind, rows in (("clicks", clicks), ("labels", labels)):
        for start in range(0, 0 if rows is None else rows.height, every):
            part = rows[start : start + every]
            first, last = int(part["sequence"][0]), int(part["sequence"][-1])
            write_part(root, kind, part, first, last, source, {**ABOUT, **(about or {})})
    return root


class Collected(Recorder):
    """A recorder that writes nothing and keeps all."""

    def __init__(self):
        self.blocks = []

    def _keep(self, kind, block):
        self.blocks.append(decode(encode(block)))

    def clicks_frame(self):
        return clicks_frame([block for block in self.blocks if isinstance(block, Judged)], NAMES)

    def labels_frame(self):
        return labels_frame([block for block in self.blocks if isinstance(block, Labelled)])

    def decisions_frame(self):
        return decisions_frame([block for block in self.blocks if isinstance(block, Replaced)])


def assert_history(root, collected):
    """The files hold what was collected, no row more and none twice."""
    for kind in KINDS:
        expected = getattr(collected, f"{kind}_frame")()
        found = [pl.read_parquet(part.path, hive_partitioning=False) for part in standing(parts(root, kind))]
        assert pl.concat([expected.clear(), *found]).equals(expected)
