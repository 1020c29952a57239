"""What is small in a simulation, so that it comes about often."""

SAMPLE = 8  # slices of a pool
POOL_FIRST, POOL_EVERY = 24, 384  # events
MOST = 200  # records of a turn
SNAPSHOT_EVERY = 20.0  # seconds
SNAPSHOT_RECORDS = 40
LEASE = 30.0  # seconds without a call, after which a member counts as dead
