"""What a notebook shows of an Engine, its models and its verdicts, and the pictures that are drawn of them."""

import subprocess
import sys
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest

from onlineguard import Absence, Detector, Engine, InvalidArgument, JointDetector, Series
from onlineguard.engine.pictures import MOST_POINTS

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.dates import num2date

FEATURES = ["load", "latency"]
RNG = np.random.default_rng(0)
X = RNG.normal([0.5, 12.0], [0.1, 3.0], (1_000, 2))
X[900:910] += [2.0, 60.0]


@pytest.fixture(scope="module")
def judged():
    engine = Engine(features=FEATURES)
    return engine, engine.update("web", X)


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def drawn(axis):
    """The points of each line of a panel."""
    return [line.get_xydata() for line in axis.get_lines()]


def test_verdicts_are_drawn_with_values_scores_thresholds_and_what_is_anomalous(judged, tmp_path):
    _, verdicts = judged
    *panels, below = verdicts.plot(pl.DataFrame(dict(zip(FEATURES, X.T, strict=True))))
    odd = np.flatnonzero(verdicts.anomalous)
    assert {*range(900, 910)} <= {*odd}
    assert [axis.get_ylabel() for axis in (*panels, below)] == [*FEATURES, "score"]
    for j, axis in enumerate(panels):
        usual, marked = drawn(axis)
        assert len(usual) + len(marked) == len(X)
        np.testing.assert_array_equal(marked, np.column_stack([odd, X[odd, j]]))
    usual, marked, threshold = drawn(below)
    assert below.get_yscale() == "log"
    np.testing.assert_array_equal(marked, np.column_stack([odd, verdicts.score[odd]]))
    np.testing.assert_array_equal(threshold[:, 1], verdicts.threshold)
    assert panels[0].get_title(loc="left") == repr(verdicts)
    below.figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_an_engine_draws_a_slice_over_what_is_usual_in_it_and_learns_nothing(judged):
    engine, _ = judged
    before = engine.n_events
    *panels, below = engine.plot("web", X)
    told = engine.describe("web")
    for name, axis in zip(FEATURES, panels, strict=True):
        (band,) = axis.patches
        low, high = band.get_y(), band.get_y() + band.get_height()
        assert (low + high) / 2 == pytest.approx(told["location"][name])
        assert (high - low) / 6 == pytest.approx(told["scale"][name])
    np.testing.assert_array_equal(drawn(below)[2][:, 1], engine.score("web", X).threshold)
    assert panels[0].get_title(loc="left") == "'web' after 1,000 events"
    assert engine.n_events == before


@pytest.mark.slow  # three models are compiled
def test_scores_are_drawn_alone_and_categories_and_series_too():
    engine = Engine(features=["browser", "ms"])
    requests = [{"browser": "ab"[i % 2], "ms": value} for i, value in enumerate(X[:300, 1].tolist())]
    verdicts = engine.update("shop", requests)
    assert len(verdicts.plot()) == 1
    assert [axis.get_ylabel() for axis in engine.plot("shop", requests)] == ["ms", "score"]
    series = Engine(1, estimator=Series())
    series.update("one", X[:300, 0])
    assert [axis.get_ylabel() for axis in series.plot("one", X[:300, 0])] == ["0", "score"]


def test_of_many_usual_events_some_are_drawn_and_of_the_anomalous_all():
    events = RNG.normal(size=(50_000, 1))
    engine = Engine(1, estimator=Detector())
    verdicts = engine.update("a", events)
    usual, marked = drawn(verdicts.plot(events)[0])
    assert MOST_POINTS / 2 <= len(usual) <= MOST_POINTS
    assert len(marked) == verdicts.anomalous.sum()


def test_what_cannot_be_drawn_says_why_and_what_to_do(judged):
    engine, verdicts = judged
    with pytest.raises(InvalidArgument, match="X has 999 events for 1000 verdicts; give the events that were judged"):
        verdicts.plot(X[1:])
    with pytest.raises(InvalidArgument, match=r"X has 13 features; a figure shows at most 12: name them, features="):
        verdicts.plot(np.zeros((1_000, 13)))
    with pytest.raises(InvalidArgument, match="features names 'disk', which is no feature; they are 'load', 'latency'"):
        engine.plot("web", X, features=["disk"])
    with pytest.raises(KeyError):
        engine.plot("shop", X)
    assert len(engine.plot("web", X, features=["latency"])) == 2


