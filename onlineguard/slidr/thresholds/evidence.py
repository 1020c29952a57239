"""How many marked purchases show that a rate of false positives lies within a budget.

Thresholds that were chosen on a sample mark more of new clicks than of the sample. So a part of the purchasing clicks
takes no part in choosing, and tests. If the family of thresholds has one parameter, and the first member that is over
the budget is the first to fail, then the largest member that passes is over the budget with a probability of at most 1
- confidence: it is over only if that first one passed.

A member passes if the upper end of the exact one-sided binomial interval lies within the budget. Without a confidence,
it passes if the plain share does, which keeps the budget on average, and is over it about as often as not.

- k marked of n: the bound is the (confidence)-quantile of Beta(k + 1, n - k).
- Of n, none marked, the bound is 1 - (1 - confidence)^(1/n). So a budget of 1 % at confidence .95 takes 299 purchases.
- Purchasing clicks are taken as independent. Those of one person are not.

Source: Angelopoulos, Bates, Candès, Jordan, Lei, "Learn then test", 2021 (a fixed sequence of hypotheses), and Clopper,
Pearson, Biometrika 1934, whose bound takes the place of theirs, since the counts are binomial.
"""

import bisect
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from onlineguard.slidr.thresholds.metrics import clopper_pearson

Thresholds = Float[np.ndarray, " slices"]


@dataclass(frozen=True)
class Count:
    """Clicks of people, and the number of them that thresholds may mark."""

    scores: Float[np.ndarray, " people"]
    codes: Int[np.ndarray, " people"]
    tested: Bool[np.ndarray, " people"]  # those that took no part in choosing the family
    budget: float
    confidence: float | None

    @property
    def n_tested(self) -> int:
        """The number of clicks that test."""
        return int(self.tested.sum())

    @property
    def most(self) -> int:
        """Of all, the largest number that may be marked."""
        return most(self.budget, len(self.scores))

    @property
    def most_tested(self) -> int:
        """Of those that test, the largest number; -1 if they are too few to show the budget."""
        return most(self.budget, self.n_tested, self.confidence)

    def marked(self, thresholds: Thresholds) -> Bool[np.ndarray, " people"]:
        """Which of them are marked."""
        return self.scores > thresholds[self.codes]

    def allows(self, thresholds: Thresholds, charge: int = 0) -> bool:
        """Whether no more are marked than may be, with a charge of so many more."""
        marked = self.marked(thresholds)
        return int(marked.sum()) <= self.most and int((marked & self.tested).sum()) + charge <= self.most_tested

    def bound(self, thresholds: Thresholds) -> float:
        """The upper bound of the FPR by those that test; without a confidence, the larger share of both."""
        marked = self.marked(thresholds)
        k, n = int((marked & self.tested).sum()), self.n_tested
        if self.confidence is None:
            return max(float(marked.mean()), k / max(n, 1))
        return float(upper(k, n, self.confidence))


def most(budget: float, n: int, confidence: float | None = None) -> int:
    """The largest count of n whose share, or upper bound, is within the budget, also after rounding; -1 if none is."""
    share = (lambda k: k / n) if confidence is None else (lambda k: upper(k, n, confidence))
    return bisect.bisect_right(range(n + 1), budget, key=share) - 1 if n or confidence is not None else 0


def upper(k: Any, n: Any, confidence: float) -> np.ndarray:
    """One-sided upper bound of binomial shares: the upper ends of the two-sided intervals with twice the error."""
    return clopper_pearson(k, n, 2.0 * confidence - 1.0)[1]


def enough(budget: float, confidence: float | None) -> float:
    """The fewest purchases that can show a budget, if none of them is marked; infinite for a budget of 0.

    Without a confidence, the fewest of which one may be marked.

    >>> enough(0.01, 0.95), enough(0.01, None)
    (299, 100)
    """
    if budget < 1e-300:  # 1 / budget would be no number
        return math.inf
    if budget >= 1.0:
        return 1
    if confidence is None:
        return math.ceil(1.0 / budget - 1e-9)
    return math.ceil(math.log1p(-confidence) / math.log1p(-budget) - 1e-9)


def drawn(
    scores: Float[np.ndarray, " n"],
    codes: Int[np.ndarray, " n"],
    human: Bool[np.ndarray, " n"],
    share: float,
    seed: int,
) -> Bool[np.ndarray, " n"]:
    """A random share of the purchasing clicks, rounded down. It does not depend on the order of the clicks."""
    at = np.flatnonzero(human)
    at = at[np.lexsort((codes[at], scores[at]))]
    chosen = np.zeros(len(human), bool)
    chosen[np.random.default_rng(seed).permutation(at)[: math.floor(share * len(at))]] = True
    return chosen
