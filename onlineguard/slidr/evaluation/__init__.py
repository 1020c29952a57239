"""How good a model and its thresholds are: in numbers, and as a report."""
