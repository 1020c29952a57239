import itertools
import json

import jax
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onlineguard import CheckpointError, Detector, Engine, InvalidArgument, JointDetector, Series, pytree
from onlineguard.engine.table import advance
from tests.support.long import updated

FIELDS = ("score", "threshold", "p_value", "anomalous", "ready")


def stream(n=600, d=3, slices=5, seed=0):
    """Normal events with drift, a few far ones and a few missing features, in `slices` slices."""
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, slices, n)
    X = rng.standard_normal((n, d)) + keys[:, None] * 100.0 + np.linspace(0, 2, n)[:, None]
    X[rng.random(n) < 0.02] *= 50.0
    X[rng.random((n, d)) < 0.02] = np.nan
    return keys, X.astype(np.float32)


def assert_equal(a, b):
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field), err_msg=field)


def assert_parts_equal(whole, parts):
    for field in FIELDS:
        joined = np.concatenate([getattr(part, field) for part in parts])
        np.testing.assert_array_equal(getattr(whole, field), joined, err_msg=field)


@settings(max_examples=15)
@given(cuts=st.lists(st.integers(0, 600), max_size=6), seed=st.integers(0, 2))
def test_cutting_a_stream_anywhere_changes_no_bit(cuts, seed):
    keys, X = stream(seed=seed)
    whole, cut = Engine(3), Engine(3)
    bounds = [0, *sorted(cuts), len(X)]
    parts = [cut.update(keys[a:b], X[a:b]) for a, b in itertools.pairwise(bounds)]
    assert_parts_equal(whole.update(keys, X), parts)
    assert_equal(whole.score(keys, X), cut.score(keys, X))


def test_a_batch_equals_its_events_one_by_one():
    keys, X = stream(n=300)
    batch, single = Engine(3), Engine(3)
    parts = [single.update(keys[i : i + 1], X[i : i + 1]) for i in range(len(X))]
    assert_parts_equal(batch.update(keys, X), parts)


@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_a_permutation_that_keeps_each_slices_order_changes_no_verdict(seed):
    keys, X = stream(seed=3)
    shuffled = np.argsort(np.random.default_rng(seed).random(len(keys)))
    order = np.empty_like(shuffled)
    for key in np.unique(keys):
        order[np.sort(shuffled.argsort()[keys == key])] = np.flatnonzero(keys == key)
    a, b = Engine(3).update(keys, X), Engine(3).update(keys[order], X[order])
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(a, field)[order], getattr(b, field))


def test_slices_never_touch_each_other():
    keys, X = stream()
    together = Engine(3).update(keys, X)
    for key in range(5):
        alone = Engine(3).update(keys[keys == key], X[keys == key])
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(together, field)[keys == key], getattr(alone, field))


def test_pooling_and_births_lie_at_the_same_events_however_the_stream_is_cut():
    keys, X = stream(n=4_000, slices=40)
    keys[2_500:] += 17  # slices born after the first poolings
    whole, cut = Engine(3), Engine(3)
    parts = [cut.update(keys[i : i + 333], X[i : i + 333]) for i in range(0, len(X), 333)]
    assert_parts_equal(whole.update(keys, X), parts)


@pytest.mark.parametrize("max_slices", [1, 3, 20, 64])
def test_eviction_lies_at_the_same_events_however_the_stream_is_cut(max_slices):
    keys, X = stream(n=500, slices=100)
    whole, cut = Engine(3, max_slices=max_slices), Engine(3, max_slices=max_slices)
    parts = [cut.update(keys[i : i + 77], X[i : i + 77]) for i in range(0, len(X), 77)]
    assert_parts_equal(whole.update(keys, X), parts)
    assert len(whole.slices) <= max_slices
    assert whole.evicted == cut.evicted > 0
    assert whole.slices == cut.slices


