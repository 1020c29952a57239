"""A safetensors file with text in its header: written whole or not at all, and read with clear errors."""

import os
from collections.abc import Mapping

import numpy as np
import safetensors
import safetensors.numpy

from onlineguard import atomic
from onlineguard.errors import CheckpointError


def write(path: str | os.PathLike[str], metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> None:
    """Replace the file at `path`: a crash leaves the old file or the new one.

    `tensors` must be contiguous, in C order. Raises CheckpointError where the file cannot be written.
    """
    contents = safetensors.numpy.save(dict(tensors), metadata=dict(metadata))
    try:
        atomic.write(path, contents)
    except OSError as error:
        raise CheckpointError(f"cannot write {os.fspath(path)}: {error.strerror or error}") from error


def read(
    path: str | os.PathLike[str], what: str = "checkpoint", way_out: str = ""
) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata and tensors. Raises CheckpointError if the file is no `what`, or cannot be read.

    way_out: the end of the message about a file that cannot be read.
    """
    try:
        with safetensors.safe_open(str(path), framework="numpy") as file:  # type: ignore[no-untyped-call]
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}{way_out}") from error
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is no {what}, or a truncated one: {error}") from error
