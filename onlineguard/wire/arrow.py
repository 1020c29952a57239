"""Batches as Arrow's IPC stream: a column for each field of an object, a row for each object.

    slice: text, dictionary, whole number, or a list of those      id: text      ts: whole number, or a timestamp
    x: a list of numbers, of fixed size or not      features: a struct; or each feature a column with its own name

The rows of a table are the same objects that JSON would hold, so that limits, checks and answers are the same too: a
null is null, and so is a NaN. Columns are converted and checked whole, in C; for each row only its struct is made, and
a dictionary where features have names. Where a check fails, the rows are made as objects, to say which is wrong. An
answer is a table with a column for each of its fields.

A stream comes from anybody: it is validated before it is looked at, what is compressed inside of it is refused (a
content encoding is unpacked in parts, within the limit), and so is what `arrow_limits` does not let pass.

Source: Apache Arrow, "IPC Streaming Format" and `Message.fbs`, of which `_is_compressed` reads two tables.
"""

# pyarrow says little of its types:
# pyright: reportUnknownParameterType=false, reportAttributeAccessIssue=false

import struct
import types
import uuid
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, repeat
from operator import attrgetter
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec
import numpy as np

from onlineguard.extras import require

require("Arrow", "arrow")

import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
from pyarrow import ipc  # noqa: E402

from onlineguard.wire.arrow_limits import NoTable, check_schema, check_size  # noqa: E402

MEDIA = "application/vnd.apache.arrow.stream"
_FIELDS = ("slice", "id", "ts", "x", "features")  # of an event; any other column is a feature
_LONGEST = 8_192  # bytes of a text: four for each character of the longest that any field takes
_BATCH, _DICTIONARY = 3, 2  # of `MessageHeader`
_AT_ONCE = 1 << 16  # values that are made in one go: some 20 ms


class Columns(NamedTuple):
    """Columns of some rows as lists of what JSON would hold."""

    start: int  # the first of these rows
    values: dict[str, list[Any]]
    checked: frozenset[str]  # columns whose values are numbers, or lists of numbers, so that none need be looked at
    length: int


