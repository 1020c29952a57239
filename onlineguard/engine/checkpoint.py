"""Save and load an Engine: one safetensors file, with everything that is not a tensor as JSON in its header."""

import dataclasses
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from onlineguard.engine import tensorfile
from onlineguard.errors import CheckpointError
from onlineguard.models.detector import Detector
from onlineguard.models.series import Series

VERSION = 1
HEADER = "onlineguard"  # its name among the metadata of the safetensors file
ESTIMATORS: dict[str, Any] = {"Detector": Detector, "Series": Series}


def write(path: str | os.PathLike[str], config: dict[str, Any], estimator: Any, tensors: dict[str, np.ndarray]) -> None:
    """Write a temporary file beside `path`, sync it to the disk, rename it: a crash leaves the old file or this one."""
    kind = type(estimator).__name__
    if kind not in ESTIMATORS:
        raise CheckpointError(f"an engine of {kind} cannot be saved; one of {' or '.join(ESTIMATORS)} can")
    header = {
        "version": VERSION,
        "estimator": {"kind": kind, **{name: _plain(value) for name, value in dataclasses.asdict(estimator).items()}},
        "config": config,
    }
    try:
        metadata = {HEADER: json.dumps(header)}
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the engine's notes cannot be saved: {error}; they must be what JSON holds") from error
    tensorfile.write(path, metadata, tensors)


def restored[T](path: str | os.PathLike[str], build: Callable[[dict[str, Any], Any, dict[str, np.ndarray]], T]) -> T:
    """What `build` makes of what `write` was given: config, estimator and tensors.

    Raises CheckpointError for a file that is missing, truncated, foreign, damaged or newer.
    """
    metadata, tensors = tensorfile.read(path)
    if HEADER not in metadata:
        raise CheckpointError(f"{path} was not written by Engine.save; give the path of a file that was")
    try:
        header = json.loads(metadata[HEADER])
        version = int(header["version"])
        if version <= VERSION:
            estimator = dict(header["estimator"])
            return build(header["config"], ESTIMATORS[estimator.pop("kind")](**estimator), tensors)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{path} is damaged: {type(error).__name__} {error}; use an older copy") from error
    raise CheckpointError(
        f"{path} has format {version} and this version of onlineguard reads up to {VERSION}; upgrade it"
    )


def _plain(value: Any) -> Any:
    """A NumPy scalar as the Python number that JSON can hold."""
    return value.item() if isinstance(value, np.generic) else value
