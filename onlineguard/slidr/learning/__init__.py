"""Weak labels, sample weights, and the models that learn from them."""
