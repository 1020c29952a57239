"""Values far from zero: float32 states keep the digits of float64 events, wherever a feature's first values lie."""

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onlineguard import Detector, Engine, Series
from onlineguard.estimators import DriftRobustDetector, MarginalDetector, SeriesDetector

SHIFTS = [float(np.float32(1e12)), -(2.0**40), 1.5 * 2.0**30, -(2.0**24)]  # all of them float32
HEADS = {"missing": np.nan, "a float32": 0.0, "absurd": 1e30, "infinite": -np.inf}  # less the shift
FIELDS = ("score", "threshold", "p_value", "anomalous", "ready")


def headed(shift: float, head: float, lengths: tuple[int, ...], n: int = 700, seed: int = 0) -> np.ndarray:
    """Normal events (n, d), shifted; the first values of each feature, as many as `lengths` says, are all `head`."""
    rng = np.random.default_rng(seed)
    x = np.round(rng.standard_t(5.0, (n, len(lengths))), 3)
    for feature, length in enumerate(lengths):
        x[:length, feature] = head
    return x + shift


def close(moved, plain, series=False):
    """As close as float64 keeps a stream at 1e12, of which a usual deviation has four digits.

    A series is judged by how many distances of its past were as large, and which of the small ones are ties hangs on
    the last of these digits. Those that are odd are no ties: a score of 100 is a twentieth of the threshold. They agree
    to a hundredth of a decade, which is what a score of a series counts in.
    """
    if series:
        assert (np.isclose(moved, plain, rtol=5e-2)).mean() > 0.75
        moved, plain = (np.where(plain > 100.0, scores, 0.0) for scores in (moved, plain))
        assert (plain > 0.0).any()
        moved, plain = (np.log10(np.maximum(scores, 1.0)) for scores in (moved, plain))
    np.testing.assert_allclose(moved, plain, rtol=1e-2, atol=1e-2)


@settings(max_examples=40)
@given(
    shift=st.sampled_from(SHIFTS),
    head=st.sampled_from(sorted(HEADS)),
    lengths=st.tuples(*[st.sampled_from([0, 1, 2, 7, 8, 9, 60])] * 3),
    series=st.booleans(),
)
@example(shift=SHIFTS[0], head="a float32", lengths=(9, 0, 1), series=False)
@example(shift=SHIFTS[0], head="absurd", lengths=(1, 1, 1), series=False)
def test_scores_do_not_depend_on_the_zero_of_the_stream_whatever_its_first_values(shift, head, lengths, series):
    def scores(by):
        engine = Engine(3, estimator=Series() if series else Detector())
        return engine.update([0] * 700, headed(by, HEADS[head], lengths)).score

    close(scores(shift)[250:], scores(0.0)[250:], series)


