"""The model folder: what is saved is what is loaded, and nothing that does not fit together is used."""

import dataclasses
import hashlib
import json
from datetime import date

import numpy as np
import pytest

import onlineguard.slidr.model
from onlineguard.errors import CheckpointError, InvalidArgument
from onlineguard.slidr.clicks.marketplaces import TIMEZONES
from onlineguard.slidr.features import NAMES
from onlineguard.slidr.learning.network import NetworkConfig
from onlineguard.slidr.model import MANIFEST, SCORER, SPECIFICATION, THRESHOLDS, Model, Span, load_model, save_model
from onlineguard.slidr.pipeline import Config, calibrate_model, prepare, scores, train_model
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic

OPTIONS = {"budget": 0.05, "confidence": None}
SPAN = Span(0, 10, 10, 5, 3)


@pytest.fixture(scope="module")
def prepared():
    clicks, _truth, _orders = simulate(Traffic(clicks=6_000, days=2, start=date(2026, 3, 2)), seed=5)
    return prepare(clicks)


@pytest.fixture(scope="module")
def made(prepared):
    """A calibrated model, by its kind."""

    def make(kind: str) -> Model:
        config = Config(kind=kind, network=NetworkConfig(hidden=(8, 4), bits=4))
        known_at = int(prepared.ts.max())
        scorer = train_model(prepared, prepared.first, known_at, config)
        thresholds = calibrate_model(prepared, scorer, prepared.first, known_at, config, **OPTIONS)
        zones = {"US": "America/New_York"}
        return Model(config, scorer, SPAN, thresholds, dataclasses.replace(SPAN, since=10), OPTIONS, zones)

    models = {kind: make(kind) for kind in ("velocity", "mlp", "cross", "embedding", "logistic")}
    return models.__getitem__


@pytest.fixture
def folder(made, tmp_path):
    save_model(tmp_path / "model", made("velocity"))
    return tmp_path / "model"


def rewritten(folder, name, **changes):
    """Change a file of the folder, and make hashes and version fit it."""
    plain = json.loads((folder / name).read_text())
    for key, value in changes.items():
        plain[key] = value
    (folder / name).write_text(json.dumps(plain))
    if name != MANIFEST:
        rehashed(folder)


def rehashed(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] = {part: hashlib.sha256((folder / part).read_bytes()).hexdigest() for part in manifest["files"]}
    manifest["version"] = onlineguard.slidr.model._version(manifest["files"])
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["velocity", "mlp", "cross", "embedding", "logistic"])
def test_what_is_loaded_decides_as_what_was_saved(prepared, made, kind, tmp_path):
    model = made(kind)
    saved = save_model(tmp_path, model)
    loaded = load_model(tmp_path)
    p = scores(prepared, loaded.scorer)
    assert np.array_equal(p, scores(prepared, model.scorer))
    assert np.array_equal(loaded.thresholds.of(prepared), model.thresholds.of(prepared))
    assert np.array_equal(loaded.thresholds.robotic(p, prepared), model.thresholds.robotic(p, prepared))
    for name in ("config", "trained", "calibrated", "options", "timezones"):
        assert getattr(loaded, name) == getattr(model, name)
    assert loaded.version == saved.version != ""
    assert loaded.featuriser().timezones == {"US": "America/New_York"}


def test_a_model_not_calibrated_yet_comes_back_without_thresholds(made, tmp_path):
    bare = dataclasses.replace(made("velocity"), thresholds=None, calibrated=None, options={}, timezones=TIMEZONES)
    save_model(tmp_path, bare)
    loaded = load_model(tmp_path)
    assert loaded.thresholds is loaded.calibrated is None
    assert loaded.timezones == dict(TIMEZONES)


def test_the_same_contents_have_the_same_version_and_others_another(made, tmp_path):
    velocity = made("velocity")
    versions = {name: save_model(tmp_path / name, velocity).version for name in ("a", "b")}
    assert versions["a"] == versions["b"]
    for name in (SCORER, THRESHOLDS, SPECIFICATION, MANIFEST):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert save_model(tmp_path / "c", made("mlp")).version != versions["a"]
    bare = dataclasses.replace(velocity, thresholds=None, calibrated=None)
    assert save_model(tmp_path / "d", bare).version != versions["a"]


