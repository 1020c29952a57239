"""Of the requests in an access log whose user agents say that they are robots, the share called robotic.

    onlineguard slidr score access.log --mapping examples/access_log.toml --model model --out decisions.parquet
    python examples/declared_robots.py access.log decisions.parquet

User agents are no features of the default network, so nothing is told beforehand. A search engine's robot that keeps to
a few requests an hour is hard to find, so the share is a check, not a measure: a model that finds none has learned
nothing.
"""

import sys
from pathlib import Path

import polars as pl

from onlineguard.slidr.clicks.clicks import Mapping, read_clicks

DECLARED = r"(?i)bot\b|crawl|spider|slurp|curl/|wget/|python-requests|scrapy|headless"


def main(log: str, decisions: str) -> None:
    clicks = read_clicks(log, Mapping.load(Path(__file__).with_name("access_log.toml")))
    table = clicks.join(pl.read_parquet(decisions), on="click_id").group_by(
        declared=pl.col("user_agent").str.contains(DECLARED)
    )
    for declared, requests, robotic in table.agg(pl.len(), pl.col("robotic").mean()).sort("declared").iter_rows():
        print(f"{'declared robots' if declared else 'all others'}: {requests:,} requests, {robotic:.1%} called robotic")


if __name__ == "__main__":
    main(*sys.argv[1:])