def mixed(n: int = 400, slices: int = 7, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Slices far from zero, whose features come late, are whole numbers for a while, or are absurd now and then."""
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, slices, n)
    x = rng.standard_normal((n, 3)) + 1e12 * (keys[:, None] % 3)
    x[:, 1] = np.where(rng.random(n) < 0.8, np.float32(x[:, 1]), x[:, 1])
    x[:, 2] = np.where(rng.random(n) < 0.9, np.nan, x[:, 2])
    x[rng.random((n, 3)) < 0.03] = 1e30
    return keys, x


def assert_same(whole, parts):
    for field in FIELDS:
        joined = np.concatenate([getattr(part, field) for part in parts])
        np.testing.assert_array_equal(getattr(whole, field), joined, err_msg=field)


@settings(max_examples=15)
@given(cuts=st.lists(st.integers(0, 400), max_size=6), seed=st.integers(0, 3), series=st.booleans())
def test_moved_origins_lie_at_the_same_events_however_the_stream_is_cut(cuts, seed, series):
    keys, x = mixed(seed=seed)
    whole, cut = (Engine(3, estimator=Series() if series else Detector()) for _ in range(2))
    parts = [cut.update(keys[a:b], x[a:b]) for a, b in itertools.pairwise([0, *sorted(cuts), len(x)])]
    assert_same(whole.update(keys, x), parts)
    assert_same(whole.score(keys, x), [cut.score(keys, x)])
    np.testing.assert_array_equal(
        whole._learner.states._origins.of(np.arange(10)), cut._learner.states._origins.of(np.arange(10))
    )


def test_moved_origins_lie_at_the_same_events_one_by_one_and_after_a_pooling():
    keys, x = mixed(2_000, 12)
    keys[1_200:] += 30  # born after the pooling
    keys[1_600:] += 30
    batch, single = Engine(3), Engine(3)
    parts = [single.update(keys[i : i + 1], x[i : i + 1]) for i in range(len(x))]
    assert_same(batch.update(keys, x), parts)


def test_slices_with_moved_origins_never_touch_each_other():
    keys, x = mixed()
    together = Engine(3).update(keys, x)
    for key in range(7):
        alone = Engine(3).update(keys[keys == key], x[keys == key])
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(together, field)[keys == key], getattr(alone, field))


@pytest.mark.parametrize("start", [0, 1, 9, 150, 399])
def test_score_and_explain_move_no_origin_but_answer_as_update_will(start, tmp_path):
    keys, x = mixed()
    engine = Engine(3)
    engine.update(keys[:start], x[:start])
    engine.save(tmp_path / "before")
    scored = [engine.score(keys[i : i + 1], x[i : i + 1]) for i in range(start, 400)]
    assert_same(engine.score(keys[start:], x[start:]), scored)
    for slice_ in engine.slices:
        engine.explain(slice_, x[start])
    engine.save(tmp_path / "after")
    assert (tmp_path / "before").read_bytes() == (tmp_path / "after").read_bytes()
    assert_same(engine.update(keys[start : start + 1], x[start : start + 1]), scored[:1])


def test_a_saved_engine_goes_on_moving_origins_as_if_it_never_stopped(tmp_path):
    keys, x = mixed()
    engine = Engine(3)
    engine.update(keys[:40], x[:40])
    engine.save(tmp_path / "engine")
    loaded = Engine.load(tmp_path / "engine")
    assert_same(engine.update(keys[40:], x[40:]), [loaded.update(keys[40:], x[40:])])
    engine.save(tmp_path / "one")
    loaded.save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_float32_numbers_have_no_origin_and_the_same_verdicts_in_either_type():
    keys, x = mixed()
    x = x.astype(np.float32)
    narrow, wide = Engine(3), Engine(3)
    assert_same(narrow.update(keys, x), [wide.update(keys, x.astype(np.float64))])
    assert len(wide._learner.states._origins.table) == 0


def test_a_constant_stream_that_turns_out_to_have_more_digits_raises_no_alarm_at_the_last_of_them():
    x = np.full((1_000, 1), 2.0**40)
    x[500] = np.nextafter(2.0**40, np.inf)
    assert not Engine(1).update([0] * 1_000, x).anomalous.any()


SHELLS = [  # the origins are those of `PackedModel`, whatever it steps
    MarginalDetector,
    pytest.param(DriftRobustDetector, marks=pytest.mark.slow),
    pytest.param(SeriesDetector, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("kind", SHELLS)
@settings(max_examples=10)
@given(
    shift=st.sampled_from(SHIFTS),
    head=st.sampled_from(sorted(HEADS)),
    lengths=st.tuples(*[st.sampled_from([0, 1, 2, 8, 9, 60])] * 2),
)
def test_scores_of_a_shell_do_not_depend_on_the_zero_of_the_stream(kind, shift, head, lengths):
    def scores(by):
        model = kind()
        return np.array([model.score_learn_one(dict(enumerate(row))) for row in headed(by, HEADS[head], lengths)])

    close(scores(shift)[250:], scores(0.0)[250:], kind is SeriesDetector)


@pytest.mark.parametrize("kind", SHELLS)
@pytest.mark.parametrize("seed", range(3))
def test_a_shell_moves_its_origins_at_the_same_events_in_every_way_it_is_called(kind, seed):
    x = mixed(200, 1, seed)[1] + 1e12
    at_once, in_turn, frame = kind(), kind(), kind()
    dicts = [dict(zip("abc", row, strict=True)) for row in x.tolist()]
    expected = [at_once.score_learn_one(event) for event in dicts]
    found = []
    for event in dicts:
        found.append(in_turn.score_one(event))
        assert in_turn.score_many(pl.DataFrame([event], schema=list("abc"))).item() == found[-1]
        in_turn.learn_one(event)
    assert found == expected
    cut = pl.DataFrame(x, schema=list("abc"))
    assert [*frame.score_learn_many(cut[:37]), *frame.score_learn_many(cut[37:])] == expected
    np.testing.assert_array_equal(frame.score_many(cut), [at_once.score_one(event) for event in dicts])
