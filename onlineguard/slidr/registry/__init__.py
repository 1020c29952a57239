"""Versions of a model that never change, which of them is live, and who changed that and why."""
