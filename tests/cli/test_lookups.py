"""`onlineguard slidr lookups` as its users meet it: built once a day, shown, and used by the commands of a log."""

import json
from datetime import date, timedelta

import numpy as np
import pytest
from typer.testing import CliRunner

from onlineguard.cli.app import app
from onlineguard.slidr.features import LOOKED_UP, NAMES
from onlineguard.slidr.model import load_model
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic


def invoke(*arguments, code=0):
    found = CliRunner().invoke(app, ["slidr", *map(str, arguments)])
    assert found.exit_code == code, found.output
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A log of four days, hosting networks, and the lookups of three."""
    folder = tmp_path_factory.mktemp("lookups")
    traffic = Traffic(clicks=12_000, days=4)
    simulate(traffic, 0).clicks.write_parquet(folder / "log.parquet")
    (folder / "hosting.csv").write_text("name,prefix\na cloud,198.18.0.0/15\n")
    for day in range(3):
        invoke(
            "lookups", "build", "--out", folder / "lookups", *built_from(folder, traffic.start + timedelta(days=day))
        )
    return folder


def built_from(folder, day):
    return "--clicks", folder / "log.parquet", "--hosting", folder / "hosting.csv", "--day", day


def test_a_day_is_built_once_and_every_version_is_shown(folder):
    again = json.loads(
        invoke("lookups", "build", "--out", folder / "lookups", *built_from(folder, date(2026, 3, 2)), "--json").stdout
    )
    assert (again["repeated"], again["version"], again["entities"]["networks4"]) == (True, "2026-03-02", 2)
    versions = json.loads(invoke("lookups", "show", folder / "lookups", "--json").stdout)["versions"]
    assert [version["version"] for version in versions] == ["2026-03-02", "2026-03-03", "2026-03-04"]
    assert versions[0] == {name: again[name] for name in versions[0]}
    table = invoke("lookups", "show", folder / "lookups").stdout
    assert "2026-03-03" in table
    assert "2026-03-04 06:00" in table


def test_a_folder_without_lookups_says_so(tmp_path):
    assert "has no lookups yet" in invoke("lookups", "show", tmp_path).output


@pytest.mark.slow
def test_a_model_is_trained_with_lookups_and_asks_for_them_from_then_on(folder):
    log, model = folder / "log.parquet", folder / "model"
    options = ("--kind", "logistic", "--slice", "marketplace")
    invoke("train", log, *options, "--out", model, "--lookups", folder / "lookups", "--since", "50%", "--until", "75%")
    trained = load_model(model)
    assert trained.looks_up
    learned = [name for name in LOOKED_UP if NAMES.index(name) not in trained.scorer.held]
    assert learned == ["prefix_daily", "prefix_days", "hosting"]
    invoke("train", log, *options, "--out", folder / "all", "--lookups", folder / "lookups", "--leave-out", "hosting")
    assert [NAMES[at] for at in load_model(folder / "all").scorer.held if NAMES[at] in LOOKED_UP] == ["hosting"]
    refused = invoke("calibrate", log, "--model", model, code=2)
    assert "was trained with lookups" in refused.stderr
    invoke("train", log, *options, "--out", folder / "plain", "--since", "50%", "--until", "75%")
    plain = load_model(folder / "plain")
    assert not plain.looks_up
    kept = sorted(folder.glob("log.parquet.features-*.npy"))
    assert len(kept) == 1  # of the features without lookups, which other digits stand for
    assert not np.load(kept[0])[:, -len(LOOKED_UP) :].any()


def test_what_cannot_be_built_is_said_in_a_line(folder, tmp_path):
    for arguments, why in (
        (("--out", tmp_path), "give one of --history and --clicks"),
        (("--out", tmp_path, "--clicks", folder / "log.parquet", "--day", "monday"), "must be a date"),
        (("--out", tmp_path, "--clicks", folder / "log.parquet", "--day", "2026-03-01"), "there are no clicks"),
        (("--out", tmp_path, "--history", folder), "is no history"),
    ):
        assert why in invoke("lookups", "build", *arguments, code=2).stderr
    assert not list(tmp_path.iterdir())
    (tmp_path / "2026-03-02.safetensors").write_bytes(b"no lookups")
    assert "is no version of the lookups" in invoke("lookups", "show", tmp_path).output
