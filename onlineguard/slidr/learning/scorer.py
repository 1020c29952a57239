"""What all models of SLIDR have in common: the interface, and the one file in which a model is kept.

The file is `scorer.safetensors` in a folder: tensors, and everything else as JSON in their header. No pickle.
"""

import json
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from onlineguard.engine import tensorfile
from onlineguard.errors import CheckpointError, InvalidArgument

FILE = "scorer.safetensors"
VERSION = 1
HEADER = "onlineguard-slidr"  # its name among the metadata of the file

_CLASSES = {
    "Network": "onlineguard.slidr.learning.train",
    "LogisticBaseline": "onlineguard.slidr.learning.baselines",
    "VelocityRule": "onlineguard.slidr.learning.baselines",
}


class Scorer(Protocol):
    """Says how likely a robot made a click. Only the order of the answers matters to calibration."""

    def p_robot(self, X: np.ndarray, categories: np.ndarray | None = None) -> np.ndarray:
        """p_robot (n,) float32 in [0, 1], 1 - p_human, of features X (n, width) float32.

        `categories` (n, 3) uint32 is needed by what learned from it, see `categories.categories`.
        """
        ...

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `scorer.safetensors` into the folder, which is made if need be."""
        ...

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """What `save` wrote. Raises CheckpointError for anything else."""
        ...


def load(folder: str | os.PathLike[str]) -> Scorer:
    """The model in the folder, whichever it is. Raises CheckpointError for a file that does not hold one."""
    kind = _header(Path(folder) / FILE)[0]["kind"]
    if kind not in _CLASSES:
        raise CheckpointError(f"{Path(folder) / FILE} holds a {kind!r}; known are {', '.join(_CLASSES)}")
    return getattr(import_module(_CLASSES[kind]), kind).load(folder)


def write(
    folder: str | os.PathLike[str], kind: str, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> None:
    """Write the file of a model; a crash leaves the old one or this one."""
    target = Path(folder) / FILE
    header = json.dumps({"version": VERSION, "kind": kind, "config": config}, sort_keys=True)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot write {target}: {error.strerror or error}") from error
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    tensorfile.write(target, {HEADER: header}, contiguous)


def read(folder: str | os.PathLike[str], kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Config and tensors of a model of this kind."""
    path = Path(folder) / FILE
    header, tensors = _header(path)
    if header["kind"] != kind:
        raise CheckpointError(f"{path} holds a {header['kind']}, not a {kind}; `scorer.load` takes every kind")
    return header["config"], tensors


def damaged(folder: str | os.PathLike[str], why: object) -> CheckpointError:
    """The error for a file whose header and tensors do not fit together."""
    return CheckpointError(f"{Path(folder) / FILE} is damaged: {why}; use an older copy, or train again")


def matrix(X: np.ndarray, width: int) -> np.ndarray:
    """X as float32 (n, width). Raises InvalidArgument for any other shape."""
    rows = np.asarray(X, np.float32)
    if rows.ndim != 2 or rows.shape[1] != width:
        raise InvalidArgument(f"X has the shape {rows.shape}; this model takes (n, {width}), one row a click")
    return rows


def _header(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    metadata, tensors = tensorfile.read(path, "model", "; name a folder with a model")
    try:
        header = json.loads(metadata[HEADER])
        version, _, _ = int(header["version"]), str(header["kind"]), dict(header["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} was not written by the `save` of a model; name a folder with a model") from error
    if version > VERSION:
        raise CheckpointError(
            f"{path} has format {version}, this version of onlineguard reads up to {VERSION}; upgrade"
        )
    return header, tensors
