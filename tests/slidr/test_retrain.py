"""A model a day: promoted or rejected with reasons, once, one at a time, and after a kill at any point."""

import dataclasses
import fcntl
import json
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path

import pytest

from onlineguard.errors import Conflict, SourceError
from onlineguard.slidr import retrain as module
from onlineguard.slidr.guardrails.checks import Settings
from onlineguard.slidr.history.reading import History
from onlineguard.slidr.pipeline import Config
from onlineguard.slidr.registry.registry import Registry
from onlineguard.slidr.retrain import Plan, retrain
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic
from tests.support.histories import recorded, told, written

ROOT = Path(__file__).parents[2]
DAY = 86_400_000
START = date(2026, 3, 2)
FIRST, SECOND = date(2026, 3, 10), date(2026, 3, 11)  # the last days of two runs
TRAFFIC = Traffic(clicks=45_000, days=10, start=START)
# So few clicks hold neither the default budget nor the default limits of drift: limits are set, as an operator would.
SMALL = Settings(
    {"drift": {"psi": 1.0}, "thresholds": {"supported": 0.1}, "auc": {"least": 0.3}, "attack": {"most": 0.3}}
)
PLAN = Plan(4, 4, 1, Config(kind="velocity", slices=("marketplace",)), {"budget": 0.05, "confidence": None}, SMALL)


def history_of(folder, traffic):
    clicks = simulate(traffic, 3).clicks.sort("ts", maintain_order=True)
    clicks = clicks.unique("click_id", keep="first", maintain_order=True)
    return written(folder, recorded(clicks), told(clicks), every=20_000)


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    return History(history_of(tmp_path_factory.mktemp("history"), TRAFFIC))


@pytest.fixture(scope="module")
def first(history, tmp_path_factory):
    """The registry and the outcome of a first day."""
    registry = Registry(tmp_path_factory.mktemp("registry"))
    return registry, retrain(history, registry, PLAN, FIRST, tmp_path_factory.mktemp("work"), "cron")


def test_the_first_model_is_promoted_with_all_that_the_next_one_is_compared_with(first):
    registry, ended = first
    assert (ended.outcome, ended.reasons, ended.replaced) == ("promoted", [], None)
    record = registry.record(ended.version)
    assert (registry.current(), record.who, record.failed) == (ended.version, "cron", [])
    assert record.trained["until"] == record.calibrated["since"]
    assert record.calibrated["until"] == (FIRST - date(1970, 1, 1)).days * DAY
    assert record.metrics["overall"]["clicks"] == sum(part.clicks for part in record.promises.slices.values())
    assert len(record.canaries) > 10
    assert {outcome.name for outcome in record.guardrails} == {check.name for check in module.CHECKS}


def test_a_second_run_for_a_day_returns_the_outcome_and_does_nothing(first, history, tmp_path):
    registry, ended = first
    again = retrain(history, registry, PLAN, FIRST, tmp_path)
    assert again.repeated
    assert (again.version, again.generation, again.seconds) == (ended.version, ended.generation, ended.seconds)
    assert len(registry.changes()) == 1
    assert list(tmp_path.iterdir()) == []


def test_asked_again_the_same_clicks_give_the_same_model_which_is_live_already(first, history, tmp_path):
    registry, ended = first
    again = retrain(history, registry, PLAN, FIRST, tmp_path, again=True)
    assert (again.outcome, again.version) == ("unchanged", ended.version)
    assert len(registry.changes()) == 1
    assert registry.store.names("runs") == [f"{FIRST}.2.json", f"{FIRST}.json"]


def test_the_next_day_is_compared_with_what_is_live(first, history, tmp_path):
    registry, ended = first
    later = retrain(history, registry, PLAN, SECOND, tmp_path)
    outcomes = {outcome.name: outcome for outcome in later.guardrails}
    assert later.version != ended.version
    assert "that of what is live" in outcomes["ivr"].sentence
    assert outcomes["canary"].figures["pinned"] == len(registry.record(ended.version).canaries)
    assert registry.record(later.version).parent == ended.version
    assert registry.record(later.version).canaries == registry.record(ended.version).canaries
    assert later.outcome == ("rejected" if later.reasons else "promoted")


def test_a_day_without_labels_is_rejected_with_the_reason_and_can_be_forced(tmp_path):
    folder = history_of(tmp_path / "history", dataclasses.replace(TRAFFIC, label_outage=24.0))
    registry = Registry(tmp_path / "registry")
    ended = retrain(History(folder), registry, PLAN, FIRST, tmp_path / "work")
    assert ended.outcome == "rejected"
    assert any(reason.startswith("outages: purchases are missing for") for reason in ended.reasons)
    assert registry.current() is None
    assert "outages" in registry.promote(ended.version, "the outage was announced", force=True).forced


