"""Save and load an Engine: one safetensors file, with everything that is not a tensor as JSON in its header.

Format 2 keeps rows of bits (int32). Format 1 kept every leaf as float32, and is still read.
"""

import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from onlineguard.core.registry import as_plain, from_plain
from onlineguard.engine import tensorfile
from onlineguard.errors import CheckpointError

VERSION = 2
HEADER = "onlineguard"  # the key of the JSON in the metadata of the safetensors file


def write(path: str | os.PathLike[str], config: dict[str, Any], model: Any, tensors: dict[str, np.ndarray]) -> None:
    """Write the file whole or not at all. Raises CheckpointError for a model that is not registered by a name."""
    header = {"version": VERSION, "estimator": as_plain(model), "config": config}
    try:
        metadata = {HEADER: json.dumps(header)}
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"the engine's notes cannot be saved: {error}; keep only values that JSON can hold"
        ) from error
    tensorfile.write(path, metadata, tensors)


def restored[T](path: str | os.PathLike[str], build: Callable[[dict[str, Any], Any, dict[str, np.ndarray]], T]) -> T:
    """The result of `build` for the config, the model and the tensors that `write` saved.

    Raises CheckpointError for a file that is missing, truncated, foreign, damaged or newer, or whose model is not
    registered.
    """
    metadata, tensors = tensorfile.read(path)
    if HEADER not in metadata:
        raise CheckpointError(f"{path} was not written by Engine.save; give the path of a file that was")
    try:
        header = json.loads(metadata[HEADER])
        version = int(header["version"])
        if version <= VERSION:
            return build(header["config"], from_plain(header["estimator"]), tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be loaded: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{path} is damaged: {type(error).__name__} {error}; use an older copy") from error
    raise CheckpointError(
        f"{path} has format {version} and this version of onlineguard reads up to {VERSION}; upgrade onlineguard"
    )
