"""The theory, measured: regret of clipped SGD and of `Experts` on streams that drift and are corrupted.

Regret is the sum of the distances of the estimate to the truth, from the first event on. Streams of mean, linear and
logistic estimation in 1, 20 and 100 dimensions, with heavy tails, drift and corruption, of 1e3 to 1e6 events each.
Shown are the growth of the regret with the length of the stream, against the order T^(2/3) of the theory, and the
regret of every method relative to that of the best fixed rate in hindsight.
"""

from experiments.common import main
from experiments.regret.run import run

if __name__ == "__main__":
    main(run, __file__, seeds=20, quick_seeds=4)
