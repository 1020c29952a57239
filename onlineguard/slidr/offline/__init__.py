"""Features of days of clicks that fit into no memory, counted by entity in pieces that a kill does not lose."""
