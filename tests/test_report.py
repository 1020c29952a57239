"""The report: nothing of a stream is lost on the way to the page, and the page is safe, whole and readable."""

import re
from datetime import datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onlineguard import report
from onlineguard.errors import InvalidArgument
from onlineguard.report import Alarm, SeriesRecorder, SliceReport, merge_alarms, write_report

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """A page as elements; raises at one that is not closed in its turn."""

    def __init__(self, path: Path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert "svg" in self.open, f"<{tag}/> closes itself outside of an svg"
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.elements if name == tag and wanted.items() <= attrs.items()]

    def check(self) -> "Page":
        assert self.source.startswith("<!doctype html>\n<html lang=")
        ids = [attrs["id"] for _, attrs in self.elements if "id" in attrs]
        assert len(set(ids)) == len(ids)
        for _, attrs in self.elements:
            for name in ("href", "aria-labelledby", "clip-path"):
                for target in re.findall(r"[\w-]+", attrs.get(name, "").removeprefix("url")):
                    assert target in ids
        for tag, attrs in self.elements:
            assert tag not in {"script", "link", "img", "iframe", "object", "base"}
            assert not any(name.startswith("on") or name == "src" for name in attrs)
            if tag == "path":
                assert re.fullmatch(r"([MlhvVHz]|-?\d+| )*", attrs["d"]), attrs["d"]
        assert "http:" not in self.source
        assert "https:" not in self.source
        assert "url(" not in self.source.replace("url(#", "")
        for svg in self.all("svg"):
            assert svg.get("aria-hidden") == "true" or svg["role"] == "img"
        return self


