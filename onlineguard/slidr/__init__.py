"""SLIDR: robots among ad clicks, from raw clicks to calibrated decisions."""
