"""Tables and columns that speak Arrow's C interface, read by pyarrow where polars is not installed.

They hold the values that polars would find in them, so keys and events are the same, to the last bit.
"""

# pyarrow says little of its types:
# pyright: reportUnknownParameterType=false, reportAttributeAccessIssue=false

from typing import Any

import numpy as np

from onlineguard.extras import require


class Column:
    """One value an event."""

    def __init__(self, values: Any):
        import pyarrow as pa

        kind = values.type
        if pa.types.is_dictionary(kind):
            values = values.cast(kind.value_type)
        elif pa.types.is_date64(kind):  # milliseconds
            values = values.cast(pa.timestamp("ms"))
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def to_numpy(self) -> np.ndarray:
        """The values (n,) of whatever type; a null is NaN among numbers, and None among others."""
        return self._values.to_numpy()

    def parts(self) -> "list[Column]":
        """The column; in the place of a struct its fields."""
        import pyarrow as pa

        return Table(self._values).parts() if pa.types.is_struct(self._values.type) else [self]

    def coded(self) -> tuple[list[Any], np.ndarray] | None:
        """The distinct values, and the position of each event's value among them; None for whole numbers without nulls.

        A time is one of Python, to the microsecond.
        """
        import pyarrow as pa

        values, kind = self._values, self._values.type
        if pa.types.is_integer(kind) and not values.null_count:
            return None
        if pa.types.is_timestamp(kind):
            values = values.cast(pa.timestamp("us", kind.tz), safe=False)
        elif pa.types.is_time64(kind):
            values = values.cast(pa.time64("us"), safe=False)
        elif not (pa.types.is_temporal(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            return values.to_pylist(), np.arange(len(values))
        found = values.combine_chunks().dictionary_encode(null_encoding="encode")
        if isinstance(found, pa.ChunkedArray):  # of no chunk, or of more texts than one array holds
            found = found.unify_dictionaries().combine_chunks()
        return found.dictionary.to_pylist(), found.indices.to_numpy()


class Table:
    """Columns with names, from structs that hold a value of each. `columns` are the names."""

    def __init__(self, structs: Any):
        self._fields = structs.flatten()
        self._n, self.columns = len(structs), [field.name for field in structs.type]

    def __getitem__(self, name: str) -> Column:
        return Column(self._fields[self.columns.index(name)])

    def __len__(self) -> int:
        return self._n

    def to_numpy(self) -> np.ndarray:
        """The values (n, columns)."""
        return np.array([Column(field).to_numpy() for field in self._fields]).T

    def parts(self) -> list[Column]:
        """The columns; in the place of a struct its fields."""
        return [part for field in self._fields for part in Column(field).parts()]


def read(held: Any) -> Table | Column:
    """What speaks Arrow's C interface as a table, if it has named columns, else as a column.

    Raises MissingExtra where pyarrow is not installed either.
    """
    require("reading Arrow", "arrow")
    import pyarrow as pa

    values = pa.chunked_array(held if hasattr(held, "__arrow_c_stream__") else [pa.array(held)])
    return Table(values) if pa.types.is_struct(values.type) else Column(values)
