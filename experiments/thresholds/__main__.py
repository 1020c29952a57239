"""Thresholds: mistakes of an online threshold on scores whose law is fixed, and on scores whose law shifts.

The synthetic protocol of "Online adaptive anomaly thresholding with confidence sequences" (ICML 2024): normal scores, a
new mean and variance every 300 events or so, an anomaly being a score above the 99 % quantile of the law of the
moment. Counted are false positives plus false negatives, and apart from them the events on which a method abstains.
"""

from experiments import common
from experiments.thresholds.run import RUNS, run

if __name__ == "__main__":
    common.main(run, __file__, seeds=RUNS, quick_seeds=4)
