"""Verdicts: one event's p-value is the one it has among many."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onlineguard.engine.verdicts import Verdicts

NUMBERS = st.floats(0.0, width=32, allow_subnormal=False) | st.sampled_from([0.0, 1.0, np.inf, np.nan])


@example(rows=np.full((2, 5), 0.0, np.float32), target_rate=0.01)  # log 0 less log 0
@given(hnp.arrays(np.float32, st.tuples(st.integers(2, 9), st.just(5)), elements=NUMBERS), st.floats(1e-6, 0.2))
def test_the_p_value_of_one_event_is_that_which_it_has_among_many(rows, target_rate):
    def verdicts(part):
        score, threshold, *quantiles = part.T
        return Verdicts(np.stack([score, threshold, np.ones_like(score), *quantiles, threshold], axis=1), target_rate)

    with np.errstate(all="ignore"):
        together = verdicts(rows).p_value
        alone = [verdicts(rows[i : i + 1]).p_value[0] for i in range(len(rows))]
    np.testing.assert_array_equal(alone, together)
