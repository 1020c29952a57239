"""One threshold a slice under one budget of false positives."""
