"""What was known the night before of accounts, networks and other entities: read-only tables beside the counters."""
