"""Rows of NDJSON: one JSON object a line."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from onlineguard.sources.lines import MAX_LINE_BYTES, Lines
from onlineguard.sources.rejects import Reject, shortened
from onlineguard.sources.rows import Columns, FieldRows


def read_ndjson(lines: Lines, columns: Columns) -> Iterator[FieldRows]:
    """The rows of each chunk of lines. The first chunk with objects must have every column; later a field may lack."""
    names: list[str] = []
    line_number = 1
    while chunk := lines.chunk():
        texts = chunk.split(b"\n")[:-1]
        objects, numbers, rejects = _objects(texts, line_number)
        if objects and not names:
            names = columns.found_in(list(dict.fromkeys(name for row in objects for name in row)))
        yield FieldRows(
            {name: [row.get(name) for row in objects] for name in names},
            np.asarray(numbers, np.int64),
            lambda i, texts=texts, numbers=numbers, first=line_number: texts[numbers[i] - first],
            rejects,
        )
        line_number += len(texts)


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
    return row  # pyright: ignore[reportUnknownVariableType]