@pytest.mark.slow
def test_without_matplotlib_one_line_names_the_extra():
    program = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from onlineguard import Engine\n"
        "Engine(1).update('a', [[1.0]]).plot()"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.stderr.splitlines()[-1].endswith("MissingExtra: plot needs matplotlib: pip install 'onlineguard[plot]'")


class Table(HTMLParser):
    """The cells of a table, and whether its tags are closed in their order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.cells = [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] in ("th", "td", "caption"):
            self.cells.append(data)


def test_an_engine_its_model_and_its_verdicts_are_tables_in_a_notebook(judged):
    engine, verdicts = judged
    assert "load, latency" in Table(engine._repr_html_()).cells
    caption, *cells = Table(verdicts[905]._repr_html_()).cells
    assert caption == "Verdict: anomalous"
    assert cells[:5] == ["score", "threshold", "p_value", "anomalous", "ready"]
    assert cells[-2:] == ["True", "True"]
    assert Table(verdicts[0]._repr_html_()).cells[0] == "Verdict: not ready"
    assert Table(Engine(1).score("a", [[0.0]])._repr_html_()).cells[0].startswith("Verdicts of 1 events")
    for model in (JointDetector(0.02), Detector(0.02), Series(0.02), Absence(Detector(0.02))):
        caption, *cells = Table(model._repr_html_()).cells
        assert caption == type(model).__name__
        assert "0.02" in cells[1] or "target_rate=0.02" in cells[1]


@pytest.mark.parametrize("kind", ["polars", "pandas"])
def test_verdicts_of_one_slice_are_drawn_over_its_times_with_the_numbers_of_a_frame(judged, kind):
    _, verdicts = judged
    start = np.datetime64("2026-07-01T00:00", "us")
    frame = pl.DataFrame(
        {
            "at": start + np.arange(len(X)) * np.timedelta64(60_000_000, "us"),
            "host": ["a", "b"] * (len(X) // 2),
            **dict(zip(FEATURES, X.T, strict=True)),
        }
    )
    one = frame["host"] == "a"
    held = frame.filter(one)
    if kind == "pandas":
        one, held = one.to_pandas(), held.to_pandas()
    axes = verdicts[one].plot(held, time="at")
    assert [axis.get_ylabel() for axis in axes] == [*FEATURES, "score"]
    assert axes[-1].get_xlabel() == "at"
    x = drawn(axes[0])[0][:, 0]
    assert num2date(x[0]).replace(tzinfo=None) == start.item()
    same = verdicts[one].plot(held, time=held["at"])
    np.testing.assert_array_equal(drawn(same[-1])[0], drawn(axes[-1])[0])
    with pytest.raises(InvalidArgument, match="time is 'when', which is no column of X"):
        verdicts[one].plot(held, time="when")
    with pytest.raises(InvalidArgument, match=r"time has shape \(3,\) for 500 verdicts"):
        verdicts[one].plot(held, time=np.arange(3))


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_the_index_of_a_pandas_frame_lies_along_the_axis_if_it_holds_times(judged, zone):
    pandas = pytest.importorskip("pandas")
    index = pandas.date_range("2026-07-01", periods=len(X), freq="min", tz=zone, name="at")
    frame = pandas.DataFrame(X, columns=FEATURES, index=index)
    expected = mpl.dates.date2num(index.to_numpy())
    for given, options in (
        (frame, {}),
        (frame, {"time": "at"}),
        (frame.set_index("load", append=True), {"time": "at"}),
    ):
        *_, score = judged[1].plot(given, ["latency"], **options)
        threshold = drawn(score)[-1]
        np.testing.assert_allclose(threshold[:, 0], expected)
    *_, score = judged[1].plot(frame.reset_index(drop=True), ["latency"])
    assert drawn(score)[-1][:3, 0].tolist() == [0, 1, 2]


def test_the_axis_of_scores_has_plain_numbers(judged):
    *_, score = judged[1].plot()
    score.figure.canvas.draw()
    shown = {text.get_text() for text in score.get_yticklabels()}
    assert {"0.5", "1", "2", "5"} <= shown
    assert not any(text.get_text() for text in score.get_yticklabels(minor=True))
