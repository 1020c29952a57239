"""Evidence: by how many decades the alarms of a slice are less likely than chance, which slices are ranked by.

The evidence of one alarm is the likelihood ratio of a scan statistic. Of its `length` events a share s is odd, and p is
the geometric mean of their p-values. If events were independent and usual, a share p would be as odd as they are, so

    evidence = length (s log10(s / p) + (1 - s) log10((1 - s) / (1 - p))), or 0 where s <= p.

For one odd event it is -log10(p), 12 at most, as a p-value is never below 1e-12. A hundred events in a row with
p-values of 0.01 have 200. So a slice that is broken for hours stands above one with a single freak event; by the lowest
p-value alone it would be the other way round.

Among n events some are that odd by chance, alone or a few together, so 1.5 log10(n) is taken from each alarm, and what
is left above 0 is added up. So false alarms gain nothing by their number: independent usual events have had 5 decades
at most, be they a thousand or a million (`tests/report/test_evidence.py`). With log10(n), which would do for single
events, a million had 30. Events of one fault depend on each other, so evidence ranks, and is no probability.

Numbers are kept in thousandths of a decade, as whole numbers: their sums depend on no order, and so on no batches.

Source: M. Kulldorff, A spatial scan statistic, Communications in Statistics, 1997, with the Bernoulli model. We weigh
odd events by their p-values, and take the alarms for the windows.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

THOUSANDTHS = 1_000
BY_CHANCE = 1.5  # decades that an alarm has by chance, for each decade of events


def digits_of(p_values: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """-log10 of p-values, in thousandths; 0 where one is not known.

    >>> digits_of(np.array([1.0, 0.01, 1e-12, np.nan])).tolist()
    [0, 2000, 12000, 0]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        digits = -THOUSANDTHS * np.log10(p_values)
    return np.rint(np.nan_to_num(np.clip(digits, 0.0, 12.0 * THOUSANDTHS))).astype(np.int64)


def evidence_of(length: Any, odd: Any, digits: Any) -> Int[np.ndarray, " n"]:
    """The evidence of alarms, in thousandths: of `length` events `odd` are odd, with `digits_of` these in sum.

    >>> evidence_of(1, 1, 12_000).item(), evidence_of(100, 100, 200_000).item(), evidence_of(20, 3, 6_000).item()
    (12000, 200000, 2403)
    """
    n, k = np.asarray(length, np.float64), np.asarray(odd, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        share, p = k / n, 10.0 ** (-np.asarray(digits) / (THOUSANDTHS * k))
        usual = np.where(k < n, (n - k) * np.log10((1.0 - share) / (1.0 - p)), 0.0)
        found = np.where(share > p, k * np.log10(share / p) + usual, 0.0)
    return np.rint(THOUSANDTHS * np.nan_to_num(np.maximum(found, 0.0))).astype(np.int64)


def beyond_chance(evidence: Int[np.ndarray, " n"], seen: Any) -> Int[np.ndarray, " n"]:
    """What is left of the evidence of an alarm that is one of `seen` events, in thousandths."""
    by_chance = np.rint(BY_CHANCE * THOUSANDTHS * np.log10(np.maximum(seen, 1))).astype(np.int64)
    return np.maximum(evidence - by_chance, 0)