def test_the_least_recently_used_slice_goes_first():
    engine = Engine(1, max_slices=3)
    engine.update(["a", "b", "c", "a"], [[1.0]] * 4)
    engine.update(["d"], [[1.0]])
    assert set(engine.slices) == {"a", "c", "d"}


@pytest.mark.parametrize("key", ["a", 3, np.int64(3), ("a", 3), 2**40])
def test_a_forgotten_slice_starts_anew(key):
    keys, X = [key] * 500, np.random.default_rng(0).standard_normal((500, 1))
    engine = Engine(1)
    first = engine.update(np.array(keys) if isinstance(key, (int, np.integer)) else keys, X)
    engine.forget(key)
    assert engine.slices == []
    assert_equal(engine.update(keys, X), first)
    with pytest.raises(KeyError, match="'never seen' is no slice of this engine, or no longer"):
        engine.forget("never seen")


def test_score_answers_as_update_will_and_learns_nothing():
    keys, X = stream()
    engine, untouched = Engine(3), Engine(3)
    engine.update(keys, X)
    untouched.update(keys, X)
    new = np.array([0, 77, 3])  # 77 is a slice not seen before
    events = np.array([[0.0, 1, 2], [5, 5, 5], [300, 301, 299]])
    scored = engine.score(new, events)
    assert_equal(scored, engine.score(new, events))
    assert 77 not in engine.slices
    assert_equal(scored, untouched.update(new, events))


def test_a_thousand_batch_sizes_compile_at_most_three_programs():
    keys, X = stream(n=2_000)
    engine = Engine(3)
    before = advance.n_compiled
    for n in range(1, 1_001):
        engine.update(keys[:n], X[:n])
    assert advance.n_compiled - before <= 3


@pytest.mark.parametrize("options", [{"batch": 1_000}, pytest.param({}, marks=pytest.mark.slow)], ids=str)
def test_no_program_compiles_after_warmup(options):
    keys, X = stream(n=options.get("batch", 3_000))
    engine = Engine(3)
    engine.warmup(**options)
    before = advance.n_compiled
    for n in (1, 63, 65, 500, len(X)):
        engine.update(keys[:n], X[:n])
        engine.score(keys[:n], X[:n])
    assert advance.n_compiled == before


def test_warmup_learns_nothing():
    keys, X = stream()
    warm, cold = Engine(3), Engine(3)
    warm.warmup(len(X))
    assert_equal(warm.update(keys, X), cold.update(keys, X))


@pytest.mark.parametrize("shift", [0.0, 1.7e9])  # the latter has more digits than float32 holds
def test_a_saved_engine_goes_on_as_if_it_never_stopped(tmp_path, shift):
    keys, X = stream(n=1_600, slices=30)
    X = X.astype(np.float64) + shift
    engine = Engine(features=["a", "b", "c"], max_slices=25)
    engine.update([("k", int(k)) for k in keys[:1_200]], X[:1_200])
    engine.forget(engine.slices[0])
    engine.save(tmp_path / "engine")
    loaded = Engine.load(tmp_path / "engine")
    assert loaded.slices == engine.slices
    assert loaded.features == ["a", "b", "c"]
    rest = [("k", int(k)) for k in keys[1_200:]]
    assert_equal(engine.update(rest, X[1_200:]), loaded.update(rest, X[1_200:]))
    engine.save(tmp_path / "one")
    loaded.save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@settings(max_examples=25)
@given(keep=st.floats(0, 0.999))
def test_a_truncated_checkpoint_is_refused(tmp_path_factory, keep):
    path = tmp_path_factory.mktemp("checkpoint") / "engine"
    Engine(2).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(CheckpointError, match="engine"):
        Engine.load(path)


def test_notes_are_saved_along_and_must_be_what_json_holds(tmp_path):
    engine = Engine(2)
    engine.notes["source"] = {"columns": ["a", "ü"]}
    engine.save(tmp_path / "engine")
    assert Engine.load(tmp_path / "engine").notes == engine.notes
    engine.notes["source"] = {1, 2}
    with pytest.raises(CheckpointError, match="notes cannot be saved"):
        engine.save(tmp_path / "engine")
    assert Engine.load(tmp_path / "engine").notes == {"source": {"columns": ["a", "ü"]}}


