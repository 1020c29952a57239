"""Shards: a guard for each partition of a log, its snapshots, and the process that owns some of them."""
