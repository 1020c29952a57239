"""Replicas: services that answer from the snapshots of shards, and learn nothing."""