def test_a_file_from_before_there_were_notes_is_read(tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import save_file

    Engine(2).save(tmp_path / "engine")
    with safe_open(tmp_path / "engine", "numpy") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    header = json.loads(metadata["onlineguard"])
    del header["config"]["notes"]
    tensors["origins"] = np.zeros((0, 2))  # as it was where no slice had an origin
    save_file(tensors, tmp_path / "old", metadata={"onlineguard": json.dumps(header)})
    assert Engine.load(tmp_path / "old").notes == {}
    assert_equal(Engine.load(tmp_path / "old").update(*stream(d=2)), Engine(2).update(*stream(d=2)))


@pytest.mark.parametrize("estimator", [Detector(), Series()], ids=["points", "a series"])
def test_a_file_of_format_1_where_counts_were_floats_goes_on_as_it_would_have(tmp_path, estimator):
    from safetensors import safe_open
    from safetensors.numpy import save_file

    keys, X = stream(n=1_000, d=1)
    engine = Engine(1, estimator=estimator)
    updated(engine, keys, X)
    engine.save(tmp_path / "engine")
    with safe_open(tmp_path / "engine", "numpy") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    states = engine.layout.unpack(tensors["table"].view(np.float32))
    floats = [np.reshape(leaf, (len(tensors["table"]), -1)).astype(np.float32) for leaf in jax.tree.leaves(states)]
    old = np.zeros(tensors["table"].shape, np.float32)
    old[:, : sum(leaf.shape[1] for leaf in floats)] = np.concatenate(floats, axis=1)
    metadata["onlineguard"] = metadata["onlineguard"].replace('"version": 2', '"version": 1')
    save_file(tensors | {"table": old}, tmp_path / "old", metadata=metadata)
    assert_equal(updated(Engine.load(tmp_path / "old"), keys, X), updated(engine, keys, X))


def test_a_series_of_an_earlier_version_is_refused_in_one_line(tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import save_file

    Engine(2).save(tmp_path / "engine")
    with safe_open(tmp_path / "engine", "numpy") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    metadata["onlineguard"] = metadata["onlineguard"].replace('"kind": "JointDetector"', '"kind": "Series"')
    save_file(tensors, tmp_path / "old", metadata=metadata)
    with pytest.raises(CheckpointError, match=r"holds a Series that forecast by regression.*start with a new file"):
        Engine.load(tmp_path / "old")


def test_a_model_that_nothing_is_registered_for_is_named_with_a_way_out(tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import save_file

    Engine(2).save(tmp_path / "engine")
    with safe_open(tmp_path / "engine", "numpy") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    metadata["onlineguard"] = metadata["onlineguard"].replace('"kind": "JointDetector"', '"kind": "my own"')
    save_file(tensors, tmp_path / "unknown", metadata=metadata)
    with pytest.raises(
        CheckpointError, match=r"unknown cannot be loaded: .*'my own'.*import the module that registers"
    ):
        Engine.load(tmp_path / "unknown")


def test_a_model_without_a_name_is_not_saved_and_says_how_to_give_it_one(tmp_path):
    @pytree
    class Nameless(Detector):
        pass

    with pytest.raises(CheckpointError, match=r"Nameless has no name; put @register"):
        Engine(2, estimator=Nameless()).save(tmp_path / "engine")
    assert not (tmp_path / "engine").exists()


def test_foreign_newer_and_missing_checkpoints_are_refused(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3)}, tmp_path / "foreign")
    with pytest.raises(CheckpointError, match=r"not written by Engine\.save"):
        Engine.load(tmp_path / "foreign")
    Engine(2).save(tmp_path / "newer")
    text = (tmp_path / "newer").read_bytes().replace(b'\\"version\\": 2', b'\\"version\\": 9')
    (tmp_path / "newer").write_bytes(text)
    with pytest.raises(CheckpointError, match="format 9"):
        Engine.load(tmp_path / "newer")
    with pytest.raises(CheckpointError, match="cannot read"):
        Engine.load(tmp_path / "missing")


@pytest.mark.parametrize(
    "header",
    ["no JSON", "[]", "{}", '{"version": "x"}', '{"version": 1}', '{"version": 1, "estimator": {"kind": "Unknown"}}'],
)
def test_a_damaged_header_is_refused(tmp_path, header):
    from safetensors.numpy import save_file

    save_file({"table": np.zeros((3, 16), np.float32)}, tmp_path / "engine", metadata={"onlineguard": header})
    with pytest.raises(CheckpointError, match="is damaged"):
        Engine.load(tmp_path / "engine")


def test_a_table_of_another_width_is_refused(tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import save_file

    Engine(2).save(tmp_path / "engine")
    with safe_open(tmp_path / "engine", "numpy") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    save_file(tensors | {"table": np.zeros((3, 160), np.float32)}, tmp_path / "engine", metadata=metadata)
    with pytest.raises(CheckpointError, match=r"cannot be loaded: it holds 3 by 160 numbers for .*another version"):
        Engine.load(tmp_path / "engine")


def test_an_estimator_brings_its_own_target_rate(tmp_path):
    engine = Engine(1, estimator=Detector(np.float32(0.1), 5_000.0))
    p = updated(engine, "a", np.random.default_rng(0).standard_normal((20_000, 1))).p_value
    assert 0.09 < (p[10_000:] < 0.1).mean() < 0.11
    assert 0.04 < (p[10_000:] < 0.05).mean() < 0.06
    engine.save(tmp_path / "engine")
    assert Engine.load(tmp_path / "engine").target_rate == engine.target_rate == pytest.approx(0.1)


def test_forgotten_slices_teach_new_ones_nothing():
    rng = np.random.default_rng(0)
    engine = Engine(1)
    engine.update(rng.integers(0, 8, 1_000), rng.normal(1_000.0, 1.0, (1_000, 1)))
    for key in engine.slices:
        engine.forget(key)
    engine.update(["a"] * 200, rng.standard_normal((200, 1)))
    assert np.isnan(engine.score(["new"], [[1_000.5]]).score).all()


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    keys, X = stream()
    engine = Engine(3)
    engine.save(tmp_path / "engine")
    before = (tmp_path / "engine").read_bytes()
    engine.update(keys, X)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        engine.save(tmp_path / "engine")
    assert (tmp_path / "engine").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["engine"]


def test_arrays_frames_and_dicts_mean_the_same():
    keys, X = stream()
    names = ["a", "b", "c"]
    expected = Engine(3).update(keys, X)
    polars = pl.DataFrame(X.astype(float), schema=names).with_columns(slice=pl.Series(keys))
    pandas = pd.DataFrame(X, columns=names)[["c", "a", "b"]]
    dicts = [{n: float(v) for n, v in zip(names, row, strict=True) if not np.isnan(v)} for row in X]
    for slices, events in [
        (polars["slice"], polars),
        (pd.Series(keys), pandas),
        (keys.tolist(), dicts),
        (keys.astype(np.int16), X.astype(np.float64)),
    ]:
        assert_equal(Engine(features=names).update(slices, events), expected)


@pytest.mark.parametrize(
    "make",
    [
        str,
        lambda k: ("m", int(k)),
        lambda k: ("m", np.int32(k)),
        int,
        np.int64,
        lambda k: 2**40 + int(k),
        lambda k: -int(k),
    ],
)
def test_keys_of_any_kind_are_slices(make):
    keys, X = stream()
    engine, expected = Engine(3), Engine(3).update(keys, X)
    assert_equal(engine.update([make(k) for k in keys], X), expected)
    assert len(engine.slices) == 5


def test_categorical_columns_are_slices():
    keys, X = stream()
    expected = Engine(3).update([f"s{k}" for k in keys], X)
    text = [f"s{k}" for k in keys]
    for column in (
        pl.Series(text).cast(pl.Categorical),
        pl.Series(text),
        pd.Series(text, dtype="category"),
        np.array(text),
    ):
        assert_equal(Engine(3).update(column, X), expected)


def test_explain_names_the_features_that_drive_the_score():
    rng = np.random.default_rng(0)
    engine = Engine(features=["load", "temperature"])
    engine.update(["a"] * 500, rng.standard_normal((500, 2)))
    shares = engine.explain("a", {"load": 0.1, "temperature": 30.0})
    assert list(shares) == ["temperature", "load"]
    assert shares["temperature"] > 0.99
    assert sum(shares.values()) == pytest.approx(1.0)
    assert engine.explain("a", {"temperature": 3.0})["load"] == 0.0
    with pytest.raises(KeyError):
        engine.explain("unknown", [0.0, 0.0])


def test_a_new_slice_starts_from_the_pooled_model():
    rng = np.random.default_rng(0)
    engine = Engine(2)
    engine.update(rng.integers(0, 10, 4_096), rng.normal(50.0, 2.0, (4_096, 2)))
    near, far = engine.score(["new", "new"], [[51.0, 49.0], [500.0, 900.0]]).score
    assert 0.2 < near < 1.5  # scored at once, as the other slices would
    assert np.isnan(far)  # nothing like them: this slice starts from nothing


def test_a_new_slice_starts_from_nothing_where_slices_are_unlike():
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 10, 4_096)
    engine = Engine(1)
    engine.update(keys, rng.standard_normal((4_096, 1)) * 10.0 ** keys[:, None])
    assert np.isnan(engine.score(["new"], [[0.3]]).score).all()
    assert engine.score([3], [[0.3]]).score < 1.0


@pytest.mark.parametrize("estimator", [Detector(), JointDetector()], ids=str)
@pytest.mark.parametrize("known", [2, 10])
def test_a_new_slice_among_unlike_ones_is_judged_as_if_it_were_alone(estimator, known):
    rng = np.random.default_rng(0)
    keys = rng.integers(0, known, 4_096)
    among, alone = (Engine(2, estimator=estimator) for _ in range(2))
    among.update(keys, rng.standard_normal((4_096, 2)) * 10.0 ** keys[:, None])
    x = rng.normal(50.0, 2.0, (300, 2))
    x[150::10] += 20.0
    found = among.update(["new"] * 300, x)
    np.testing.assert_array_equal(found.judgements, alone.update(["new"] * 300, x).judgements)
    assert found.anomalous[150::10].mean() > 0.9  # more than the target rate, and still found


@pytest.mark.parametrize(
    ("estimator", "slices"), [(Detector(), 1_200), pytest.param(None, 3_000, marks=pytest.mark.slow)], ids=str
)
def test_growing_beyond_the_first_capacity_keeps_every_slice(estimator, slices):
    rng = np.random.default_rng(0)
    keys = np.tile(np.arange(slices), 3)
    X = rng.standard_normal((len(keys), 2)) + keys[:, None]
    big, parts = (Engine(2, estimator=estimator) for _ in range(2))
    whole = big.update(keys, X)
    assert len(big.slices) == slices
    assert_parts_equal(whole, [parts.update(keys[i : i + 1_000], X[i : i + 1_000]) for i in range(0, len(X), 1_000)])


SLOW_WIDTHS = [pytest.param(d, marks=pytest.mark.slow) for d in (1, 2, 7, 8, 33, 1_024)]  # each is a program of its own


@pytest.mark.parametrize("d", [3, 9, *SLOW_WIDTHS])
def test_any_number_of_features(d):
    rng = np.random.default_rng(0)
    engine = Engine(d)
    verdicts = engine.update(np.zeros(400, int), rng.standard_normal((400, d)))
    assert verdicts.ready[100:].all()
    assert engine.score([0], np.full((1, d), 50.0)).anomalous.all()


def test_empty_batches_and_empty_events():
    engine = Engine(2)
    assert len(engine.update([], [])) == len(engine.score([], np.empty((0, 2)))) == 0
    keys, X = ["a"] * 300, np.random.default_rng(0).standard_normal((300, 2))
    engine.update(keys, X)
    twin = Engine(2)
    twin.update(keys, X)
    verdict = engine.update(["a", "a"], [[np.nan, np.inf], [-np.inf, np.nan]])
    assert np.isnan(verdict.score).all()
    assert np.isnan(verdict.p_value).all()
    assert not verdict.ready.any()
    assert not verdict.anomalous.any()
    assert_equal(engine.score(keys, X), twin.score(keys, X))


def test_numbers_beyond_float32_are_absurd_not_missing():
    engine = Engine(1)
    engine.update(["a"] * 300, np.random.default_rng(0).standard_normal((300, 1)))
    assert engine.score(["a", "a"], [[1e300], [-1e300]]).anomalous.all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: Engine(0), "n_features is 0"),
        (lambda e: Engine(2, target_rate=0.5), "target_rate is 0.5"),
        (lambda e: Engine(2, target_rate=float("nan")), "target_rate is nan"),
        (lambda e: Engine(2, patience=0), "patience is 0"),
        (lambda e: Engine(2, max_slices=0), "max_slices is 0"),
        (lambda e: Engine(2, max_slices=2.5), "max_slices is 2.5"),
        (lambda e: Engine(2, target_rate="a"), "target_rate is 'a'"),
        (lambda e: Engine(2, patience=None), "patience is None"),
        (lambda e: Engine(features="abc"), "features is 'abc'"),
        (lambda e: Engine(features=[("a", 1)]), "a list of names"),
        (lambda e: e.update([True], [[1.0, 2.0]]), r"slices\[0\] is True"),
        (lambda e: Engine(features=["a", "a"]), "each once"),
        (lambda e: Engine(3, features=["a"]), "1 features are named"),
        (lambda e: e.update(["a"], [[1.0]]), r"X has shape \(1, 1\); it must be \(n, 2\)"),
        (lambda e: e.update(["a", "b"], [[1.0, 2.0]]), "slices has 2 keys for 1 events"),
        (lambda e: e.update(1.5, [[1.0, 2.0]]), r"slices\[0\] is 1.5"),
        (lambda e: e.update(["a", 1.5], [[1.0, 2.0]] * 2), r"slices\[1\] is 1.5"),
        (lambda e: e.update(["a", None], [[1.0, 2.0]] * 2), r"slices\[1\] is None"),
        (lambda e: e.update([["a"]], [[1.0, 2.0]]), r"slices\[0\] is \['a'\]"),
        (lambda e: e.score([2.5], [[1.0, 2.0]]), r"slices\[0\] is 2.5"),
        (lambda e: e.update(["a"], [[{}, 2.0]]), "cannot be read as numbers"),
        (lambda e: e.update(["a"], [{"u": 1.0}]), "have no names"),
        (lambda e: Engine(features=["u"]).update(["a"], [{"u": ["x"]}]), r"X\[0\]\['u'\] is \['x'\]"),
        (
            lambda e: Engine(features=["u"]).update(["a"], pl.DataFrame({"v": [1.0]})),
            "no column 'u'; its columns are 'v'",
        ),
    ],
)
def test_a_bad_argument_is_named_and_changes_nothing(call, message):
    engine = Engine(2)
    with pytest.raises(InvalidArgument, match=message):
        call(engine)
    assert engine.slices == []
    assert engine.n_events == 0
