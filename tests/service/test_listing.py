import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onlineguard_service import listing
from onlineguard_service.figures import Figures
from onlineguard_service.listing import listed


def figures(names, scores):
    one = Figures(10_000)
    n = len(names)
    if n:
        one.add(names, np.full(n, 4), [0] * n, np.array(scores, np.float32), np.ones(n), np.zeros((n, 2)))
    return one


@given(
    values=st.lists(st.sampled_from([0.0, 1.0, 2.0, np.nan, -np.inf]), max_size=40),
    most=st.integers(1, 45),
)
def test_the_first_values_are_those_of_a_whole_stable_sort(values, most):
    array = np.array(values, np.float64)
    assert listing._first(array, most).tolist() == np.argsort(array, kind="stable")[:most].tolist()


@given(
    names=st.lists(st.text("abAB9 ", min_size=1, max_size=4), unique=True, max_size=60),
    descending=st.booleans(),
    limit=st.integers(1, 20),
    offset=st.integers(0, 30),
    contains=st.sampled_from(["", "a", "B", "9"]),
    sort=st.sampled_from(["name", "score"]),
)
def test_a_page_is_the_same_however_few_keys_are_looked_at_between_turns(
    names, descending, limit, offset, contains, sort
):
    clicks, events = names[::3], [name for i, name in enumerate(names) if i % 3]
    streams = {"clicks": figures(clicks, range(len(clicks))), "events": figures(events, range(50, 50 + len(events)))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "AT_ONCE", 3)
        patch.setattr(listing, "ROWS_AT_ONCE", 2)
        told = asyncio.run(listed(streams, sort, descending, limit, offset, contains))
    scores = {name: i for i, name in enumerate(clicks)} | {name: i for i, name in enumerate(events, 50)}
    found = [name for name in names if contains.lower() in name.lower()]
    order = sorted(found, key=(lambda name: name) if sort == "name" else scores.__getitem__, reverse=descending)
    assert [row["slice"] for row in told["slices"]] == order[offset : offset + limit]
    assert (told["total"], told["found"]) == (len(names), len(found))
