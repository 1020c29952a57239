"""Rows of NDJSON: one JSON object a line. What stands in an object within it has a name with a dot: service.name."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import polars as pl

from onlineguard.sources.blocks import UNREADABLE
from onlineguard.sources.kinds import as_cells
from onlineguard.sources.lines import MAX_LINE_BYTES, Lines
from onlineguard.sources.numerals import PLAIN
from onlineguard.sources.rejects import Reject, shortened
from onlineguard.sources.rows import HEAD_ROWS, Columns, FieldRows


class JsonLines:
    """A `Table` of NDJSON. The first chunk with objects must have every column; later a field may lack."""

    numerals = PLAIN

    def __init__(self, lines: Lines):
        self._lines = lines
        self._read: list[tuple[bytes, list[dict[str, Any]], list[int], list[Reject], int]] = []
        self._line_number = 1
        objects: list[dict[str, Any]] = []
        self._failure: BaseException | None = None
        try:
            while not objects and (chunk := lines.chunk()):
                self._read.append(self._chunk(chunk))
                objects = self._read[-1][1]
        except UNREADABLE as error:
            if not self._read:
                raise
            self._failure = error
        self.names = list(dict.fromkeys(name for row in objects for name in row))
        self.sample: Mapping[str, pl.Series] = {
            name: as_cells([row.get(name) for row in objects[:HEAD_ROWS]]) for name in self.names
        }

    def describe(self) -> str:
        return "JSON, an object a line"

    def rows(self, columns: Columns) -> Iterator[FieldRows]:
        """The rows of each chunk of lines."""
        names = columns.found_in(self.names) if self.names else []
        for chunk in self._chunks():
            text, objects, numbers, rejects, first = chunk
            yield FieldRows(
                {name: [row.get(name) for row in objects] for name in names},
                np.asarray(numbers, np.int64),
                lambda i, text=text, numbers=numbers, first=first: text.split(b"\n")[numbers[i] - first],
                rejects,
            )

    def _chunks(self) -> Iterator[tuple[bytes, list[dict[str, Any]], list[int], list[Reject], int]]:
        while self._read:
            yield self._read.pop(0)
        if self._failure is not None:
            raise self._failure
        while chunk := self._lines.chunk():
            yield self._chunk(chunk)

    def _chunk(self, chunk: bytes) -> tuple[bytes, list[dict[str, Any]], list[int], list[Reject], int]:
        texts, first = chunk.split(b"\n")[:-1], self._line_number
        self._line_number += len(texts)
        return (chunk, *_objects(texts, first), first)


def _objects(lines: list[bytes], line_number: int) -> tuple[list[dict[str, Any]], list[int], list[Reject]]:
    """The JSON objects of some lines, one each, and their line numbers."""
    objects: list[dict[str, Any]] = []
    numbers: list[int] = []
    rejects: list[Reject] = []
    for number, line in enumerate(lines, line_number):
        if not line or line.isspace():
            continue
        try:
            objects.append(_object(line))
            numbers.append(number)
        except UnicodeError as error:
            rejects.append(
                (number, f"not UTF-8 ({error.reason if isinstance(error, UnicodeDecodeError) else error})", line)
            )
        except (ValueError, RecursionError) as error:
            rejects.append((number, shortened(str(error), 200), line))
    return objects, numbers, rejects


def _object(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"longer than {MAX_LINE_BYTES:,} bytes")
    try:
        row = msgspec.json.decode(line)
    except msgspec.DecodeError:  # perhaps for NaN or Infinity, which Python's json writes; here they are null
        try:
            row = json.loads(line.decode(), parse_constant=lambda _: None)
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON: {error}") from error
        json.dumps(row, ensure_ascii=False).encode()  # half a surrogate pair is no text
    if not isinstance(row, dict):
        raise ValueError("JSON, but not an object")
    return _flat(row) if dict in map(type, row.values()) else row  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """The object without objects in it, whose fields come in their place; a name that is there already stays."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict) and value:
            inner: dict[str, Any] = _flat(value)  # pyright: ignore[reportUnknownArgumentType]
            found.update({f"{name}.{key}": item for key, item in inner.items() if f"{name}.{key}" not in row})
        else:
            found[name] = value
    return found
