"""Simulated clicks of people and robots, with the truth kept apart."""
