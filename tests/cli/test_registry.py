"""The commands of a registry as operators and schedulers meet them: a history in, an exit code and JSON out."""

import json
from datetime import date

import pytest
from typer.testing import CliRunner

from onlineguard.cli.app import app
from onlineguard.slidr.registry.registry import Registry
from onlineguard.slidr.registry.stores import Folder
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic
from tests.support.histories import recorded, told, written

DAYS = ["--days", "4", "--calibrate-days", "4"]
LIMITS = "[drift]\npsi = 1.0\n[thresholds]\nsupported = 0.1\npurchases = 1\n[auc]\nleast = 0.3\n[attack]\nmost = 0.3\n"


def invoke(*arguments):
    return CliRunner().invoke(app, ["slidr", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A history of ten days, limits for so few clicks, and a registry with the model of the ninth."""
    root = tmp_path_factory.mktemp("operations")
    clicks = simulate(Traffic(clicks=45_000, days=10, start=date(2026, 3, 2), label_outage=24.0), 3).clicks
    clicks = clicks.sort("ts", maintain_order=True).unique("click_id", keep="first", maintain_order=True)
    written(root / "history", recorded(clicks), told(clicks), every=20_000)
    (root / "limits.toml").write_text(f"{LIMITS}[outages]\noff = true\n[agreement]\noff = true\n")
    (root / "strict.toml").write_text(LIMITS)
    return root


def retrain(place, day, *more, limits="limits.toml"):
    asked = ["--history", place / "history", "--registry", place / "registry", "--guardrails", place / limits]
    few = ["--kind", "velocity", "--slice", "marketplace", "--budget", 0.05]
    return invoke("retrain", *asked, *DAYS, *few, "--day", day, *more)


@pytest.fixture(scope="module")
def promoted(place):
    result = retrain(place, "2026-03-10", "--json", "--who", "cron")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_scheduler_gets_json_on_standard_output_and_progress_beside_it(place, promoted):
    assert (promoted["outcome"], promoted["day"], promoted["who"]) == ("promoted", "2026-03-10", "cron")
    again = retrain(place, "2026-03-10")
    assert again.exit_code == 0
    assert f"model {promoted['version']} is live, by an earlier run" in again.stderr
    assert "outages     skipped  switched off by the settings" in again.stdout


def test_a_rejected_model_ends_with_code_3_and_its_reasons_and_force_is_logged(place, promoted):
    result = retrain(place, "2026-03-11", limits="strict.toml")
    assert result.exit_code == 3, result.output
    assert "beware: outages: purchases are missing for" in result.stderr
    versions = json.loads(invoke("models", "--registry", place / "registry", "--json").stdout)
    assert versions["current"] == promoted["version"]
    (rejected,) = {each["version"] for each in versions["versions"]} - {promoted["version"]}
    refused = invoke("promote", rejected, "--registry", place / "registry", "--why", "now")
    assert (refused.exit_code, "which failed outages" in refused.stderr) == (2, True)
    forced = invoke(
        "promote", rejected, "--registry", place / "registry", "--why", "we know", "--force", "--who", "anna"
    )
    assert forced.exit_code == 0
    assert "beware: it failed outages" in forced.stderr
    table = invoke("models", "--registry", place / "registry").stdout
    assert "forced past outages" in table
    assert "we know" in table
    compared = json.loads(
        invoke("diff", promoted["version"], rejected, "--registry", place / "registry", "--json").stdout
    )
    assert {row["name"] for row in compared["metrics"]} == {"ivr", "fpr", "coverage", "auc"}
    assert "any other slice" in {row["name"] for row in compared["thresholds"]}
    assert 0.0 <= compared["features"][-1]["distance"] <= compared["features"][0]["distance"] <= 1.0
    shown = invoke("diff", promoted["version"], rejected, "--registry", place / "registry").stdout
    assert "Thresholds" in shown
    back = invoke("rollback", "--registry", place / "registry", "--why", "it was wrong", "--json")
    assert json.loads(back.stdout)["current"] == promoted["version"]


def test_a_candidate_is_tried_shown_and_ended(place, promoted):
    registry = ["--registry", place / "registry"]
    versions = [each["version"] for each in json.loads(invoke("models", *registry, "--json").stdout)["versions"]]
    (other,) = {*versions} - {promoted["version"]}
    begun = invoke("trial", other, *registry, "--share", 0.05, "--why", "to see", "--force")
    assert begun.exit_code == 0
    assert f"{other} is on trial beside {promoted['version']}, and decides the clicks of 0.05" in begun.stderr
    told = json.loads(invoke("models", *registry, "--json").stdout)
    assert (told["current"], told["trial"], told["share"]) == (promoted["version"], other, 0.05)
    assert "on trial" in invoke("models", *registry).stdout
    assert json.loads(invoke("trial", "--end", *registry, "--why", "seen", "--json").stdout)["trial"] is None
    for wrong in ([other, "--end"], []):
        result = invoke("trial", *wrong, *registry, "--why", "both")
        assert (result.exit_code, "VERSION or --end must be given" in result.stderr) == (2, True)


def test_a_conflict_ends_with_code_4_and_a_mistake_with_code_2(place, promoted, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Folder, "create", lambda *_: False)
        result = invoke("promote", promoted["version"], "--registry", place / "other", "--why", "now")
        assert result.exit_code == 2  # it is not there
        patched.setattr("onlineguard.slidr.registry.registry._stack", lambda _: ["a", promoted["version"], "b"])
        result = invoke("rollback", "--registry", place / "registry", "--why", "now")
        assert result.exit_code == 4
        assert "was changed meanwhile" in result.stderr
    assert retrain(place, "tomorrow").exit_code == 2
    Registry(place / "registry").checkout(promoted["version"], place / "model")
    assert "--why is empty" in invoke("promote", place / "model", "--registry", place / "new", "--why", "").stderr
    assert "--days" in invoke("retrain", "--days", 0, "--history", place, "--registry", place).stderr
    nowhere = invoke("models", "--registry", place / "nothing")
    assert "has no models yet" in nowhere.stderr
