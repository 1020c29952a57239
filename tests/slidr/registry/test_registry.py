"""The registry: versions that never change, one winner of every change, and a log that tells all of them."""

import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from onlineguard.errors import CheckpointError, Conflict, InvalidArgument, MissingExtra
from onlineguard.records.versions import Outcome
from onlineguard.slidr.features import NAMES, WIDTH
from onlineguard.slidr.learning.baselines import VelocityRule
from onlineguard.slidr.model import Model, Span, load_model, save_model
from onlineguard.slidr.pipeline import Config, Thresholds
from onlineguard.slidr.registry import stores
from onlineguard.slidr.registry.registry import Registry
from tests.support.slidr_evaluations import calibration_of, made

ROOT = Path(__file__).parents[3]
SPAN = Span(0, 10, 10, 5, 3)
FAILED = Outcome("outages", "data", "failed", "labels are missing", "why")


def saved(folder, number):
    """A model folder whose contents depend on the number."""
    calibration = calibration_of(made(2_000, seed=number))
    thresholds = Thresholds(("device",), tuple((name,) for name in calibration.names), calibration)
    scorer = VelocityRule.train(np.zeros((3, WIDTH), np.float32), NAMES)
    config = Config(kind="velocity", slices=("device",))
    return save_model(folder, Model(config, scorer, SPAN, thresholds, dataclasses.replace(SPAN, since=10)))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Five folders, each with a model of another version."""
    root = tmp_path_factory.mktemp("models")
    for number in range(5):
        saved(root / str(number), number)
    return [root / str(number) for number in range(5)]


@pytest.fixture(params=["folder", "memory"])
def registry(request, tmp_path):
    """A registry in a real folder, and one behind fsspec."""
    if request.param == "folder":
        yield Registry(tmp_path / "registry")
        return
    yield Registry(f"memory://{tmp_path.name}")
    import fsspec

    fsspec.filesystem("memory").store.clear()


def test_what_is_added_is_what_is_loaded_and_nothing_is_live_by_that(registry, folders):
    record = registry.add(folders[0], who="anna")
    assert registry.versions() == [record.version] == [load_model(folders[0]).version]
    assert registry.current() is None
    loaded = registry.load(record.version)
    assert np.array_equal(
        loaded.thresholds.calibration.thresholds, load_model(folders[0]).thresholds.calibration.thresholds
    )
    assert (record.who, record.parent, record.trained["clicks"]) == ("anna", None, 5)


def test_a_version_never_changes_whoever_adds_it_again(registry, folders):
    first = registry.add(folders[0], who="anna")
    assert registry.add(folders[0], who="ben", guardrails=[FAILED]) == first
    assert registry.record(first.version) == first


def test_promotions_and_rollbacks_move_current_and_previous_and_each_is_in_the_log(registry, folders):
    a, b, c = (registry.add(folder).version for folder in folders[:3])
    registry.promote(a, "first", who="anna")
    registry.promote(b, "second", who="ben")
    registry.promote(c, "third", who="ben")
    assert (registry.head().current, registry.head().previous) == (c, b)
    registry.rollback("too many false positives", who="anna")
    assert (registry.head().current, registry.head().previous, registry.head().replaced) == (b, a, c)
    registry.rollback("still")
    assert (registry.head().current, registry.head().previous) == (a, None)
    told = [(change.generation, change.action, change.current, change.why) for change in registry.changes()]
    assert told == [
        (1, "promote", a, "first"),
        (2, "promote", b, "second"),
        (3, "promote", c, "third"),
        (4, "rollback", b, "too many false positives"),
        (5, "rollback", a, "still"),
    ]
    assert registry.changes()[3].who == "anna"
    assert registry.record(c).parent is None  # nothing was live when it was added
    with pytest.raises(InvalidArgument, match="no previous version"):
        registry.rollback("again")


def test_a_candidate_is_on_trial_until_the_next_change_and_current_and_previous_stay(registry, folders):
    a, b, c = (registry.add(folder, guardrails=[FAILED] * (folder == folders[2])).version for folder in folders[:3])
    with pytest.raises(InvalidArgument, match="nothing is current that it could be compared with"):
        registry.trial(b, "to see")
    registry.promote(a, "first")
    registry.promote(b, "second")
    begun = registry.trial(c, "to see")
    assert (begun.action, begun.current, begun.previous, begun.trial, begun.share) == ("trial", b, a, c, 0.0)
    with pytest.raises(InvalidArgument, match="which failed outages"):
        registry.trial(c, "in earnest", share=0.1)
    assert registry.trial(c, "in earnest", share=0.1, force=True).forced == ["outages"]
    ended = registry.end_trial("seen")
    assert (ended.action, ended.current, ended.previous, ended.trial) == ("end trial", b, a, None)
    with pytest.raises(InvalidArgument, match="has no version on trial"):
        registry.end_trial("again")
    with pytest.raises(InvalidArgument, match="which is current already"):
        registry.trial(b, "to see")
    with pytest.raises(InvalidArgument, match=r"share is 1\.5; it must lie between 0"):
        registry.trial(c, "to see", share=1.5)
    registry.trial(c, "once more")
    with pytest.raises(Conflict, match=rf"put {c} on trial \(once more\)"):
        registry.rollback("late", generation=ended.generation)
    back = registry.rollback("it was wrong")
    assert (back.current, back.previous, back.trial) == (a, None, None)


def test_a_decision_that_rests_on_an_older_state_is_refused(registry, folders):
    a, b, c = (registry.add(folder).version for folder in folders[:3])
    seen = registry.promote(a, "first").generation
    registry.promote(b, "meanwhile", who="ben")
    with pytest.raises(Conflict, match=rf"ben made {b} current \(meanwhile\)"):
        registry.promote(c, "late", generation=seen)
    assert registry.current() == b


def test_a_version_that_failed_a_guardrail_is_promoted_only_by_force_and_the_log_says_so(registry, folders):
    version = registry.add(folders[0], guardrails=[FAILED]).version
    with pytest.raises(InvalidArgument, match="which failed outages"):
        registry.promote(version, "daily")
    assert registry.promote(version, "the outage was announced", force=True).forced == ["outages"]


def test_what_is_not_there_or_says_nothing_is_refused_with_the_way_out(registry, folders):
    with pytest.raises(InvalidArgument, match="has none yet"):
        registry.promote("nowhere", "why")
    version = registry.add(folders[0]).version
    with pytest.raises(InvalidArgument, match=version):
        registry.record("../../etc")
    with pytest.raises(InvalidArgument, match="why is empty"):
        registry.promote(version, " ")
    registry.promote(version, "first")
    with pytest.raises(InvalidArgument, match="current already"):
        registry.promote(version, "again")


def test_a_changed_file_a_lost_entry_and_an_unfinished_add_are_found(tmp_path, folders):
    registry = Registry(tmp_path)
    a, b = (registry.add(folder).version for folder in folders[:2])
    registry.promote(a, "first")
    registry.promote(b, "second")
    damaged = tmp_path / "versions" / a / "thresholds.json"
    damaged.write_bytes(damaged.read_bytes() + b" ")
    with pytest.raises(CheckpointError, match=r"thresholds\.json was changed since it was added"):
        registry.load(a)
    (tmp_path / "changes" / "00000001.json").unlink()
    with pytest.raises(CheckpointError, match="lacks entries"):
        registry.changes()
    unfinished = tmp_path / "versions" / load_model(folders[2]).version
    unfinished.mkdir()
    (unfinished / "thresholds.json").write_bytes(b"{}")
    assert sorted(registry.versions()) == sorted([a, b])
    with pytest.raises(CheckpointError, match="left by an add that did not end"):
        registry.add(folders[2])


def test_a_scheme_without_its_packages_names_the_extra_and_an_unknown_one_the_rule(monkeypatch):
    monkeypatch.setattr(stores, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"onlineguard\[s3\]"):
        Registry("s3://bucket/models")
    monkeypatch.undo()
    with pytest.raises(InvalidArgument, match="must be a folder, or a URL that fsspec opens"):
        Registry("nonsense://bucket")


def _promote(folder, version, ready, won):
    """A process of its own that promotes as soon as all are ready."""
    registry = Registry(folder)
    seen = registry.head().generation
    ready.wait()
    try:
        registry.promote(version, "a race", generation=seen)
    except Conflict:
        return
    won.put(version)


def test_of_several_processes_that_promote_at_once_exactly_one_wins(tmp_path, folders):
    registry = Registry(tmp_path)
    versions = [registry.add(folder).version for folder in folders]
    registry.promote(versions[0], "first")
    context = multiprocessing.get_context("spawn")  # JAX has threads, which no fork survives
    ready, won = context.Barrier(4), context.Queue()
    racers = [context.Process(target=_promote, args=(tmp_path, each, ready, won)) for each in versions[1:]]
    for racer in racers:
        racer.start()
    winner = won.get(timeout=600)
    for racer in racers:
        racer.join(600)
    assert won.empty()
    assert registry.current() == winner
    assert [change.generation for change in registry.changes()] == [1, 2]


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_whole_registry(tmp_path, folders):
    program = (
        "import sys; from onlineguard.slidr.registry.registry import Registry\n"
        "registry = Registry(sys.argv[1]); versions = [registry.add(each).version for each in sys.argv[2:]]\n"
        "while True:\n"
        "    for version in versions: registry.promote(version, 'again'); print('promoted', flush=True)\n"
    )
    for kill in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", program, tmp_path, *map(str, folders[:2])], stdout=subprocess.PIPE, cwd=ROOT
        )
        process.stdout.readline()
        time.sleep(0.01 * kill)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        registry = Registry(tmp_path)
        changes = registry.changes()
        assert registry.head() == changes[-1]
        assert registry.load(registry.current()).version == registry.current()
        if registry.current() == load_model(folders[0]).version:
            registry.promote(load_model(folders[1]).version, "so that the next process may begin with the first")


def test_files_on_disk_are_plain_json_that_any_tool_reads(tmp_path, folders):
    registry = Registry(tmp_path)
    version = registry.add(folders[0]).version
    registry.promote(version, "first", who="anna")
    entry = json.loads((tmp_path / "changes" / "00000001.json").read_text())
    assert (entry["current"], entry["who"], entry["why"]) == (version, "anna", "first")
    record = json.loads((tmp_path / "versions" / version / "record.json").read_text())
    assert set(record["files"]) == {"scorer.safetensors", "thresholds.json", "features.json", "manifest.json"}
    assert not [each for each in os.listdir(tmp_path / "changes") if each.startswith(".")]
    assert msgspec.json.decode((tmp_path / "changes" / "00000001.json").read_bytes())["generation"] == 1