def a_slice(**changes) -> SliceReport:
    n = 500
    random = np.random.default_rng(0)
    scores = np.abs(random.normal(size=n))
    base = {
        "name": "host",
        "times": 1_700_000_000_000_000 + 60_000_000 * np.arange(n),
        "index": np.arange(n),
        "values": random.normal(size=n),
        "scores": scores,
        "thresholds": np.full(n, 2.5),
        "alarms": [Alarm(100, 120, 9.0, 1e-5), Alarm(300, 300, 4.0, 1e-3)],
        "labels": (np.arange(n) // 50 == 2).astype(np.int8),
        "drivers": {"cpu": 0.75, "net": 0.25},
        "n_events": n,
        "n_anomalies": 22,
    }
    return SliceReport(**base | changes)


def written(path: Path, *slices: SliceReport, **summary: object) -> Page:
    write_report(path, list(slices), summary)
    return Page(path).check()


# Alarms


@given(anomalous=hnp.arrays(np.bool_, st.integers(0, 60)), gap=st.integers(0, 12))
def test_alarms_are_the_runs_with_no_longer_gap(anomalous, gap):
    at = np.flatnonzero(anomalous)
    scores, p = np.arange(60.0)[at] % 7, 1 / (1 + np.arange(60.0)[at] % 5)
    alarms = merge_alarms(at, scores, p, gap)
    covered = np.zeros(len(anomalous) + 1, np.bool_)
    for alarm in alarms:
        assert anomalous[alarm.start]
        assert anomalous[alarm.end]
        covered[alarm.start : alarm.end + 1] = True
        inside = (at >= alarm.start) & (at <= alarm.end)
        assert (alarm.peak_score, alarm.p_value) == (scores[inside].max(), p[inside].min())
        assert np.diff(at[inside], prepend=alarm.start).max() <= gap + 1
    assert covered[:-1][anomalous].all()
    assert all(b.start - a.end - 1 > gap for a, b in pairwise(alarms))


# Recording


def record(recorder: SeriesRecorder, keys, values, scores=None, anomalous=None, **options) -> None:
    scores = np.abs(values) if scores is None else scores
    thresholds = np.full(len(values), 2.0)
    anomalous = scores > thresholds if anomalous is None else anomalous
    recorder.add(keys, values, scores, thresholds, anomalous, np.exp(-scores), **options)


def same(one: SliceReport, other: SliceReport) -> None:
    for name in one.__dataclass_fields__:
        np.testing.assert_equal(getattr(one, name), getattr(other, name))


@given(
    values=hnp.arrays(np.float64, st.integers(1, 200), elements=st.floats(-9, 9) | st.just(np.nan)),
    cuts=st.lists(st.integers(0, 200), max_size=8),
    keys=st.integers(1, 3),
)
def test_a_recording_does_not_depend_on_the_batches(values, cuts, keys):
    slices = np.arange(len(values)) ** 2 % keys
    times, labels = np.arange(len(values)) * 1_000, np.arange(len(values)) // 7 % 2
    whole, parts = (SeriesRecorder(max_points=16, gap=2) for _ in range(2))
    record(whole, slices, values, times=times, labels=labels)
    edges = [0, *sorted(cut for cut in cuts if cut <= len(values)), len(values)]
    for start, stop in pairwise(edges):
        part = slice(start, stop)
        record(parts, slices[part], values[part], times=times[part], labels=labels[part])
    one, other = whole.reports(slices=range(keys)), parts.reports(slices=range(keys))
    assert len(one) == len(other) == len(set(slices.tolist()))
    for a, b in zip(one, other, strict=True):
        same(a, b)


@given(
    values=hnp.arrays(np.float64, st.integers(1, 3_000), elements=st.floats(-100, 100, width=16)),
    size=st.sampled_from([4, 10, 64]),
)
def test_no_spike_no_dip_and_no_anomaly_is_lost_however_few_points_are_kept(values, size):
    recorder = SeriesRecorder(max_points=size)
    record(recorder, ["a"] * len(values), values, times=np.arange(len(values)) * 10, labels=values > 50)
    (kept,) = recorder.reports()
    assert len(kept.values) <= size
    assert (kept.values.min(), kept.values.max()) == (values.min(), values.max())
    assert kept.scores.max() == np.abs(values).max()
    np.testing.assert_array_equal(kept.values, values[kept.index])
    np.testing.assert_array_equal(kept.times, kept.index * 10)
    assert (np.diff(kept.index) > 0).all()
    assert kept.labels.max() == (values > 50).max()
    assert (kept.n_events, kept.n_anomalies) == (len(values), (np.abs(values) > 2).sum())
    assert kept.n_alarms == len(
        merge_alarms(np.flatnonzero(np.abs(values) > 2), np.abs(values)[np.abs(values) > 2], values)
    )


def test_the_highest_alarms_are_kept_and_all_are_counted():
    recorder = SeriesRecorder(max_alarms=5, gap=0)
    random = np.random.default_rng(0)
    values = np.zeros(2_000)
    values[::10] = random.uniform(3, 9, 200)
    for part in np.split(values, 40):
        record(recorder, ["a"] * len(part), part)
    (kept,) = recorder.reports()
    assert (kept.n_alarms, len(kept.alarms)) == (200, 5)
    assert {alarm.peak_score for alarm in kept.alarms[:-1]} <= set(np.sort(values)[-5:])
    assert [alarm.start for alarm in kept.alarms] == sorted(alarm.start for alarm in kept.alarms)


def test_an_alarm_goes_on_across_batches():
    recorder = SeriesRecorder(gap=3)
    for value in [0, 5, 0, 0, 0, 7, 0, 0, 0, 0, 5]:
        record(recorder, ["a"], np.array([float(value)]))
    (kept,) = recorder.reports()
    assert [alarm[:3] for alarm in kept.alarms] == [(1, 5, 7.0), (10, 10, 5.0)]
    assert kept.n_alarms == 2


def test_a_higher_peak_takes_the_place_of_the_lowest_recorded_slice():
    recorder = SeriesRecorder(max_slices=2)
    record(recorder, ["a", "b"], np.array([5.0, 3.0]))
    record(recorder, ["c", "d"], np.array([1.0, 2.5]))  # no anomaly, and one that is not higher
    assert [kept.name for kept in recorder.reports()] == ["a", "b"]
    record(recorder, ["c", "a"], np.array([4.0, 0.0]))
    assert [kept.name for kept in recorder.reports()] == ["a", "c"]
    assert [kept.name for kept in recorder.reports(1)] == ["a"]
    assert "c" in recorder
    assert "b" not in recorder


def test_keys_of_every_kind_are_recorded():
    for keys in (pl.Series(["a", "b"]), np.array([1, 2]), [("a", 1), ("b", 2)], ["a", "b"]):
        recorder = SeriesRecorder()
        record(recorder, keys, np.array([1.0, 2.0]))
        assert len(recorder.reports()) == 2
    assert recorder.reports(slices=["b", "none"])[0].name == "b"
    recorder = SeriesRecorder()
    record(recorder, [("a", 1)], np.array([1.0]))
    assert recorder.reports()[0].name == "a / 1"
    record(recorder, [], np.empty(0))


def test_an_infinite_score_is_an_alarm_but_no_rank():
    recorder = SeriesRecorder()
    record(recorder, ["a", "b"], np.array([np.nan, 3.0]), np.array([np.inf, 3.0]))
    assert [kept.name for kept in recorder.reports()] == ["b", "a"]
    assert recorder.reports()[1].alarms == [(0, 0, np.inf, 0.0)]


def test_drivers_are_shares_of_all_that_was_explained():
    recorder = SeriesRecorder()
    record(recorder, ["a"], np.array([1.0]))
    recorder.add_drivers("a", {"cpu": 3.0, "net": 1.0, "disk": np.nan, "none": 0.0})
    recorder.add_drivers("a", {"net": 10.0})
    recorder.add_drivers("a", {"net": 0.0})
    recorder.add_drivers("unknown", {"net": 1.0})
    assert recorder.reports()[0].drivers == {"cpu": 0.375, "net": 0.625}


def test_wrong_arguments_name_the_way_out():
    with pytest.raises(InvalidArgument, match="max_points is 3; it must be at least 4"):
        SeriesRecorder(max_points=3)
    with pytest.raises(InvalidArgument, match="values has 1 entries for 2 events"):
        record(SeriesRecorder(), ["a", "b"], np.array([1.0]))


# The page

EVIL = "<script>alert('1')</script>\"&amp; \x00\ud800 $name {0} ]]> -->"


def test_all_text_is_escaped(tmp_path):
    evil = a_slice(name=EVIL, drivers={EVIL: 1.0}, value_name=EVIL)
    write_report(tmp_path / "r.html", [evil], {EVIL: EVIL}, title=EVIL)
    page = Page(tmp_path / "r.html").check()
    assert "<script" not in page.source
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


def test_ten_long_noisy_slices_make_a_light_file(tmp_path):
    recorder, random = SeriesRecorder(), np.random.default_rng(0)
    keys = [f"slice {i % 10}" for i in range(100_000)]
    record(recorder, keys, random.normal(size=len(keys)), times=1_000_000 * np.arange(len(keys)))
    write_report(tmp_path / "r.html", recorder.reports(), {"events": len(keys)})
    assert (tmp_path / "r.html").stat().st_size < 300_000


@given(
    n=st.integers(1, 2_000),
    data=st.data(),
)
def test_the_drawn_line_reaches_the_height_of_every_spike(n, data):
    y = np.full(n, 700.0)
    spike = data.draw(st.integers(0, n - 1))
    y[spike] = 20.0
    x = np.arange(n) * (720 / max(n - 1, 1))
    for floor in (None, 1_000):
        numbers = visited(report._path(x, y, floor))
        assert (int(x[spike]), 20) in numbers
        assert min(height for _, height in numbers) == 20


def visited(path: str) -> list[tuple[int, int]]:
    """The points that a path of M, l, h and V goes through."""
    x = y = 0
    points = []
    for command, text in re.findall(r"([MlhV])([^MlhV]*)", path):
        numbers = [int(number) for number in re.findall(r"-?\d+", text)]
        if command == "V":
            numbers, command = [0, numbers[0] - y], "l"
        if command == "h":
            numbers, command = [numbers[0], 0], "l"
        for dx, dy in zip(numbers[::2], numbers[1::2], strict=True):
            x, y = (dx, dy) if command == "M" else (x + dx, y + dy)
            points.append((x, y))
    return points


any_float = st.floats(width=32, allow_subnormal=False) | st.sampled_from([0.0, 1.0, 1e9, 3e38, np.nan, np.inf])


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
        alarms=[(start, start + 3, draw(any_float), draw(any_float)) for start in starts],
        drivers=draw(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=9)),
        n_events=n,
    )


