"""Change points: how soon ours, river's and the published detectors find them, and how often they make them up.

Three measures, each over independent streams: the regret of section 5 of "Online heavy-tailed change-point detection"
(UAI 2023) on every row of its table, the published figures beside it; the delay and the share of changes missed,
against the size of the jump; and false alarms a million events on streams that never change.
"""

from experiments import common
from experiments.change_points.run import RUNS, run

if __name__ == "__main__":
    common.main(run, __file__, seeds=RUNS, quick_seeds=3)