@pytest.mark.parametrize(
    "step",
    [
        *(pytest.param(step, marks=pytest.mark.slow) for step in ("save_model", "measure", "promised", "Registry.add")),
        "calibrate_scorer",
        "Registry.promote",
        pytest.param("Folder.create", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_died_at_any_step_is_finished_by_the_next(history, first, tmp_path, monkeypatch, step):
    registry = Registry(tmp_path / "registry")
    with monkeypatch.context() as patched:
        owner, _, name = step.rpartition(".")
        place = {"": module, "Registry": Registry, "Folder": type(registry.store)}[owner]
        whole = getattr(place, name)

        def dies(*arguments, **named):
            returned = whole(*arguments, **named)
            if name != "create" or arguments[1].startswith("runs/"):
                raise KeyboardInterrupt
            return returned

        patched.setattr(place, name, dies)
        with pytest.raises(KeyboardInterrupt):
            retrain(history, registry, PLAN, FIRST, tmp_path / "work")
    ended = retrain(history, registry, PLAN, FIRST, tmp_path / "work")
    assert ended.version == first[1].version
    assert registry.current() == ended.version
    assert len(registry.changes()) == 1
    assert ended.outcome in ("promoted", "unchanged")


def test_what_was_trained_on_other_clicks_is_not_taken_up(history, first, tmp_path, monkeypatch):
    registry = Registry(tmp_path / "registry")
    with monkeypatch.context() as patched:
        patched.setattr(module, "calibrate_scorer", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            retrain(history, registry, PLAN, FIRST, tmp_path / "work")
    said = []
    other = dataclasses.replace(PLAN, days=3)
    retrain(history, registry, other, FIRST, tmp_path / "work", progress=said.append)
    assert any(line.startswith("training on") for line in said)


def test_two_at_once_are_one_and_a_conflict(history, tmp_path):
    with open(tmp_path / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="another retraining is going on"):
            retrain(history, Registry(tmp_path / "registry"), PLAN, FIRST, tmp_path)


def test_a_registry_that_somebody_changed_meanwhile_is_left_as_it_is(history, first, tmp_path, monkeypatch):
    registry = Registry(tmp_path / "registry")
    other = first[0].checkout(first[1].version, tmp_path / "other")
    whole = module.promised

    def meanwhile(*arguments):
        registry.promote(registry.add(other).version, "by hand", who="anna")
        return whole(*arguments)

    monkeypatch.setattr(module, "promised", meanwhile)
    plan = dataclasses.replace(PLAN, days=3)
    with pytest.raises(Conflict, match="anna made"):
        retrain(history, registry, plan, FIRST, tmp_path / "work")
    assert registry.current() == first[1].version


def test_a_history_without_clicks_of_those_days_says_so(history, tmp_path):
    with pytest.raises(SourceError, match="no clicks in that time"):
        retrain(history, Registry(tmp_path / "registry"), PLAN, FIRST + timedelta(days=400), tmp_path)


@pytest.mark.slow
def test_killed_for_real_again_and_again_it_ends_with_one_promotion(history, first, tmp_path):
    program = (
        "import sys; from datetime import date\n"
        "from tests.slidr.test_retrain import PLAN, FIRST\n"
        "from onlineguard.slidr.history.reading import History\n"
        "from onlineguard.slidr.registry.registry import Registry\n"
        "from onlineguard.slidr.retrain import retrain\n"
        "say = lambda line: print(line, flush=True)\n"
        "retrain(History(sys.argv[1]), Registry(sys.argv[2]), PLAN, FIRST, progress=say)\n"
    )
    for lines in (1, 2, 3, 4):
        process = subprocess.Popen(
            [sys.executable, "-c", program, history.path, tmp_path / "registry"], stdout=subprocess.PIPE, cwd=ROOT
        )
        for _ in range(lines):
            process.stdout.readline()
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    registry = Registry(tmp_path / "registry")
    ended = retrain(history, registry, PLAN, FIRST, history.path.parent / "retrain")
    assert ended.version == registry.current() == first[1].version
    assert len(registry.changes()) == 1
    assert json.loads((tmp_path / "registry" / "runs" / f"{FIRST}.json").read_text())["version"] == ended.version
