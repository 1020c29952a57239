"""A log of clicks in a file, ready for a model: read, in order of time, and its features counted once.

The commands `train`, `calibrate`, `evaluate` and `score` use the same features of the same log. Counting takes far
longer than reading, so the features are kept beside the log:

    clicks.parquet.features-3f2a91c07b5e.npy

The digits are of a hash of the log's bytes, of the mapping, and of what makes the features: another log, mapping, time
zone, version of the lookups or of the features has other digits, and what is kept for an earlier state of the log is
removed. A file that cannot be written or read is done without.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

import onlineguard
from onlineguard import atomic
from onlineguard.slidr.clicks.clicks import Mapping, read_clicks
from onlineguard.slidr.clicks.order import in_order, late
from onlineguard.slidr.features import NAMES, WIDTH, Featuriser
from onlineguard.slidr.model import FEATURES
from onlineguard.slidr.pipeline import Config, Prepared, prepare

Progress = Callable[[int], None]


class Log(NamedTuple):
    """The clicks of a file, and what was done to read them."""

    frame: pl.DataFrame
    late: int  # clicks that were out of order, for which all were sorted by time; 0 if the log was in order
    features: Path  # where the features are kept
    kept: np.ndarray | None  # those that an earlier command kept


def read_log(path: Path, mapping: Path | None, rejects: Path | None, featuriser: Featuriser) -> Log:
    """The clicks in order of time. Raises what `read_clicks` does."""
    frame = read_clicks(path, None if mapping is None else Mapping.load(mapping), rejects)
    out_of_order = 0 if in_order(frame) else late(frame["ts"].to_numpy())
    if out_of_order:
        frame = frame.sort("ts", maintain_order=True)
    hashed = hashlib.sha256()
    for source in (path, mapping):
        if source is not None:
            with source.open("rb") as file:
                hashed.update(hashlib.file_digest(file, "sha256").digest())
    made_by = [onlineguard.__version__, FEATURES, NAMES, sorted(featuriser.timezones.items())]
    if featuriser.lookups is not None:
        made_by += [[version.about.since, version.about.sha256] for version in featuriser.lookups.versions]
    hashed.update(json.dumps(made_by).encode())
    features = path.with_name(f"{path.name}.features-{hashed.hexdigest()[:12]}.npy")
    return Log(frame, out_of_order, features, _kept(features, frame.height))


def prepare_log(log: Log, config: Config, featuriser: Featuriser, progress: Progress | None = None) -> Prepared:
    """The log for the models, with the features that were kept for it, or else counted and kept now."""
    prepared = prepare(log.frame, config, featuriser, progress, log.kept)
    if log.kept is None:
        _keep(log.features, prepared.X)
    return prepared


def _kept(path: Path, n: int) -> np.ndarray | None:
    try:
        X = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return X if X.shape == (n, WIDTH) and X.dtype == np.float32 else None


def _keep(path: Path, X: np.ndarray) -> None:
    log = path.name.rpartition(".features-")[0]
    try:
        with atomic.replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, X, allow_pickle=False)
        for other in path.parent.iterdir():
            if other != path and other.name.startswith(f"{log}.features-") and other.suffix == ".npy":
                other.unlink()
    except OSError:
        pass  # the log stands where nothing may be written
