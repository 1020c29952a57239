"""Event sources: delimited text, NDJSON, Parquet and Excel, read in batches of a bounded number of rows.

`Source` turns a file, or what is piped in, into `Batch`es for the engine. A row that cannot be read is set aside, with
its line number and the reason, and reading goes on. A source holds a few blocks of 4 MiB and one batch at any time,
whatever the size of the file or of one line; of Parquet a few row groups of the named columns, of Excel the sheet.

`places` finds the files, and `opening` opens each. Its bytes come in `blocks`, pass `unpacking` and `encodings`,
and become `lines`; lines become rows of fields (`delimited`, `ndjson`). Parquet and Excel are `frames`. How a text is
written is told by `dialect`, `numerals` and `formats`. A `conversion` turns the rows into events, which leave in
`batches`; `ahead` reads the next batch while one is judged.
"""

from onlineguard.extras import require

require("onlineguard.sources", "polars")

from onlineguard.sources.ahead import read_ahead  # noqa: E402
from onlineguard.sources.batches import Batch  # noqa: E402
from onlineguard.sources.conversion import ALL  # noqa: E402
from onlineguard.sources.dialect import Choices  # noqa: E402
from onlineguard.sources.source import Source  # noqa: E402
from onlineguard.sources.times import NO_TIME  # noqa: E402

__all__ = ["ALL", "NO_TIME", "Batch", "Choices", "Source", "read_ahead"]
