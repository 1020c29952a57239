"""A version of the lookups: one file that is mapped into memory, read only, and never changes.

It is a safetensors file, which many tools read: 8 bytes of length, a header in JSON, then the arrays.

| array | |
|---|---|
| `<table>.keys` | uint64 (n,), ascending: the keys of the entities, see `columns` |
| `<table>.values` | float32 (n, columns): their numbers, just as features have them |
| `networks4.keys`, `networks6.keys` | uint64 (n,), ascending: where ranges of addresses begin; the next one ends each |
| `networks4.values`, `networks6.values` | float32 (n, 1): 1 if the range is a hosting company's |

The metadata are those of `About`, as text. A batch is found by one call of NumPy; `single` finds one click. Nothing is
copied: pages of the file are read when they are first needed, and processes share them.
"""

import hashlib
import json
import math
import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors.numpy
from jaxtyping import Float32

from onlineguard import atomic
from onlineguard.errors import CheckpointError
from onlineguard.slidr.lookups.columns import COLUMNS, NETWORKS, TABLES, Keys
from onlineguard.slidr.lookups.single import Single, Table

FORMAT = 1
SUFFIX = ".safetensors"

_AGAIN = "remove it, and build it again"
_NUMBERS = {"U64": np.uint64, "F32": np.float32}


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a version says of itself; times in ms since 1970 UTC."""

    as_of: int  # nothing in it is of this time or later
    since: int  # clicks from this time on are looked up in it
    days: int  # that baselines are means of
    built_from: str
    hosting: str  # where the networks come from; empty without any
    onlineguard: str
    sha256: str = ""  # of the rest of this as JSON, and of all arrays in the order of their names
    format: int = FORMAT


def write_version(path: Path, about: About, tables: Mapping[str, Table]) -> bool:
    """Write a version, whole and durably. False, with nothing changed, if the file is there already. Raises OSError."""
    arrays = {
        f"{name}.{part}": np.ascontiguousarray(array) for name, table in tables.items() for part, array in _parts(table)
    }
    about = msgspec.structs.replace(about, sha256=_sha256(about, arrays))
    metadata = {name: str(value) for name, value in msgspec.to_builtins(about).items()}
    return atomic.create(path, safetensors.numpy.save(arrays, metadata))


class Version:
    """A version as its file has it. Raises CheckpointError where that is none, damaged or newer."""

    def __init__(self, path: Path):
        self.name = path.name.removesuffix(SUFFIX)
        self.path = path
        try:
            with path.open("rb") as file:
                self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # of an empty file
            raise CheckpointError(f"cannot read {path}: {error}; {_AGAIN}") from error
        try:
            start = 8 + int.from_bytes(self._memory[:8], "little")
            header: dict[str, Any] = json.loads(self._memory[8:start])
            self.about = msgspec.convert(header.pop("__metadata__"), About, strict=False)
            if self.about.format > FORMAT:
                raise CheckpointError(
                    f"{path} has format {self.about.format}, and this onlineguard reads up to {FORMAT}; upgrade it"
                )
            arrays = {name: self._array(start, **where) for name, where in header.items()}
            self.tables = {
                name: Table(arrays[f"{name}.keys"], arrays[f"{name}.values"]) for name in (*TABLES, *NETWORKS)
            }
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, msgspec.MsgspecError) as error:
            raise CheckpointError(f"{path} is no version of the lookups: {error}; {_AGAIN}") from error
        self._arrays = arrays
        self.single = Single(self.tables)

    def check(self) -> "Version":
        """Itself, if it is as it was written, which reads all of it. Raises CheckpointError."""
        if _sha256(self.about, self._arrays) != self.about.sha256:
            raise CheckpointError(f"{self.path} is damaged: its hash is another than it says; {_AGAIN}")
        return self

    def numbers_of(self, keys: Keys) -> Float32[np.ndarray, "n columns"]:
        """The numbers of n clicks."""
        out = np.zeros((len(keys.user), len(COLUMNS)), np.float32)
        start = 0
        for (name, columns), asked in zip(TABLES.items(), (keys.user, *keys[:4]), strict=True):
            table = self.tables[name]
            at = np.searchsorted(table.keys, asked)
            within = np.flatnonzero(at < len(table.keys))
            known = within[table.keys[at[within]] == asked[within]]
            out[known, start : start + len(columns)] = table.values[at[known]]
            start += len(columns)
        for name, version in zip(NETWORKS, (4, 6), strict=True):
            table = self.tables[name]
            at = np.searchsorted(table.keys, keys.number, side="right") - 1
            inside = (keys.version == version) & (at >= 0)
            out[inside, start] = table.values[at[inside], 0]
        return out

    def _array(self, start: int, dtype: str, shape: Sequence[int], data_offsets: Sequence[int]) -> np.ndarray:
        begin, end = data_offsets
        if start + end > len(self._memory):
            raise ValueError("it is truncated")
        if begin == end:
            return np.empty(shape, _NUMBERS[dtype])
        return np.frombuffer(self._memory, _NUMBERS[dtype], math.prod(shape), start + begin).reshape(shape)


def _parts(table: Table) -> Iterator[tuple[str, np.ndarray]]:
    return zip(table._fields, table, strict=True)


def _sha256(about: About, arrays: Mapping[str, np.ndarray]) -> str:
    hashed = hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(about, sha256="")))
    for name in sorted(arrays):
        hashed.update(f"{name} {arrays[name].shape}".encode())
        hashed.update(arrays[name].data if arrays[name].size else b"")
    return hashed.hexdigest()
