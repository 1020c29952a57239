"""The index of names: a page that is made with it is the one that looking at every slice gives."""

import asyncio

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onlineguard_service import listing, name_index
from onlineguard_service.figures import Figures, shown_key
from onlineguard_service.listing import listed

KEYS = st.one_of(
    st.text("abAB9\n\0\xff\u0130\u00df\U0001f600", min_size=1, max_size=4),
    st.integers(0, 99),
    st.tuples(st.text("aB9", max_size=2), st.integers(0, 9)),
)


def add(figures, names):
    n = len(names)
    if n:
        figures.add(names, np.full(n, 4), [0] * n, np.arange(n, dtype=np.float32), np.ones(n), np.zeros((n, 2)))


def looked_through(figures, sort, descending, contains):
    """The slices of both streams in order, by looking at each of them."""
    found = [
        (of, name, row)
        for of, each in figures.items()
        for name, row in zip(each.names(), each.rows(of == "clicks"), strict=True)
        if contains.lower() in shown_key(name).lower()
    ]
    if sort == "name":
        return sorted(found, key=lambda one: (shown_key(one[1]), list(figures).index(one[0])), reverse=descending)
    return sorted(found, key=lambda one: -one[2]["events"] if descending else one[2]["events"])


@given(
    steps=st.lists(
        st.one_of(
            st.lists(KEYS, max_size=25),
            st.tuples(
                st.sampled_from(["name", "events"]), st.booleans(), st.integers(1, 30), st.integers(0, 20),
                st.sampled_from(["", "a", "B", "9", "AB", "\n", "\xff", "i", "\u00df", '"', "no such"]),
            ),
        ),
        max_size=12,
    )
)  # fmt: skip
def test_whatever_comes_and_goes_a_page_is_the_one_that_looking_at_every_slice_gives(steps):
    """Names that are the same text, of a text and of a number, are in the order in which they came."""
    figures = {"clicks": Figures(40), "events": Figures(20)}

    async def run():
        for n, step in enumerate(steps):
            if isinstance(step, list):
                add(figures[("clicks", "events")[n % 2]], step)
                continue
            sort, descending, limit, offset, contains = step
            told = await listed(figures, sort, descending, limit, offset, contains)
            whole = looked_through(figures, sort, descending, contains)
            expected = [(of, row["slice"]) for of, _, row in whole[offset : offset + limit]]
            if len({(shown_key(name), of) for of, name, _ in whole}) == len(whole) or sort != "name":
                assert [(row["of"], row["slice"]) for row in told["slices"]] == expected
            assert (told["total"], told["found"]) == (sum(map(len, figures.values())), len(whole))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(name_index, "FEW", 3)
        for module, name, few in [(listing, "AT_ONCE", 3), (name_index, "AT_ONCE", 2), (name_index, "REMEMBERED", 2)]:
            patch.setattr(module, name, few)
        patch.setattr(name_index, "SEARCHED_AT_ONCE", 4)
        patch.setattr(name_index, "BYTES_AT_ONCE", 16)
        asyncio.run(run())


def test_a_search_looks_at_no_name_once_the_index_is_made_and_at_new_ones_alone_later(monkeypatch):
    figures, read = {"events": Figures(20_000)}, []
    plain = figures["events"].name
    monkeypatch.setattr(figures["events"], "name", lambda place: read.append(place) or plain(place))
    add(figures["events"], [f"slice {n}" for n in range(5_000)])

    def search(contains):
        read.clear()
        asyncio.run(listed(figures, "name", True, 10, 0, contains))
        return len(read)

    assert search("9") >= 5_000
    assert search("99") <= listing.AT_ONCE
    add(figures["events"], [f"new {n}" for n in range(100)])
    assert search("99") <= listing.AT_ONCE + 100


def test_names_that_are_too_long_for_an_index_are_found_without_one(monkeypatch):
    monkeypatch.setattr(name_index, "FEW", 3)
    monkeypatch.setattr(name_index, "MOST_BYTES", 100)
    figures = {"events": Figures(100)}
    add(figures["events"], [f"a long name {n}" for n in range(20)])
    for _ in range(2):
        told = asyncio.run(listed(figures, "name", False, 3, 1, "NAME 1"))
        assert [row["slice"] for row in told["slices"]] == [f"a long name {n}" for n in (10, 11, 12)]
        assert told["found"] == 11
    assert asyncio.run(name_index.index_of(figures["events"])).upto == 0


def test_slices_that_come_while_the_index_is_made_are_in_the_page_and_who_asks_meanwhile_need_not_wait(monkeypatch):
    monkeypatch.setattr(name_index, "FEW", 3)
    monkeypatch.setattr(name_index, "AT_ONCE", 2)
    figures = {"events": Figures(50)}
    add(figures["events"], [f"old {n}" for n in range(40)])

    async def run():
        making = asyncio.create_task(listed(figures, "name", False, 100, 0, "l"))
        for _ in range(5):
            await asyncio.sleep(0)
        add(figures["events"], [f"late {n}" for n in range(30)])  # and some of the old ones go
        told = await listed(figures, "name", False, 100, 0, "l")
        assert not making.done()
        first = await making
        for page in (told, first):
            assert [row["slice"] for row in page["slices"]] == sorted(figures["events"].names())

    asyncio.run(run())
