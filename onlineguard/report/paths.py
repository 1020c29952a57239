"""Path data of SVG: lines, areas, bands, dots and bars in whole units, in as few characters as possible."""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from onlineguard.report.axes import HEIGHT


def line_path(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], floor: int | None = None) -> str:
    """A line through the lowest and highest y of each column; with a `floor`, the area from there to its upper edge."""
    known = ~np.isnan(y)
    run, column, height = np.cumsum(~known)[known], x[known].astype(np.int64), np.rint(y[known]).astype(np.int64)
    if len(height) == 0:
        return ""
    first = np.flatnonzero(np.append(True, (np.diff(column) != 0) | (np.diff(run) != 0)))
    top, bottom = np.minimum.reduceat(height, first), np.maximum.reduceat(height, first)
    falls = height[first] - top <= bottom - height[first]  # start at the end that is nearer to the column's first y
    pair = [top] if floor is not None else [np.where(falls, top, bottom), np.where(falls, bottom, top)]
    points = np.stack(
        [np.repeat(run[first], len(pair)), np.repeat(column[first], len(pair)), np.stack(pair, 1).ravel()], 1
    )
    parts: list[str] = []
    for points_of_run in np.split(points, np.flatnonzero(np.diff(points[:, 0])) + 1):
        line = points_of_run[:, 1:]
        bends = (np.diff(line, axis=0) != 0).any(axis=1)
        line = line[np.append(True, bends)]
        flat = (np.diff(line[:, 1]) == 0)[:-1] & (np.diff(line[:, 1]) == 0)[1:]
        line = line[np.concatenate([[True], ~flat, [True]])[: len(line)]] if len(line) > 2 else line
        x0, y0 = line[0].tolist()
        moves = " ".join(f"{dx}{dy}" if dy < 0 else f"{dx} {dy}" for dx, dy in np.diff(line, axis=0).tolist())
        start = f"M{x0} {y0}" if floor is None else f"M{x0} {floor}V{y0}"
        parts.append(start + (f"l{moves}" if moves else "h1") + ("" if floor is None else f"V{floor}"))
    return "".join(parts)


def band_path(bands: Sequence[tuple[int, int]], top: int = 0, height: int = HEIGHT) -> str:
    """Rectangles, each over the columns from `low` to `high`."""
    return "".join(f"M{low} {top}h{high - low}v{height}h{low - high}z" for low, high in bands)


def dots_path(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> str:
    """Lines without length, whose round ends show as dots. NaN is left out."""
    known = ~np.isnan(y)
    return "".join(f"M{a:.0f} {b:.0f}h0" for a, b in zip(x[known].tolist(), y[known].tolist(), strict=True))


def bars_path(x: Float[np.ndarray, " n"], low: Float[np.ndarray, " n"], high: Float[np.ndarray, " n"]) -> str:
    """Vertical lines. NaN is left out."""
    known = ~np.isnan(low)
    ends = zip(x[known].tolist(), low[known].tolist(), high[known].tolist(), strict=True)
    return "".join(f"M{a:.0f} {b:.0f}V{c:.0f}" for a, b, c in ends)


def area_path(x: Float[np.ndarray, " n"], low: Float[np.ndarray, " n"], high: Float[np.ndarray, " n"]) -> str:
    """The area between two lines. NaN is left out."""
    known = ~np.isnan(low) & ~np.isnan(high)
    if not known.any():
        return ""
    there, back = (zip(x[known].tolist(), y[known].tolist(), strict=True) for y in (low, high))
    points = [(round(a), round(b)) for a, b in (*there, *reversed(tuple(back)))]
    steps = " ".join(f"{c - a} {d - b}" for (a, b), (c, d) in itertools.pairwise(points))
    return f"M{points[0][0]} {points[0][1]}l{steps}z"
