"""Workers of shards as actors of Ray, which places, restarts and scales them; the log divides the partitions."""
