"""Tables as streams of Arrow."""

import pyarrow as pa


def stream(table: pa.Table, **options: str) -> bytes:
    """The table as a stream; `options` are Arrow's."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
