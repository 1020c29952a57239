"""The runner: metrics against scikit-learn and a plain loop, verdict files, and engines that are continued."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from onlineguard import Engine
from onlineguard.cli import runner
from onlineguard.cli.sinks import VerdictWriter
from onlineguard.engine.arguments import named_model
from onlineguard.engine.verdicts import Verdicts
from onlineguard.errors import CheckpointError, InvalidArgument, SourceError
from onlineguard.models.base import FIELDS, READY
from onlineguard.models.joint.detector import JointDetector
from onlineguard.models.series import Series
from onlineguard.report import SeriesRecorder
from onlineguard.report.quality import GAP, Labelled, Ranking, Windows
from onlineguard.sources import Source


@st.composite
def scored_events(draw):
    """Slices, scores with ties, and labels of some hundred events, and where to cut them."""
    n = draw(st.integers(2, 300))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = np.exp(rng.normal(0.0, draw(st.sampled_from([0.1, 1.0, 20.0])), n))
    if draw(st.booleans()):
        scores = np.round(scores, 1)
    labels = rng.random(n) < draw(st.sampled_from([0.05, 0.5, 0.9]))
    return rng.integers(0, 4, n), scores.astype(np.float32), labels, draw(st.integers(0, n))


def filled(events, **options):
    rows, scores, labels, cut = events
    ranking = Ranking(**options)
    for part in (slice(None, cut), slice(cut, None)):
        ranking.add(rows[part], scores[part], labels[part])
    return ranking


@given(scored_events())
def test_roc_auc_of_every_slice_is_that_of_scikit_learn(events):
    rows, scores, labels, _ = events
    both = [row for row in np.unique(rows) if len(np.unique(labels[rows == row])) == 2]
    expected = [roc_auc_score(labels[rows == row], scores[rows == row]) for row in both]
    np.testing.assert_allclose(filled(events).roc_auc(), expected, atol=1e-12)


@given(scored_events())
def test_average_precision_is_that_of_scikit_learn(events):
    rows, scores, labels, cut = events
    found = filled((np.zeros_like(rows), scores, labels, cut)).average_precision()
    if not labels.any():
        assert np.isnan(found)
    else:
        assert found == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


def test_a_ranking_stays_bounded_and_close_once_it_is_a_histogram():
    rng = np.random.default_rng(0)
    ranking = Ranking(max_pairs=2_000)
    rows, labels = rng.integers(0, 3, 100_000), rng.random(100_000) < 0.02
    scores = np.exp(rng.normal(labels * 1.0, 1.0)).astype(np.float32)
    for start in range(0, len(rows), 1_000):
        part = slice(start, start + 1_000)
        ranking.add(rows[part], scores[part], labels[part])
        assert len(ranking._pairs) <= 2_000
    assert not ranking.exact
    exact = [roc_auc_score(labels[rows == row], scores[rows == row]) for row in range(3)]
    np.testing.assert_allclose(ranking.roc_auc(), exact, atol=1e-3)
    assert ranking.n_positive == labels.sum()


def test_a_score_that_is_missing_ranks_last():
    ranking = Ranking()
    ranking.add(np.zeros(3, int), np.array([np.nan, 0.5, 2.0], np.float32), np.array([False, True, True]))
    assert ranking.roc_auc().tolist() == [1.0]


def followed_by_loop(rows, inside, anomalous, times):
    """The counts of `Windows`, event by event."""
    caught, n_windows, alarms, delays, delays_us = 0, 0, [0, 0], [], []
    for row in np.unique(rows):
        mine = np.flatnonzero(rows == row)
        last, open_at, was_caught = -GAP - 2, 0, False
        for number, i in enumerate(mine):
            before = mine[number - 1] if number else None
            if inside[i] and (before is None or not inside[before]):
                n_windows, open_at, was_caught = n_windows + 1, number, False
            if not anomalous[i]:
                continue
            if number - last > GAP + 1:
                alarms[int(inside[i])] += 1
            last = number
            if inside[i] and not was_caught and (before is None or not anomalous[before]):
                was_caught, caught = True, caught + 1
                delays.append(number - open_at)
                delays_us.append(times[i] - times[mine[open_at]])
    return n_windows, caught, alarms[1], alarms[0], sorted(delays), sorted(delays_us)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 400), max_size=4), st.sampled_from([0.03, 0.3, 0.9]))
def test_windows_and_alarms_are_those_of_a_plain_loop_wherever_the_stream_is_cut(seed, cuts, share):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 3, 400)
    inside, anomalous = np.repeat(rng.random(40) < 0.4, 10), rng.random(400) < share
    times = np.cumsum(rng.integers(1, 100, 400))
    windows = Windows()
    for part in np.split(np.arange(400), sorted(cuts)):
        windows.add(rows[part], inside[part], anomalous[part], times[part])
    counts = (windows.n_windows, windows.n_caught, windows.n_inside, windows.n_outside)
    expected = followed_by_loop(rows, inside, anomalous, times)
    assert (*counts, sorted(windows.delays), sorted(windows.delays_us)) == expected


def judged(scores, ready=True):
    judgements = np.ones((len(scores), FIELDS), np.float32)
    judgements[:, 0], judgements[:, READY] = scores, ready
    return Verdicts(judgements, 0.01)


def test_events_that_could_not_be_judged_rank_last_and_raise_no_alarm():
    labelled = Labelled()
    labelled.add(["a"] * 2, np.array([0, 0]), judged([9.0, 9.0], ready=False))
    labelled.add(["a"] * 2, np.array([1, 0]), judged([5.0, 0.5]))
    quality = labelled.quality()
    assert (quality.roc_auc, quality.alarms_inside, quality.alarms_outside) == (1.0, 1, 0)


@pytest.fixture
def events_csv(tmp_path: Path) -> Path:
    """3,000 events of three slices and two features, some odd, some times missing."""
    rng = np.random.default_rng(1)
    X = rng.normal(5.0, 1.0, (3_000, 2))
    X[::97] += 30.0
    times = [f"2024-05-01 {i // 3600:02}:{i // 60 % 60:02}:{i % 60:02}" if i % 7 else None for i in range(3_000)]
    frame = pl.DataFrame({"host": rng.choice(["a", "b", "ü"], 3_000), "t": times, "x": X[:, 0], "y": X[:, 1]})
    frame.write_csv(tmp_path / "events.csv")
    return tmp_path / "events.csv"


def run_to(path: Path | None, source: Source, detector: str = "point", **options):
    engine = runner.open_engine(source.feature_columns, detector, 0.01)
    writer = VerdictWriter(path, source.slice_columns) if path else None
    summary = runner.run(source, engine, writers=[] if writer is None else [writer], **options)
    if writer:
        writer.commit()
    return summary


@pytest.mark.parametrize("ending", ["parquet", "csv", "ndjson"])
def test_a_verdict_file_holds_a_row_an_event_in_order(events_csv, tmp_path, ending, monkeypatch):
    monkeypatch.setattr("onlineguard.cli.sinks.PART_ROWS", 1_000)  # several parts, as of a large file
    source = Source(events_csv, ["host"], ["x", "y"], "t", batch_rows=700)
    out = tmp_path / f"out.{ending}"
    summary = run_to(out, source)
    read = {"parquet": pl.read_parquet, "csv": pl.read_csv, "ndjson": pl.read_ndjson}[ending]
    frame = read(out)
    assert frame.columns == ["host", "time", "line", "score", "threshold", "p_value", "anomalous", "ready"]
    assert frame["line"].to_list() == list(range(2, 3_002))
    events = pl.read_csv(events_csv)
    assert frame["host"].to_list() == events["host"].to_list()
    assert frame["time"].is_null().to_list() == events["t"].is_null().to_list()
    if ending != "parquet":
        assert frame["time"][1] == "2024-05-01T00:00:01Z"
    assert frame["anomalous"].sum() == summary.anomalies > 20
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
@pytest.mark.parametrize("slices", [["host"], ["host", "rack"], ["rack"], []])
@pytest.mark.parametrize("ending", ["parquet", "csv", "ndjson"])
def test_a_run_writes_the_verdicts_of_one_update_with_the_whole_file(tmp_path, slices, ending):
    rng = np.random.default_rng(3)
    n = 20_000
    X = rng.normal(50.0, 3.0, (n, 2)).astype(np.float32)
    X[rng.random(n) < 0.01] *= 2.0
    events = pl.DataFrame({"host": rng.integers(0, 90, n), "rack": rng.choice(["a", "", "ü,"], n)})
    events = events.with_columns(pl.col("host") * 10**9, x=pl.Series(X[:, 0]), y=pl.Series(X[:, 1]))
    getattr(events, f"write_{ending}")(tmp_path / f"events.{ending}")
    source = Source(tmp_path / f"events.{ending}", slices, ["x", "y"], batch_rows=7_001)
    summary = run_to(tmp_path / "out.parquet", source)
    keys = events.select(slices) if ending == "parquet" else events.select(slices).cast(pl.String)
    expected = runner.open_engine(["x", "y"], "point").update(keys if slices else "all", events)
    written = pl.read_parquet(tmp_path / "out.parquet")
    assert written.select(slices).equals(keys)
    for name in ("score", "threshold", "p_value", "anomalous", "ready"):
        narrow = np.float32 if name == "p_value" else None
        np.testing.assert_array_equal(written[name].to_numpy(), np.asarray(getattr(expected, name), narrow))
    counted = {"n": n, "anomalies": int(expected.anomalous.sum())}
    assert {"n": summary.events, "anomalies": summary.anomalies} == counted
    assert summary.slices == len(np.unique(expected.slice_numbers))
    for one in summary.oddest:
        key = tuple(one.name.split(" / ")) if len(slices) == 2 else (one.name,)
        mine = np.ones(n, bool)
        for column, part in zip(slices, key, strict=False):
            mine &= (events[column].cast(pl.String) == part).to_numpy()
        assert (one.n_events, one.n_anomalies) == (mine.sum(), expected.anomalous[mine].sum())


def test_several_slice_columns_are_several_columns_of_the_verdicts(events_csv, tmp_path):
    run_to(tmp_path / "out.parquet", Source(events_csv, ["host", "t"], ["x"]))
    assert pl.read_parquet(tmp_path / "out.parquet").columns[:3] == ["host", "t", "line"]


def test_a_discarded_verdict_file_leaves_the_earlier_one(tmp_path):
    out = tmp_path / "out.csv"
    out.write_text("earlier")
    VerdictWriter(out, []).discard()
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    assert out.read_text() == "earlier"


@pytest.mark.parametrize(
    ("path", "slices", "said"),
    [
        ("out.txt", [], "must end in"),
        ("no/such/folder/out.csv", [], "cannot be written"),
        ("out.csv", ["score"], "rename it"),
    ],
)
def test_a_verdict_file_that_cannot_be_made_is_refused_at_once(tmp_path, path, slices, said):
    with pytest.raises(InvalidArgument, match=said):
        VerdictWriter(tmp_path / path, slices)


def test_what_drove_the_oddest_events_is_recorded_for_several_features(events_csv):
    recorder = SeriesRecorder()
    summary = run_to(None, Source(events_csv, ["host"], ["x", "y"]), recorder=recorder, explain=True)
    drivers = summary.oddest[0].drivers
    assert set(drivers) == {"x", "y"}
    assert sum(drivers.values()) == pytest.approx(1.0)


def test_auto_takes_a_few_values_with_a_time_for_a_series():
    assert runner.choose_detector("auto", 1, timed=True)[0] == "series"
    assert runner.choose_detector("auto", 5, timed=True)[0] == "point"
    assert runner.choose_detector("auto", 1, timed=False)[0] == "point"
    assert runner.choose_detector("point", 1, timed=True)[0] == "point"


def test_values_that_do_not_depend_on_those_before_are_points(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((600, 2))
    for name, values, expected in (("noise", noise, "point"), ("walk", noise.cumsum(axis=0), "series")):
        path = tmp_path / f"{name}.csv"
        pl.DataFrame({"x": values[:, 0], "y": values[:, 1], "host": ["a", "b"] * 300}).write_csv(path)
        source = Source(path, ["host"], ["x", "y"])
        found, reason = runner.choose_detector("auto", 2, timed=True, first=source.peek())
        assert found == expected
        assert "rank correlation" in reason


def test_texts_are_categories_from_file_to_verdict(tmp_path):
    rng = np.random.default_rng(0)
    browsers = [*rng.choice(["firefox", "chrome"], 2_999).tolist(), "curl"]
    frame = pl.DataFrame({"browser": browsers, "status": rng.choice([200, 404], 3_000), "x": rng.normal(size=3_000)})
    frame.write_csv(tmp_path / "e.csv")
    frame.write_parquet(tmp_path / "e.parquet")
    frame.write_ndjson(tmp_path / "e.ndjson")
    expected = Engine(features=frame.columns, categories=["status"])
    scores = expected.update("all", frame).score
    assert expected.categories == (0, 1)
    for ending in ("csv", "parquet", "ndjson"):
        source = Source(tmp_path / f"e.{ending}", [], frame.columns, category_columns=["status"])
        source.peek()
        assert source.categories == ["browser", "status"]
        engine = runner.open_engine(frame.columns, "point", 0.01, 5_000, categories=source.categories)
        (batch,) = source
        verdicts = engine.update(batch.keys, batch.X)
        assert verdicts.anomalous[-1]
        np.testing.assert_allclose(verdicts.score, scores, rtol=1e-3)  # the file's numbers are read as float32


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"features": ["x", "z"]}, "features"),
        ({"detector": "series", "rate": None}, "detector"),
        ({"rate": 0.02}, "rate"),
        ({"patience": 100}, "patience"),
    ],
)
def test_a_state_of_another_kind_is_refused_and_says_which(tmp_path, changed, name):
    settings_ = {"features": ["x", "y"], "detector": "point", "rate": 0.01, "patience": None}
    state = tmp_path / "state"
    runner.open_engine(**settings_).save(state)
    assert runner.open_engine(**settings_, state=state).n_features == 2
    with pytest.raises(CheckpointError, match=f"was written with {name} "):
        runner.open_engine(**(settings_ | changed), state=state)


def test_only_a_point_detector_has_a_patience():
    with pytest.raises(InvalidArgument, match="patience is 24"):
        named_model("series", patience=24)


def test_each_detector_has_a_rate_of_its_own():
    assert named_model("point") == JointDetector()
    assert named_model("series") == Series()
    assert named_model("series", 0.01) == Series(0.01)


def test_a_source_of_bad_rows_only_is_an_error(tmp_path):
    path = tmp_path / "bad.ndjson"
    path.write_text('{"x": [1]}\n{"x": {}}\n')
    with pytest.raises(SourceError, match=r"no field of a feature .*line 1: feature 'x'"):
        run_to(None, Source(path, [], ["x"]))
    path.write_text("[]\n[]\n")
    with pytest.raises(SourceError, match=r"every row .*, 2 of them: line 1: JSON, but not an object; line 2"):
        run_to(None, Source(path, [], ["x"]))
    assert len([json.loads(line) for line in (tmp_path / "bad.ndjson.rejects.ndjson").read_text().splitlines()]) == 2


def test_no_file_is_written_twice_nor_over_the_source(events_csv, tmp_path):
    source = Source(events_csv, [], ["x"])
    for destinations in (
        {"out": events_csv},
        {"out": tmp_path / "o.csv", "report": tmp_path / "o.csv"},
        {"state": tmp_path},
        {"state": tmp_path / "missing" / "state"},
    ):
        with pytest.raises(InvalidArgument):
            runner.check_destinations(source, destinations)
    runner.check_destinations(source, {"out": tmp_path / "o.csv", "report": None})


@settings(max_examples=5)
@given(st.integers(1, 900))
def test_a_stream_cut_anywhere_gives_the_same_summary(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "stream.csv"
    rng = np.random.default_rng(2)
    value = rng.normal(size=900)
    value[500:520] += 20
    pl.DataFrame({"s": rng.integers(0, 2, 900), "x": value, "l": np.arange(900) // 20 == 25}).write_csv(path)
    parts = run_to(None, Source(path, ["s"], ["x"], None, "l", batch_rows=max(rows, 100)))
    whole = run_to(None, Source(path, ["s"], ["x"], None, "l"))
    assert parts.quality == whole.quality
    assert (parts.events, parts.anomalies, parts.last_line) == (whole.events, whole.anomalies, whole.last_line)
    assert whole.quality.windows_caught == whole.quality.windows == 2
