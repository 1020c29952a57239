"""Event sources: CSV, NDJSON and Parquet files of any size, read in batches of a bounded number of rows.

`Source` turns a file, or what is piped in, into `Batch`es for the engine. A row that cannot be read is set aside, with
its line number and the reason, and the rest is read on. What is held at any time is a few blocks of 4 MiB and one
batch (of Parquet: a few row groups, of the named columns only), whatever the size of the file or of one line in it.

On the way bytes become `blocks`, these `lines`, these rows of fields (`delimited`, `ndjson`, `parquet`), and a
`conversion` makes events of them, which leave in `batches`.
"""

from onlineguard.sources.ahead import read_ahead
from onlineguard.sources.batches import Batch
from onlineguard.sources.conversion import ALL
from onlineguard.sources.source import Source
from onlineguard.sources.times import NO_TIME

__all__ = ["ALL", "NO_TIME", "Batch", "Source", "read_ahead"]