def test_a_new_model_takes_the_place_of_the_old_one_thresholds_and_all(made, folder):
    save_model(folder, dataclasses.replace(made("mlp"), thresholds=None, calibrated=None))
    assert load_model(folder).thresholds is None
    assert sorted(path.name for path in folder.iterdir()) == sorted([SCORER, SPECIFICATION, MANIFEST])


@pytest.mark.parametrize("name", [SCORER, THRESHOLDS, SPECIFICATION])
def test_a_changed_or_missing_file_is_refused_by_its_name(folder, name):
    contents = (folder / name).read_bytes()
    (folder / name).write_bytes(contents[:-1] + bytes([contents[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=f"{name} is not the file that manifest.json was written for"):
        load_model(folder)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        load_model(folder)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"manifest\.json is missing; name a folder that `slidr train` wrote"):
        load_model(tmp_path)
    (tmp_path / MANIFEST).write_text("[1]")
    with pytest.raises(CheckpointError, match="is no JSON object"):
        load_model(tmp_path)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(CheckpointError, match="is no JSON:"):
        load_model(tmp_path)
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(CheckpointError, match="is no manifest of a model"):
        load_model(tmp_path)


def test_a_newer_format_is_refused(folder):
    rewritten(folder, MANIFEST, format=2, onlineguard="9.0")
    with pytest.raises(CheckpointError, match=r"has format 2, .* reads up to 1; it was written by 9\.0: upgrade"):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 3}, "has version 3 of the features, .* makes version 5; train again"),
        ({"names": [*NAMES[:-1], "moon"]}, "has other names of features .* they differ in moon, hosting"),
        ({"names": [NAMES[1], NAMES[0], *NAMES[2:]]}, "has other names of features .* their order differs"),
        ({"names": None}, "has other names of features"),
        ({"windows": ["1m", "5m", "1h", "12h"]}, "has other windows of features .* they differ in 12h, 24h"),
        ({"timezones": {"US": "Mars/Olympus"}}, "is damaged: .*Mars/Olympus"),
    ],
)
def test_other_features_are_refused_with_what_differs(folder, changes, message):
    rewritten(folder, SPECIFICATION, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_a_scorer_of_another_width_is_refused(prepared, folder):
    other = type(load_model(folder).scorer).train(prepared.X[:, :20], NAMES[:20])
    other.save(folder)
    rehashed(folder)
    with pytest.raises(CheckpointError, match=r"takes 20 features, features\.json has 59"):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slices": ["device"]}, "is for slices of .*device.*; calibrate again"),
        ({"keys": [["a", "b", "c"]]}, "has 1 slices and other thresholds"),
        ({"keys": 7}, "is damaged: TypeError"),
        ({"calibration": {}}, "this is no calibration"),
    ],
)
def test_thresholds_of_other_slices_are_refused(folder, changes, message):
    rewritten(folder, THRESHOLDS, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_thresholds_that_no_manifest_knows_are_refused(made, folder):
    stray = (folder / THRESHOLDS).read_bytes()
    save_model(folder, dataclasses.replace(made("velocity"), thresholds=None, calibrated=None))
    (folder / THRESHOLDS).write_bytes(stray)
    with pytest.raises(CheckpointError, match=r"thresholds\.json is none of the files in manifest\.json"):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": {}}, "lists no files"),
        ({"files": {SCORER: "0", SPECIFICATION: "0", "../secret": "0"}}, "lists .*secret"),
        ({"version": "0123"}, "has version '0123', its files another"),
        ({"calibrated": None}, "thresholds without a word on what they rest on"),
        ({"trained": {"since": 0}}, "is damaged: TypeError"),
        ({"config": {"kind": "mlp"}}, "is damaged: KeyError"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(folder, changes, message):
    rewritten(folder, MANIFEST, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


@pytest.mark.slow
def test_what_cannot_be_written_is_said(prepared, made, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write"):
        save_model(tmp_path / "file", made("velocity"))
    trees = train_model(prepared, prepared.first, int(prepared.ts.max()), Config(kind="trees"))
    with pytest.raises(InvalidArgument, match="for comparison only and cannot be saved"):
        save_model(tmp_path / "trees", dataclasses.replace(made("velocity"), scorer=trees))
