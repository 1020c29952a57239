"""The engine: one table of packed rows, a model in each, and the one mutable thing."""