@example(one=a_slice(values=np.full(500, 7.0), scores=np.zeros(500), thresholds=np.full(500, np.nan)))
@example(one=a_slice(values=np.full(500, np.nan), scores=np.full(500, np.inf)))
@given(one=any_slice())
def test_every_series_makes_a_whole_page(one, tmp_path_factory):
    page = written(tmp_path_factory.mktemp("r") / "r.html", one)
    for style in (attrs["style"] for _, attrs in page.elements if "style" in attrs):
        assert 0 <= float(re.search(r":(.*)%", style)[1]) <= 100


@given(low=st.integers(-(10**16), 10**16), width=st.integers(3, 10**16))
def test_time_ticks_are_few_distinct_and_inside(low, width):
    ticks = report._time_ticks(low, low + width)
    assert 2 <= len(ticks) <= 11
    at = [place for place, _ in ticks]
    assert all(low <= place <= low + width for place in at)
    assert all(b > a for a, b in pairwise(at))
    texts = [text for _, text in ticks]
    assert all(b != a for a, b in pairwise(texts))


@given(values=hnp.arrays(np.float64, st.integers(1, 50), elements=any_float), from_zero=st.booleans())
def test_value_ticks_differ_and_an_axis_keeps_the_order(values, from_zero):
    values = np.abs(values) if from_zero else values
    axis = report._Axis.of(values, from_zero)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 11
    assert len({text for _, text in ticks}) == len(ticks)
    ordered = axis.y(np.sort(values[np.isfinite(values)]))
    assert (np.diff(ordered) <= 0).all()
    assert ((ordered >= 0) & (ordered <= 1_000)).all()


