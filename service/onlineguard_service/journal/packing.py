"""Nested dictionaries of arrays and plain values to bytes and back, for snapshots, by MessagePack."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

_ARRAY = 1  # code of the extension


def pack(value: Any) -> bytes:
    """Dictionaries with text keys, lists, numbers, text, bytes, None, arrays of numbers; tuples come back as lists."""
    return _encoder.encode(value)


class Packed(Mapping[str, bytes]):
    """A dictionary of values, each packed when it is first asked for: in the thread that writes it, not in the loop."""

    def __init__(self, values: Mapping[str, Any]):
        self._values = values
        self._packed: dict[str, bytes] = {}

    def __getitem__(self, name: str) -> bytes:
        if name not in self._packed:
            self._packed[name] = pack(self._values[name])
        return self._packed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def unpack(data: bytes, copy: bool = True) -> Any:
    """What was packed. Raises msgspec.DecodeError for anything else.

    Without `copy` the arrays are read-only views of the data: for those who copy them anyway.
    """
    return (_decoder if copy else _viewing).decode(data)


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        header = msgspec.msgpack.encode([value.dtype.str, list(value.shape)])
        return msgspec.msgpack.Ext(_ARRAY, len(header).to_bytes(2) + header + np.ascontiguousarray(value).tobytes())
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a {type(value).__name__} cannot be packed")


def _decode(code: int, data: memoryview) -> Any:
    return _view(code, data).copy()  # a view could not be written


def _view(code: int, data: memoryview) -> Any:
    if code != _ARRAY:
        raise msgspec.DecodeError(f"extension {code} is unknown")
    end = 2 + int.from_bytes(data[:2])
    dtype, shape = msgspec.msgpack.decode(data[2:end])
    return np.frombuffer(data[end:], np.dtype(dtype)).reshape(shape)


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode)
_decoder = msgspec.msgpack.Decoder(ext_hook=_decode)
_viewing = msgspec.msgpack.Decoder(ext_hook=_view)
