"""MNIST in a stream whose normal digit switches: images drawn in order, turned and corrupted, with the truth."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from experiments.common import rng
from experiments.mnist_drift.data import Digits

SALT, SALTED = 1e6, 0.1  # a corrupted image has a tenth of its pixels at 1e6


@dataclass(frozen=True)
class Stream:
    """Images one after the other, with the truth about them."""

    pixels: Float[np.ndarray, "n pixels"]  # float32, as the models get them
    anomalous: Bool[np.ndarray, " n"]
    revealed: Float[np.ndarray, " n"]  # float32; the label that reading (a) is told: 1 is an anomaly
    whole: Bool[np.ndarray, " n"]  # no pixel was corrupted; only these images are counted
    segment: Int[np.ndarray, " n"]
    since: Int[np.ndarray, " n"]  # images since the segment's first


def draw(digits: Digits, seed: int, lengths: Sequence[int], anomaly_rate: float, angle: float) -> Stream:
    """A stream through as many digits as `lengths`; with one seed, streams differ only in what is asked for.

    A digit's images are used in random order, the normal ones from the front, as anomalies from the back, and anew
    only when all are used.
    """
    random = rng(1, seed)
    order = random.permutation(10)[: len(lengths)]
    pools = [random.permutation(np.flatnonzero(digits.labels == digit)) for digit in range(10)]
    n = int(sum(lengths))
    segment = np.repeat(np.arange(len(lengths)), lengths)
    since = np.arange(n) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    anomalous = random.random(n) < anomaly_rate
    other = random.integers(1, 10, n)
    turn = random.uniform(-1.0, 1.0, n)
    digit = np.where(anomalous, (order[segment] + other) % 10, order[segment])
    index = np.empty(n, int)
    for pool, own in zip(pools, [digit == d for d in range(10)], strict=True):
        for chosen, images in ((own & ~anomalous, pool), (own & anomalous, pool[::-1])):
            index[chosen] = images[np.arange(chosen.sum()) % len(images)]
    pixels = rotated(digits.images[index], turn * angle)
    return Stream(pixels, anomalous, anomalous.astype(np.float32), np.ones(n, bool), segment, since)


def corrupted(stream: Stream, seed: int, kind: str, share: float) -> Stream:
    """The stream with a share of its images salted, or of its revealed labels turned round."""
    random = rng(2, seed)
    hit = random.random(len(stream.whole)) < share
    if kind == "labels":
        return replace(stream, revealed=(stream.anomalous ^ hit).astype(np.float32))
    salt = hit[:, None] & (random.random(stream.pixels.shape, np.float32) < SALTED)
    return replace(stream, pixels=np.where(salt, np.float32(SALT), stream.pixels), whole=~hit)


def rotated(images: Float[np.ndarray, "n side side"], degrees: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
    """Images turned about their centre, bilinearly and dark beyond the edges; larger ones at half the resolution."""
    n, side, _ = images.shape
    step = 2 if side > 20 else 1  # a new pixel is the mean of step x step old ones
    soft = images
    if step == 2:
        soft = 0.25 * (images[:, :-1, :-1] + images[:, 1:, :-1] + images[:, :-1, 1:] + images[:, 1:, 1:])
    width = soft.shape[1] + 2
    flat = np.pad(soft, ((0, 0), (1, 1), (1, 1))).reshape(n, -1)
    centres = np.arange((step - 1) / 2, side, step) - (side - 1) / 2
    down, right = (axis.ravel() for axis in np.meshgrid(centres, centres, indexing="ij"))
    turn = np.deg2rad(degrees)[:, None]
    corners, weights = [], []
    for place in (np.cos(turn) * down - np.sin(turn) * right, np.sin(turn) * down + np.cos(turn) * right):
        place = np.clip(place + (width - 1) / 2, 0.0, width - 1.001)
        corners.append(place.astype(np.int32))
        weights.append((place - corners[-1]).astype(np.float32))
    at, (y, x) = corners[0] * width + corners[1], weights

    def corner(offset: int) -> np.ndarray:
        return np.take_along_axis(flat, at + offset, axis=1)

    above, below = (1 - x) * corner(0) + x * corner(1), (1 - x) * corner(width) + x * corner(width + 1)
    return ((1 - y) * above + y * below).astype(np.float32)
