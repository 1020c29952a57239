"""Draws docs/picture.png, the picture of the README: one stream, its score and threshold, and what was flagged.

uv run --group dev python docs/picture.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from onlineguard import Engine

EVENTS = 40_000
BURST, JUMP, TAILS = slice(12_000, 14_000), 20_000, 31_000


def stream() -> tuple[np.ndarray, np.ndarray]:
    """A value that drifts, jumps and grows heavy tails, with a burst and outliers hidden in it; and the truth."""
    rng = np.random.default_rng(7)
    t = np.arange(EVENTS)
    noise = np.where(t < TAILS, rng.standard_normal(EVENTS), rng.standard_t(2.5, EVENTS))
    x = noise + 4.0 * np.sin(t / 6_000) + 14.0 * (t >= JUMP)
    odd = rng.random(EVENTS) < 0.002
    x[odd] += rng.choice([-1.0, 1.0], odd.sum()) * rng.uniform(12.0, 25.0, odd.sum())
    x[BURST] += 11.0
    odd[BURST] = True
    return x, odd


def main() -> None:
    x, odd = stream()
    verdicts = Engine(1, target_rate=0.001).update(["sensor"] * EVENTS, x)
    t = np.arange(EVENTS)
    plt.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False})
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(12, 5.6), sharex=True, height_ratios=(3, 2), layout="constrained"
    )
    usual, caught, false = ~verdicts.anomalous, verdicts.anomalous & odd, verdicts.anomalous & ~odd
    top.plot(t[usual], x[usual], ".", ms=1.2, color="#94a3b8", rasterized=True)
    top.plot(t[false], x[false], ".", ms=3, color="#f59e0b", label="flagged, no anomaly was put there")
    top.plot(t[caught], x[caught], ".", ms=3, color="#dc2626", label="flagged, an anomaly was put there")
    top.set(ylabel="value")
    top.legend(loc="upper left", frameon=False, markerscale=3)
    notes = [
        (BURST.start + 1_000, "a burst of 2,000 events\nis flagged to its end", -25.0),
        (JUMP + 2_500, "a jump is flagged for 5,000 events\n(patience), then counts as usual", -25.0),
        (TAILS + 4_500, "tails grow heavy: the threshold\nfollows, the budget holds", -25.0),
    ]
    for at, text, height in notes:
        top.annotate(text, (at, height), ha="center", va="bottom", fontsize=10, color="#334155")
    top.set_ylim(-26, None)
    bottom.semilogy(t[usual], np.maximum(verdicts.score[usual], 0.02), ".", ms=1, color="#94a3b8", rasterized=True)
    bottom.semilogy(t[~usual], verdicts.score[~usual], ".", ms=2.5, color="#dc2626")
    bottom.semilogy(t, verdicts.threshold, color="#0f172a", lw=1.5, label="threshold for 1 usual event in 1,000")
    bottom.set(ylabel="score", xlabel="event", ylim=(0.05, None), xlim=(0, EVENTS))
    bottom.legend(loc="upper left", frameon=False)
    path = Path(__file__).with_name("picture.png")
    figure.savefig(path, dpi=110)
    size = path.stat().st_size // 1000
    print(f"{path.name}, {size} kB: {verdicts.anomalous.sum()} flagged, {caught.sum()} of {odd.sum()} anomalies")


if __name__ == "__main__":
    main()
