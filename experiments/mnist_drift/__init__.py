"""Rotated digits whose normal digit changes: logistic regression with clipped SGD. See README.md."""
