"""A hash of nested dictionaries, lists, arrays and plain values: the same for the same state in every process."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np


def digest(state: dict[str, Any]) -> str:
    """SHA-256, in hexadecimal."""
    found = hashlib.sha256()
    _hash(state, found.update)
    return found.hexdigest()


def _hash(value: Any, update: Callable[[bytes], None]) -> None:
    if isinstance(value, dict):
        for name in sorted(value):
            update(f"{name}:".encode())
            if name == "hours":  # shards by a hash that differs from process to process
                merged = sorted(repr(pair) for shard in value[name] for pair in shard.items())
                update(repr(merged).encode())
            else:
                _hash(value[name], update)
    elif isinstance(value, np.ndarray):
        update(f"{value.dtype}{value.shape}".encode())
        update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, (list, tuple)):
        update(f"[{len(value)}".encode())
        for item in value:
            _hash(item, update)
    else:
        update(repr(value).encode())
