"""Judge what DuckDB reads, of any length: batch by batch, in memory for a few batches.

pip install 'onlineguard[polars]' duckdb
python examples/duckdb_reader.py
"""

import duckdb

from onlineguard import Engine, in_batches

rows = duckdb.sql("""
    select 'shop-' || i % 5 as shop, date '2026-07-01' + (i % 7)::int as day,
           50 + 10 * sin(i) + (hash(i) % 1000) / 100 + if(i = 59_995, 500, 0) as basket
    from range(60_000) as t(i) order by i
""")  # or read_parquet('s3://...')

engine = Engine(features=["basket"], target_rate=0.001)
odd = []
for keys, frame in in_batches(rows, ["shop", "day"], rows=20_000):
    verdicts = engine.update(keys, frame)
    odd += frame.filter(verdicts.anomalous).rows()
print(f"{engine.n_events:,} rows of {engine.n_slices} slices; the largest that is odd:")
print(max(odd, key=lambda row: row[2]))
