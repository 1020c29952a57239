"""What makes the state durable: journals and snapshots."""
