"""Judge a dataset of Parquet files, of any size, batch by batch; write the odd rows to another one; show progress.

pip install 'onlineguard[polars]' pyarrow rich
python examples/arrow_dataset.py
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from rich.progress import track  # tqdm does as well; both show in a terminal and in a notebook

from onlineguard import Engine, in_batches

folder, rng, n, rows = Path(tempfile.mkdtemp()), np.random.default_rng(0), 40_000, 8_000
country, device = rng.choice(["DE", "FR"], n), rng.choice(["phone", "desktop"], n)
seconds = rng.lognormal(1.0, 0.4, n)
seconds[-1] = 500.0
log = pa.table({"country": country, "device": device, "seconds": seconds})
ds.write_dataset(log, folder / "log", format="parquet", max_rows_per_file=rows, max_rows_per_group=rows)

engine = Engine(features=["seconds"], target_rate=0.0005)
read = ds.dataset(folder / "log")


def odd_rows() -> Iterator[Any]:
    """The rows that are odd as record batches, as they are found; memory holds one batch."""
    batches = in_batches(read, ["country", "device"], rows=rows)
    for keys, frame in track(batches, total=-(-read.count_rows() // rows)):
        yield from frame.filter(engine.update(keys, frame).anomalous).to_arrow().cast(read.schema).to_batches()


ds.write_dataset(odd_rows(), folder / "odd", schema=read.schema, format="parquet")
found = ds.dataset(folder / "odd").to_table()
print(engine, found.num_rows, "odd rows; the longest:", max(found["seconds"].to_pylist()))