def test_an_axis_is_logarithmic_only_where_it_helps():
    random = np.random.default_rng(0)
    assert report._Axis.of(random.normal(size=1_000)).linear_to is None
    assert report._Axis.of(random.uniform(1e6, 1.1e6, 1_000)).linear_to is None
    assert report._Axis.of(np.append(random.normal(size=1_000), 1e6)).linear_to is not None


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (0.01234, "0.0123"),
        (-12.345, "-12.3"),
        (9_870.0, "9,870"),
        (12_345.0, "12.3k"),
        (1.234e6, "1.23M"),
        (1.2e-7, "1.2e-7"),
        (3e38, "3e38"),
        (np.inf, "∞"),
        (np.nan, "n/a"),
    ],
)
def test_numbers_are_short(number, text):
    assert report._number(number) == text


def test_times_that_order_nothing_give_way_to_the_event_number(tmp_path):
    random = np.random.default_rng(0)
    for times in (random.integers(0, 10**15, 500), np.full(500, np.iinfo(np.int64).min), np.full(500, 5)):
        assert ">event<" in written(tmp_path / "r.html", a_slice(times=times)).source
    back = 1_700_000_000_000_000 + 60_000_000 * np.arange(500)
    back[200:205] -= 3_600_000_000  # a clock set back
    back[300] = np.iinfo(np.int64).min
    for times in (back, back.view("datetime64[us]"), [datetime(2024, 1, 1, 0, i // 60, i % 60) for i in range(500)]):
        assert ">time (UTC)<" in written(tmp_path / "r.html", a_slice(times=times)).source


def test_several_features_show_the_score_once(tmp_path):
    assert len(written(tmp_path / "r.html", a_slice(values=a_slice().scores)).all("svg", role="img")) == 1


def luminance(colour: str) -> float:
    colour = colour if len(colour) == 7 else "#" + "".join(c * 2 for c in colour[1:])
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return float(np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_marks_stand_out_in_both_colour_schemes(scheme):
    light, dark = report._STYLE.split("prefers-color-scheme:dark")
    colours = dict(re.findall(r"--(\w+):(#\w+)", light if scheme == "light" else dark))
    for front, back, least in [
        *(("ink", back, 7.0) for back in ("page", "card")),
        *(("soft", back, 4.5) for back in ("page", "card")),
        *((mark, "card", 3.0) for mark in ("series", "score", "alarm", "label")),
    ]:
        bright, dim = sorted((luminance(colours[front]), luminance(colours[back])), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= least, (front, back)


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
