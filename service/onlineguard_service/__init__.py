"""The service: update and score over the network, durable, and fast at the tail. `onlineguard serve` starts it."""
