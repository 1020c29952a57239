"""The page is safe, whole and readable, whatever it shows."""

import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onlineguard.errors import InvalidArgument
from onlineguard.report import Alarm, SliceReport, write_report
from tests.support.pages import Page, a_slice, any_float, written

EVIL = "<script>alert('1')</script>\"&amp; \x00\ud800 $name {0} ]]> -->"


def test_all_text_is_escaped(tmp_path):
    evil = a_slice(name=EVIL, drivers={EVIL: 1.0}, value_name=EVIL)
    write_report(tmp_path / "r.html", [evil], {EVIL: EVIL}, title=EVIL)
    page = Page(tmp_path / "r.html").check()
    shown = EVIL.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")
    assert page.texts["h1"] == page.texts["dt"] == page.texts["dd"] == [shown]
    assert page.texts["bdi"].count(shown) == 4  # in the table and above the plots, and twice as a driver


def test_every_plot_says_what_it_shows(tmp_path):
    page = written(tmp_path / "r.html", a_slice(), a_slice(name="other"), events=1_234_567, rate=0.01234, none=None)
    assert len(page.all("section")) == 2
    plots = page.all("svg", role="img")
    assert len(plots) == 4
    assert len({plot["aria-labelledby"] for plot in plots}) == 4
    assert page.texts["title"][1:] == [
        f"{what} of {name} over time" for name in ("host", "other") for what in ("value", "score")
    ]
    assert (
        page.texts["desc"][0] == "500 events, 22 anomalies in 2 alarms; 14 Nov 2023 22:13:20 to 15 Nov 2023 06:32:20."
    )
    assert page.texts["dd"] == ["1,234,567", "0.0123", "n/a"]
    for words in ("labelled window", "What drove the alarms", "75%", "14 Nov 2023 23:53:20", "21 events"):
        assert words in page.source
    assert page.all("meta", **{"http-equiv": "Content-Security-Policy"})


def test_a_run_without_slices_is_a_page_too(tmp_path):
    assert "No slice was recorded." in written(tmp_path / "r.html").source


@st.composite
def any_slice(draw) -> SliceReport:
    n = draw(st.integers(0, 30))
    series = hnp.arrays(np.float64, n, elements=any_float)
    starts = draw(st.lists(st.integers(0, max(n - 1, 0)), max_size=3)) if n else []
    moments = hnp.arrays(np.int64, n, elements=st.integers(-(10**17), 10**17) | st.just(np.iinfo(np.int64).min))
    return a_slice(
        index=np.arange(n) * draw(st.integers(1, 1_000)),
        values=draw(series),
        scores=draw(series),
        thresholds=draw(series),
        labels=draw(st.none() | hnp.arrays(np.int8, n, elements=st.integers(0, 1))),
        times=draw(st.none() | moments | moments.map(np.sort)),
        alarms=[Alarm(start, start + 3, draw(any_float), draw(any_float)) for start in starts],
        drivers=draw(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=9)),
        n_events=n,
    )


@pytest.mark.slow
@example(one=a_slice(values=np.full(500, 7.0), scores=np.zeros(500), thresholds=np.full(500, np.nan)))
@example(one=a_slice(values=np.full(500, np.nan), scores=np.full(500, np.inf)))
@given(one=any_slice())
def test_every_series_makes_a_whole_page(one, tmp_path_factory):
    page = written(tmp_path_factory.mktemp("r") / "r.html", one)
    for style in (attrs["style"] for _, attrs in page.elements if "style" in attrs):
        assert 0 <= float(re.search(r":(.*)%", style)[1]) <= 100


def test_several_features_show_the_score_once(tmp_path):
    assert len(written(tmp_path / "r.html", a_slice(values=a_slice().scores)).all("svg", role="img")) == 1


def test_a_report_that_cannot_be_written_is_one_clear_error_and_leaves_nothing(tmp_path):
    with pytest.raises(InvalidArgument, match="where no report can be written"):
        write_report(tmp_path / "none" / "r.html", [], {})
    (tmp_path / "r.html").mkdir()
    with pytest.raises(InvalidArgument, match="where no report can be written"):
        write_report(tmp_path / "r.html", [], {})
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]


def test_columns_of_different_lengths_are_an_error(tmp_path):
    with pytest.raises(InvalidArgument, match="scores of slice 'host' has 2 entries, its index has 500"):
        written(tmp_path / "r.html", a_slice(scores=np.zeros(2)))
