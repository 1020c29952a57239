"""A threshold for each slice, within one budget of false positives for all."""
