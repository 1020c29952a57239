"""Simulated traffic of people and robots, with the truth beside it."""
