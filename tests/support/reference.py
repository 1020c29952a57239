"""Clipped SGD written as in a textbook: plain NumPy, float64, no concern for speed or overflow."""

from typing import Any

import numpy as np

Gradient = list[np.ndarray[Any, Any]]


def mean(theta: Gradient, event: Any) -> Gradient:
    (mu,) = theta
    return [np.where(np.isfinite(event), mu - event, 0.0)]


def log_scale(theta: Gradient, event: Any) -> Gradient:
    (s,) = theta
    return [np.where(np.isfinite(event), 1.0 - event**2 * np.exp(-2.0 * s), 0.0)]


def quantile(level: float) -> Any:
    def gradient(theta: Gradient, event: Any) -> Gradient:
        (q,) = theta
        return [np.where(np.isfinite(event), np.where(event < q, 1.0, 0.0) - level, 0.0)]

    return gradient


def linear_regression(l2: float) -> Any:
    def gradient(theta: Gradient, event: Any) -> Gradient:
        (w, b), (x, y) = theta, event
        there = np.isfinite(x)
        x = np.where(there, x, 0.0)
        error = w @ x + b - y
        return [error * x + l2 * w * there, error]

    return gradient


def logistic_regression(l2: float) -> Any:
    def gradient(theta: Gradient, event: Any) -> Gradient:
        (w, b), (x, y) = theta, event
        there = np.isfinite(x)
        x = np.where(there, x, 0.0)
        error = 1.0 / (1.0 + np.exp(-(w @ x + b))) - y
        return [error * x + l2 * w * there, error]

    return gradient


def usable(event: Any) -> bool:
    """A target, if there is one, and at least one feature."""
    x, y = event if isinstance(event, tuple) else (event, 0.0)
    return bool(np.isfinite(x).any() and np.isfinite(y))


def clipped_sgd(
    gradient: Any, theta: Gradient, events: list[Any], eta: Any, limit: float
) -> tuple[Gradient, int, int, int]:
    """Theta after the events, how many were learned, how many of these were clipped, and for how many float32 cannot
    tell, their gradient being as long as the limit to its seven digits; `eta` takes the count."""
    seen = clipped = ties = 0
    for event in events:
        if not usable(event):
            continue
        g = gradient(theta, event)
        norm = np.sqrt(sum((part**2).sum() for part in g))
        shrink = min(1.0, limit / norm) if norm > 0 else 1.0
        theta = [t - eta(seen) * shrink * part for t, part in zip(theta, g, strict=True)]
        seen, clipped, ties = seen + 1, clipped + int(norm > limit), ties + int(abs(norm - limit) < 1e-5 * limit)
    return theta, seen, clipped, ties


def derived(seen: int) -> float:
    """The step of T^(-2/3) with the doubling trick, by counting epochs."""
    length, left = 1, seen
    while left >= length:
        left -= length
        length *= 2
    return length ** (-2.0 / 3.0)
