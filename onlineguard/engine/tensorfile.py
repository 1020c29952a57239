"""A safetensors file with text in its header: written at once and for good, or not at all; read with clear errors."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from onlineguard.errors import CheckpointError


def write(path: str | os.PathLike[str], metadata: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> None:
    """Write a temporary file beside `path`, sync it to the disk, rename it: a crash leaves the old file or this one.

    `tensors` must be contiguous, in C order. Raises CheckpointError where that cannot be done.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    contents = safetensors.numpy.save(dict(tensors), metadata=dict(metadata))
    try:
        with open(temporary, "wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"cannot write {target}: {error.strerror or error}") from error
    _sync_folder(target.parent)


def read(
    path: str | os.PathLike[str], what: str = "checkpoint", way_out: str = ""
) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata and tensors. Raises CheckpointError where there is no `what`, the error ending in `way_out`."""
    try:
        with safetensors.safe_open(str(path), framework="numpy") as file:  # type: ignore[no-untyped-call]
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}{way_out}") from error
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is no {what}, or a truncated one: {error}") from error


def _sync_folder(folder: Path) -> None:
    """Make a rename in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
