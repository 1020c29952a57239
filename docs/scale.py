"""What a fleet of shards takes, on paper: from what was measured on one core to any rate of clicks.

    python docs/scale.py [--clicks 1e7] [--slices 1e8] [--set price_core=0.03 ...]

Prints the table of docs/scale.md, "To ten million clicks a second, on paper". Each number below is measured, with the
command beside it, or it is our assumption; `--set` puts yours in its place.
"""

import argparse
import math

MEASURED = {  # by what docs/scale.md and docs/service.md name beside the figure
    "clicks_core": 30_000.0,  # clicks a second and core, in batches: bench_service
    "click_bytes": 310.0,  # a simulated click as JSON: bench_service
    "decision_bytes": 300.0,  # an answer as JSON, with partition, offset and number
    "slice_bytes": 1_500.0,  # the default model at 2 features, figures and a name of 80 bytes: docs/service.md
    "counted_bytes": 4_040.0,  # a user, session, network, address and ad, four ids of clicks: docs/service.md, budget
    "new_sessions": 0.39,  # a click, in a simulated day of 10 million: docs/scale.md, "Offline"
    "base_bytes": 700e6,  # the process, its programs and a model: docs/service.md
}
ASSUMED = {
    "busy": 0.6,  # share of a core that is planned for: the rest takes peaks, and what a failed neighbour leaves
    "memory": 32e9,  # bytes that a shard has
    "replicas": 3.0,  # copies that the log keeps
    "packed": 4.0,  # times smaller that batches of clicks are in the log, by zstd
    "broker_bytes": 100e6,  # a second that a broker takes, its copies for others included
    "kept_hours": 24.0,  # hours that the log keeps
    "snapshot_seconds": 600.0,  # between two snapshots of a shard
    "store_bytes": 200e6,  # a second that a snapshot is read at
    "redis_clicks": 20_000.0,  # clicks a second of one Redis, whose script takes 50 us: docs/service.md
    "price_core": 0.03,  # USD an hour
    "price_memory": 0.004,  # USD a GB and hour
    "price_broker": 0.80,  # USD an hour, 16 cores
    "price_disk": 0.08,  # USD a GB and month
    "price_zone": 0.02,  # USD a GB between zones, both directions
}


def table(clicks: float, slices: float, **values: float) -> list[tuple[str, str]]:
    """What is needed for so many clicks a second and slices, and how much of it, in order."""
    v = MEASURED | ASSUMED | values
    shards = math.ceil(clicks / (v["clicks_core"] * v["busy"]))
    state = v["memory"] - v["base_bytes"]
    counted = max(0.0, state - slices / shards * v["slice_bytes"]) / v["counted_bytes"]
    sessions = clicks / shards * v["new_sessions"]
    into, out = clicks * v["click_bytes"] / v["packed"], clicks * v["decision_bytes"] / v["packed"]
    written = (into + out) * v["replicas"]
    brokers = math.ceil(written / v["broker_bytes"])
    disk = written * v["kept_hours"] * 3_600
    between = (into + out) * (v["replicas"] - 1 + 2 / 3)  # copies, and readers of whom two of three are elsewhere
    again = v["snapshot_seconds"] * v["busy"] + state / v["store_bytes"]
    hourly = {
        "cores and memory": shards * (v["price_core"] + v["memory"] / 1e9 * v["price_memory"]),
        "brokers": brokers * v["price_broker"],
        "disks of the log": disk / 1e9 * v["price_disk"] / 730,
        "traffic between zones": between * 3_600 / 1e9 * v["price_zone"],
    }
    cost = sum(hourly.values())
    return [
        ("shards, a core each", f"{shards:,}"),
        ("clicks a second and shard", f"{clicks / shards:,.0f}"),
        ("memory of all", f"{shards * v['memory'] / 1e12:.1f} TB"),
        ("of it for slices", f"{slices * v['slice_bytes'] / 1e12:.2f} TB"),
        ("`max_entities` that a shard then has room for", f"{counted / 1e6:.1f} million"),
        ("a session of one click is counted for", f"{counted / sessions / 60:.0f} minutes"),
        (
            "memory of all, to count each for two days",
            f"{clicks * v['new_sessions'] * 172_800 * v['counted_bytes'] / 1e12:,.0f} TB",
        ),
        ("clicks and decisions, before they are packed", f"{(into + out) * v['packed'] / 1e9:.1f} GB/s"),
        ("what the log writes, copies included", f"{written / 1e9:.1f} GB/s"),
        ("brokers", f"{brokers:,}"),
        ("disks of the log", f"{disk / 1e12:,.0f} TB"),
        ("snapshots written", f"{shards * state / v['snapshot_seconds'] / 1e9:.1f} GB/s"),
        ("a lost shard is back and level after", f"{again / (1 - v['busy']) / 60:.0f} minutes"),
        ("Redis, if replicas counted there", f"{math.ceil(clicks / v['redis_clicks']):,} primaries"),
        *((f"{name}, an hour", f"{usd:,.0f} USD") for name, usd in hourly.items()),
        ("a million clicks", f"{cost / (clicks * 3_600) * 1e6:.4f} USD"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clicks", type=float, default=1e7, help="a second")
    parser.add_argument("--slices", type=float, default=1e8)
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="other numbers than those above")
    options = parser.parse_args()
    values: dict[str, float] = {}
    for each in options.set:
        name, _, value = each.partition("=")
        if name not in MEASURED | ASSUMED:
            parser.error(f"--set {each}: there is no {name}; name one of {', '.join(MEASURED | ASSUMED)}")
        values[name] = float(value)
    for what, how_much in table(options.clicks, options.slices, **values):
        print(f"| {what} | {how_much} |")


if __name__ == "__main__":
    main()
