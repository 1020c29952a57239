"""Labels spread over a visitor's clicks, and what those are worth together."""

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from onlineguard.slidr.learning.spreading import spread

ids = st.sampled_from([None, "a", "b", "c"])
logs = st.lists(st.tuples(ids, ids, st.booleans()), max_size=40)


def frame(users, sessions):
    return pl.DataFrame(
        {"user_id": users, "session_id": sessions}, schema={"user_id": pl.String, "session_id": pl.String}
    )


@given(logs)
def test_a_click_is_human_if_one_of_its_user_is_or_without_a_user_one_of_its_session(rows):
    users, sessions, known = ([row[i] for row in rows] for i in range(3))
    visitors = [(u, None) if u else (None, s) if s else i for i, (u, s) in enumerate(zip(users, sessions, strict=True))]
    told = spread(frame(users, sessions), np.array(known, bool))
    for visitor, human, load in zip(visitors, told.human, told.loads, strict=True):
        theirs = [k for k, other in zip(known, visitors, strict=True) if other == visitor]
        assert human == any(theirs)
        probability = 1.0 - (1.0 - np.mean(known)) ** len(theirs)
        np.testing.assert_allclose(load, 1.0 / probability if human else 1.0)


def test_the_known_visitors_stand_for_all_clicks_however_differently_people_click():
    rng = np.random.default_rng(0)
    clicks = rng.geometric(0.1, 20_000)
    user = np.repeat(np.arange(len(clicks)), clicks)
    known = rng.random(len(user)) < 0.02
    told = spread(frame(user.astype(str).tolist(), [None] * len(user)), known)
    np.testing.assert_allclose(told.loads[told.human].sum(), len(user), rtol=0.02)
    # without the loads, those who click a lot would be learned as the typical people
    each = clicks[user]
    assert each[told.human].mean() > 1.15 * each.mean()
    np.testing.assert_allclose(np.average(each[told.human], weights=told.loads[told.human]), each.mean(), rtol=0.03)