def columns(body: bytes, most: int) -> Iterator[Columns]:
    """The columns of a stream, of some rows at a time. `most`: rows that there may be.

    Raises NoTable, before the first rows for all but a text that is too long, or a time that is out of range.
    """
    try:
        schema = _schema(body)
        check_schema(schema)
        table = pa.Table.from_batches(list(_batches(body, most)), schema)
        table.validate(full=True)
        n_values = check_size(table, body)
        checked = frozenset(each.name for each in schema if _is_numbers(each.type))
        at_once = max(1, _AT_ONCE * table.num_rows // max(1, n_values))
        for start in range(0, table.num_rows, at_once):
            part = table.slice(start, at_once)
            values = {each.name: _values(_whole(part[each.name]), f"column {each.name}") for each in schema}
            yield Columns(start, values, checked, part.num_rows)
    except (pa.ArrowException, OSError, EOFError, ValueError, KeyError) as error:
        if isinstance(error, NoTable):
            raise
        raise NoTable(f"the body is no stream of Arrow: {error}") from None


def structs[S: msgspec.Struct](table: Columns, kind: type[S]) -> list[S]:
    """The rows as structs, which are checked column by column. Raises msgspec.ValidationError."""
    given, checked = dict(table.values), table.checked
    fields = msgspec.structs.fields(kind)
    if _begins_features(table, kind):
        named = {name: given.pop(name) for name in table.values if name not in _FIELDS}
        one = next(field.type for field in fields if field.name == "features")
        of_feature = next(get_args(part)[1] for part in get_args(one) if get_origin(part) is dict)
        for name in named.keys() - checked:
            named[name] = msgspec.convert(named[name], list[of_feature])
        given["features"], checked = _dictionaries(named), checked | {"features"}
    if unknown := given.keys() - {field.name for field in fields}:
        raise msgspec.ValidationError(f"Object contains unknown field `{min(unknown)}`")
    made: dict[str, Iterable[Any]] = {}
    for field in fields:
        if field.name not in given:
            if field.required:
                raise msgspec.ValidationError(f"Object missing required field `{field.name}`")
            made[field.name] = repeat(field.default, table.length)
        elif field.name in checked and field.name in ("x", "features"):
            made[field.name] = given[field.name]
        else:
            made[field.name] = msgspec.convert(given[field.name], list[field.type])  # type: ignore[name-defined]
    names = list(made)
    if tuple(names) == kind.__match_args__:  # they may be given in order
        return list(map(kind, *made.values()))
    return [kind(**dict(zip(names, row, strict=True))) for row in zip(*made.values(), strict=True)]


def rows(table: Columns, kind: type[msgspec.Struct]) -> list[dict[str, Any]]:
    """The rows as the objects that JSON would hold."""
    given = dict(table.values)
    if _begins_features(table, kind):
        named = {name: given.pop(name) for name in table.values if name not in _FIELDS}
        given["features"] = _dictionaries(named)
    return _dictionaries(given) if given else [{} for _ in range(table.length)]


def _begins_features(table: Columns, kind: type[msgspec.Struct]) -> bool:
    """Whether the columns of a table of events that are no fields are features."""
    is_event = "features" in kind.__struct_fields__
    return is_event and not {"x", "features"} & table.values.keys() and bool(table.values.keys() - set(_FIELDS))


def encoded(answers: Sequence[msgspec.Struct], kind: type[Any]) -> bytes:
    """Answers of a kind as a stream."""
    sink = pa.BufferOutputStream()
    table = _table(answers, kind)
    with ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def parts(table: Any, of_events: bool, most: int) -> Iterator[bytes]:
    """A table, or a batch, as streams of at most so many rows. Events without ids get some."""
    table = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
    if of_events and "id" not in table.column_names:
        table = table.append_column("id", pa.array([uuid.uuid4().hex for _ in range(table.num_rows)]))
    for start in range(0, table.num_rows, most):
        sink = pa.BufferOutputStream()
        part = table.slice(start, most).combine_chunks()
        with ipc.new_stream(sink, part.schema) as stream:
            stream.write_table(part)
        yield sink.getvalue().to_pybytes()


def table(body: bytes) -> pa.Table:
    """The table in a stream that a service sent."""
    return ipc.open_stream(pa.py_buffer(body)).read_all()


def together(tables: list[pa.Table], kind: type[Any]) -> pa.Table:
    """Tables of answers, one below the other."""
    return pa.concat_tables(tables, promote_options="default") if tables else _table([], kind)


def _table(answers: Sequence[msgspec.Struct], kind: type[Any]) -> pa.Table:
    columns: dict[str, pa.Array] = {}
    for name, hint in get_type_hints(kind, include_extras=False).items():
        values = list(map(attrgetter(name), answers))
        if name == "slice" and kind.__name__ == "EventAnswer":
            columns[name] = _slices(values)
        else:
            columns[name] = pa.array(msgspec.to_builtins(values), _type(hint))
    return pa.table(columns)


def _slices(keys: list[Any]) -> pa.Array:
    """Keys of slices: of the type that all have, or as JSON where they have several."""
    kinds = {type(key) if not isinstance(key, tuple | list) else (tuple, *{type(part) for part in key}) for key in keys}
    if kinds == {str} or not kinds:
        return pa.array(keys, pa.string())
    if kinds == {int}:
        return pa.array(keys, pa.int64())
    if kinds in ({(tuple, str)}, {(tuple, int)}):
        return pa.array([list(key) for key in keys])
    return pa.array([msgspec.json.encode(key).decode() for key in keys], pa.string())


def _type(hint: Any) -> pa.DataType:
    """Arrow's type of a field of an answer."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        (hint,) = (part for part in get_args(hint) if part is not type(None))
        return _type(hint)
    if origin is Literal or hint is str:
        return pa.string()
    if origin is list:
        return pa.list_(_type(get_args(hint)[0]))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return pa.struct([(name, _type(each)) for name, each in get_type_hints(hint).items()])
    return {float: pa.float64(), bool: pa.bool_(), int: pa.int64()}[hint]


def _schema(body: bytes) -> pa.Schema:
    message = ipc.read_message(pa.BufferReader(body))
    if message.type != "schema":  # `read_schema` reads any other as if it were one, and the process ends
        raise NoTable("the body is no stream of Arrow: it does not begin with a schema")
    return ipc.read_schema(message)


def _batches(body: bytes, most: int) -> Iterator[pa.RecordBatch]:
    messages = ipc.MessageReader.open_stream(pa.py_buffer(body))
    for message in messages:
        if _is_compressed(message.metadata.to_pybytes()):
            raise NoTable("the stream is compressed inside; send it plain, in the Content-Encoding zstd or gzip")
    n = 0
    for batch in ipc.open_stream(pa.py_buffer(body)):
        n += batch.num_rows
        yield batch
        if n > most:
            raise NoTable(f"the table holds {n:,} rows, more than the batch_limit of {most:,}; send it in parts", True)


def _is_compressed(message: bytes) -> bool:
    """Whether the buffers of a message are compressed, by the flatbuffer that describes it."""

    def field(table: int, number: int) -> int:
        """Where a field of a table is; 0 if it is not there."""
        (back,) = struct.unpack_from("<i", message, table)
        (size,) = struct.unpack_from("<H", message, table - back)
        at = 4 + 2 * number
        offset = struct.unpack_from("<H", message, table - back + at)[0] if at < size else 0
        return table + offset if offset else 0

    def followed(place: int) -> int:
        return place + struct.unpack_from("<I", message, place)[0]

    try:
        root = followed(0)
        kind = message[field(root, 1)]
        if kind not in (_BATCH, _DICTIONARY):
            return False
        header = followed(field(root, 2))
        if kind == _DICTIONARY:
            header = followed(field(header, 1))
        return field(header, 3) != 0
    except (struct.error, IndexError):
        raise NoTable("the body is no stream of Arrow: a message of it is damaged") from None


def _is_numbers(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind.value_type if hasattr(kind, "value_type") else kind)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return found if isinstance(found, pa.Array) else pa.concat_arrays(found.chunks)


def _dictionaries(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    names = list(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _values(array: pa.Array, where: str, nested: bool = False) -> list[Any]:
    """The values as JSON would have them."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        known = np.array([*_values(array.dictionary, where, nested), None], dtype=object)
        return known[pc.fill_null(array.indices.cast(pa.int64()), len(known) - 1).to_numpy()].tolist()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        if len(array) and (pc.max(pc.binary_length(array)).as_py() or 0) > _LONGEST:
            raise NoTable(f"{where} has a text of more than {_LONGEST:,} bytes", large=True)
        return array.to_numpy(zero_copy_only=False).tolist()  # several times as quick as `to_pylist`
    if pa.types.is_floating(kind):
        return _numbers(array).tolist()
    if pa.types.is_integer(kind) or (pa.types.is_boolean(kind) and not nested):
        return array.to_pylist() if array.null_count else array.to_numpy(zero_copy_only=False).tolist()
    if pa.types.is_timestamp(kind):
        fine = kind.unit in ("us", "ns")  # whose last digits are left out
        try:
            return array.cast(pa.timestamp("ms", kind.tz), safe=not fine).cast(pa.int64()).to_pylist()
        except pa.ArrowInvalid:
            raise NoTable(f"{where} has a time that is no number of milliseconds in 64 bits") from None
    if pa.types.is_null(kind) and not nested:
        return [None] * len(array)
    if not nested and (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        inner = pc.list_flatten(array)
        if pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type) and not array.null_count:
            return _numbers(inner).reshape(len(array), kind.list_size).tolist()
        parts = _values(inner, where, nested=True)
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
        ends = np.concatenate([[0], np.cumsum(lengths)]).tolist()
        lists: list[Any] = [parts[start:end] for start, end in pairwise(ends)]
        if array.null_count:
            there = array.is_valid().to_pylist()
            lists = [each if valid else None for each, valid in zip(lists, there, strict=True)]
        return lists
    if pa.types.is_struct(kind) and not nested:
        inner = {each.name: _values(array.field(i), f"{where}.{each.name}", True) for i, each in enumerate(kind)}
        found = _dictionaries(inner) if inner else [{} for _ in range(len(array))]
        there = array.is_valid().to_pylist()
        return [each if valid else None for each, valid in zip(found, there, strict=True)]
    raise TypeError(f"{where} has the type {kind}, which `check_schema` takes and this function does not")


def _numbers(array: pa.Array) -> np.ndarray:
    """Floating point numbers as float64, or as objects where some are None: those that are null or NaN."""
    numbers = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    missing = np.isnan(numbers)
    if not missing.any():
        return numbers
    plain = numbers.astype(object)
    plain[missing] = None
    return plain
