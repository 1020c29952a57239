"""What a stream of Arrow may hold, so that a few bytes never become many: its types, columns, values and texts.

A dictionary of Arrow says a value once and names it in every row, in a byte or less, and a null takes no byte at all.
So types are checked before a row is read, and numbers of values before one of them is made.
"""

# pyarrow says little of its types:
# pyright: reportUnknownParameterType=false, reportAttributeAccessIssue=false

import pyarrow as pa
import pyarrow.compute as pc

COLUMNS = 1_024  # with the fields of structs; each takes some 70 us, however few its rows
VALUES = 1 << 20  # of a table; each takes up to half a microsecond and 100 bytes
TEXT_BYTES = 1 << 22  # of a table's texts, where each row has its own


class NoTable(ValueError):
    """What came is no stream of Arrow, or holds what no field can. `large`: it has more than it may."""

    def __init__(self, told: str, large: bool = False):
        super().__init__(told)
        self.large = large


def check_schema(schema: pa.Schema) -> None:
    """Raises NoTable for a type that no field has, and for too many columns, or two of one name."""
    names = schema.names
    n = len(names) + sum(each.type.num_fields for each in schema if pa.types.is_struct(each.type))
    if n > COLUMNS:
        raise NoTable(f"the table has {n:,} columns, with the fields of structs; it may have {COLUMNS:,}", large=True)
    if len(set(names)) < len(names):
        raise NoTable("two columns have the same name; each needs its own")
    for each in schema:
        kind = each.type
        if pa.types.is_struct(kind):
            for inner in kind:
                _check(f"{each.name}.{inner.name}", inner.type, _is_plain(inner.type))
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            _check(each.name, kind, _is_plain(kind.value_type))
        else:
            _check(each.name, kind, _is_plain(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind))


def check_size(table: pa.Table, body: bytes) -> int:
    """The number of a table's values. Raises NoTable where it is much larger in memory than the body that was sent."""
    if table.num_rows * table.num_columns > 8 * len(body):  # the least that a column takes is a bit for each row
        raise NoTable("the table has more columns and rows than bytes that were sent", large=True)
    values = texts = 0
    for column in table.columns:
        for chunk in column.chunks:
            more, bytes_ = _size(chunk)
            values, texts = values + more, texts + bytes_
    if values > (most := max(VALUES, len(body) // 4)):  # no more than of float32
        raise NoTable(f"the table has {values:,} values; it may have {most:,}; send it in parts", large=True)
    if texts > (most := max(TEXT_BYTES, 8 * len(body))):
        raise NoTable(
            f"the texts of the table have {texts:,} bytes where each row has its own; they may have {most:,}; send it "
            "in parts",
            large=True,
        )
    return values


def _check(name: str, kind: pa.DataType, taken: bool) -> None:
    if not taken:
        raise NoTable(
            f"column {name} has the type {kind}; it must be of texts, numbers, booleans, times, or lists of texts or "
            "numbers"
        )


def _is_plain(kind: pa.DataType) -> bool:
    """Whether it is of texts, numbers or times, in a dictionary or not."""
    of = kind.value_type if pa.types.is_dictionary(kind) else kind
    return (
        pa.types.is_string(of)
        or pa.types.is_large_string(of)
        or pa.types.is_floating(of)
        or pa.types.is_integer(of)
        or pa.types.is_timestamp(of)
    )


def _size(array: pa.Array) -> tuple[int, int]:
    """Values that are made of an array, and bytes of texts where a dictionary's text is said in every row."""
    kind = array.type
    if pa.types.is_struct(kind):
        sizes = [_size(array.field(i)) for i in range(kind.num_fields)]
        return sum(size[0] for size in sizes) + len(array), sum(size[1] for size in sizes)
    if hasattr(kind, "value_field"):  # lists
        values, texts = _size(pc.list_flatten(array))
        return values + len(array), texts
    if pa.types.is_dictionary(kind):
        of = kind.value_type
        texts = 0
        if pa.types.is_string(of) or pa.types.is_large_string(of):
            lengths = pc.binary_length(array.dictionary)
            texts = pc.sum(lengths.take(array.indices)).as_py() or 0
        return len(array) + len(array.dictionary), texts
    return len(array), 0
