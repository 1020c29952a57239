"""`onlineguard slidr` as its users meet it: a log in; a model, a report and decisions out; and clear refusals."""

import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

import onlineguard.slidr
from onlineguard.cli.app import app
from onlineguard.slidr.model import load_model
from onlineguard.slidr.simulation.simulator import simulate, write_traffic
from onlineguard.slidr.simulation.traffic import Traffic
from tests.support.histories import recorded, told, written

ROOT = Path(onlineguard.slidr.__file__).parents[2]
MAPPING = """
[columns]
click_id = "id"
ts = "when"
user_id = "who"
session_id = "visit"
ip = "address"
user_agent = "agent"
device = "machine"
marketplace = "shop"
ad_id = "ad"
logged_in = "in"
purchase_ts = "bought"
rfm = "worth"
"""
THEIRS = ["id", "when", "who", "visit", "address", "agent", "machine", "shop", "ad", "in", "bought", "worth"]


def invoke(*arguments):
    return CliRunner().invoke(app, ["slidr", *(str(argument) for argument in arguments)])


def refused(result, *words):
    """One line on standard error, exit code 2, no traceback."""
    assert result.exit_code == 2, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "Traceback" not in result.output
    for word in words:
        assert word in errors[0]


@pytest.fixture(scope="module")
def traffic(tmp_path_factory):
    """Four days of clicks, their truth and orders in a folder."""
    folder = tmp_path_factory.mktemp("traffic")
    write_traffic(folder, Traffic(clicks=16_000, days=4, start=date(2026, 3, 2)), 2)
    return folder


@pytest.fixture(scope="module")
def clicks(traffic):
    return traffic / "clicks.parquet"


@pytest.fixture(scope="module")
def model(clicks, tmp_path_factory):
    """A model trained and calibrated with the defaults, but for a budget that few purchases allow."""
    folder = tmp_path_factory.mktemp("models") / "model"
    result = invoke("train", clicks, "--out", folder)
    assert result.exit_code == 0, result.output
    assert "known to be people's, 2026-03-02 00:00 UTC to 2026-03-04" in result.stderr
    stages = [line.split(" in ")[0] for line in result.stderr.splitlines() if "a second" in line]
    assert [re.sub(r"[\d,]+", "n", stage) for stage in stages] == ["features: n clicks", "training mlp: n clicks"]
    result = invoke("calibrate", clicks, "--model", folder, "--budget", 0.05, "--confidence", "none")
    assert result.exit_code == 0, result.output
    assert "Thresholds" in result.stdout
    return folder


def test_a_folder_holds_the_model_its_thresholds_features_and_manifest(model):
    assert sorted(path.name for path in model.iterdir()) == [
        "features.json",
        "manifest.json",
        "scorer.safetensors",
        "thresholds.json",
    ]
    loaded = load_model(model)
    assert loaded.trained.until == loaded.trained.known_at == loaded.calibrated.since < loaded.calibrated.until
    assert loaded.options["budget"] == 0.05
    assert int(loaded.thresholds.calibration.fpr.total.hits) <= 0.05 * int(
        loaded.thresholds.calibration.fpr.total.trials
    )


def test_evaluation_measures_later_clicks_and_writes_report_and_figures(traffic, clicks, model, tmp_path):
    report, figures = tmp_path / "r.html", tmp_path / "r.json"
    truth = traffic / "truth.parquet"
    options = ["--model", model, "--truth", truth, "--report", report, "--json", figures]
    result = invoke("evaluate", clicks, *options)
    assert result.exit_code == 0, result.output
    for words in ("that the model has neither learned nor been calibrated on", "IVR", "FPR", "recall"):
        assert words in result.stdout
    page = report.read_text()
    assert page.startswith("<!doctype html") or page.startswith("<!DOCTYPE html")
    assert "http://" not in page.replace("http://www.w3.org", "")
    overall = json.loads(figures.read_text())["scorers"]["mlp"]["overall"]
    frame = pl.read_parquet(clicks).unique("click_id", keep="first", maintain_order=True)
    assert overall["clicks"] == frame.filter(pl.col("ts") >= load_model(model).calibrated.until).height
    assert overall["ivr"]["low"] < overall["ivr"]["value"] < overall["ivr"]["high"]
    assert overall["recall"]["value"] > 3 * overall["true_fpr"]["value"]
    assert "beware: some of these clicks" not in result.stderr


def test_thresholds_of_some_days_of_the_week_are_not_passed_off_as_those_of_all(clicks, model, tmp_path):
    advice = "; people click otherwise on other days: give three weeks"
    result = invoke("evaluate", clicks, "--model", model)
    assert f"beware: thresholds rest on Wed, these clicks are of Thu{advice}" in result.stderr
    shutil.copytree(model, tmp_path / "again")
    result = invoke(
        "calibrate", clicks, "--model", tmp_path / "again", "--since", "2d", "--until", "4d", "--budget", 0.05
    )
    assert f"beware: thresholds rest on Wed and Thu{advice}" in result.stderr
    result = invoke("evaluate", clicks, "--model", tmp_path / "again", "--since", "2d", "--until", "3d")
    assert advice not in result.stderr


def test_three_weeks_are_learned_calibrated_and_evaluated_a_week_each(tmp_path):
    write_traffic(tmp_path, Traffic(clicks=24_000, days=22, start=date(2026, 3, 2)), 1)
    log, folder = tmp_path / "clicks.parquet", tmp_path / "model"
    said = [
        invoke("train", log, "--out", folder, "--kind", "velocity"),
        invoke("calibrate", log, "--model", folder, "--budget", 0.1),
        invoke("evaluate", log, "--model", folder),
    ]
    assert [result.exit_code for result in said] == [0, 0, 0], said
    assert "beware: thresholds rest on" not in "".join(result.stderr for result in said)
    assert "beware: some of these clicks" not in "".join(result.stderr for result in said)
    loaded = load_model(folder)
    days = [
        datetime.fromtimestamp(time / 1_000, UTC).isoformat()[:13]
        for time in (loaded.trained.since, loaded.trained.until, loaded.calibrated.since, loaded.calibrated.until)
    ]
    assert days == ["2026-03-03T00", "2026-03-10T00", "2026-03-10T00", "2026-03-17T00"]
    assert invoke("train", log, "--out", folder, "--kind", "velocity", "--until", "100%").exit_code == 0
    trained = load_model(folder).trained
    assert trained.until - trained.since > 21.9 * 86_400_000


def test_clicks_that_were_calibrated_on_are_not_passed_off_as_new(clicks, model):
    result = invoke("evaluate", clicks, "--model", model, "--since", "0%")
    assert result.exit_code == 0
    assert "beware: some of these clicks the model has calibrated on" in result.stderr


@pytest.mark.slow
def test_baselines_are_compared_on_the_same_clicks(clicks, model, tmp_path):
    figures = tmp_path / "r.json"
    result = invoke("evaluate", clicks, "--model", model, "--baselines", "--json", figures, "--report", tmp_path / "r")
    assert result.exit_code == 0, result.output
    scorers = json.loads(figures.read_text())["scorers"]
    assert list(scorers) == ["mlp", "logistic", "velocity", "trees", "mlp without weights"]
    assert len({scorer["overall"]["clicks"] for scorer in scorers.values()}) == 1
    assert {scorer["budget"] for scorer in scorers.values()} == {0.05}
    assert "Beside other scorers" in result.stdout
    assert "What sample weights do" in (tmp_path / "r").read_text()


def test_baselines_need_the_log_that_was_learned(clicks, model, tmp_path):
    later = tmp_path / "later.parquet"
    pl.read_parquet(clicks).tail(5_000).write_parquet(later)
    refused(
        invoke("evaluate", later, "--model", model, "--baselines"),
        "--baselines needs the",
        "has 0 and 0 in those times",
    )


@pytest.mark.parametrize("ending", ["parquet", "csv", "ndjson"])
def test_every_kind_of_log_and_of_output_gives_the_same_decisions(clicks, model, tmp_path, ending):
    log, out = tmp_path / f"log.{ending}", tmp_path / f"out.{ending}"
    frame = pl.read_parquet(clicks).head(3_000)
    getattr(frame, f"write_{ending}")(log)
    result = invoke("score", log, "--model", model, "--out", out)
    assert result.exit_code == 0, result.output
    decisions = {"parquet": pl.read_parquet, "csv": pl.read_csv, "ndjson": pl.read_ndjson}[ending](out)
    assert decisions.columns == ["click_id", "p_robot", "threshold", "slice", "robotic", "model"]
    assert decisions["click_id"].cast(pl.String).to_list() == frame["click_id"].to_list()
    assert (decisions["robotic"] == (decisions["p_robot"].cast(pl.Float32) > decisions["threshold"])).all()
    assert 0 < decisions["robotic"].sum() < decisions.height
    assert set(decisions["model"].cast(pl.String)) == {load_model(model).version}
    expected = tmp_path / "expected.parquet"
    assert invoke("score", clicks, "--model", model, "--out", expected).exit_code == 0
    assert decisions["robotic"].equals(pl.read_parquet(expected)["robotic"].head(3_000))


def test_clicks_before_the_scored_part_are_counted(clicks, model, tmp_path):
    whole, part = tmp_path / "whole.parquet", tmp_path / "part.parquet"
    assert invoke("score", clicks, "--model", model, "--out", whole).exit_code == 0
    assert invoke("score", clicks, "--model", model, "--out", part, "--since", "3d").exit_code == 0
    frame, decisions = pl.read_parquet(whole), pl.read_parquet(part)
    assert decisions.equals(
        frame.filter(pl.read_parquet(clicks)["ts"] >= pl.read_parquet(clicks)["ts"].min() + 259_200_000)
    )


def test_a_log_of_any_shape_is_read_through_a_mapping(clicks, model, tmp_path):
    mapping, log, out = tmp_path / "m.toml", tmp_path / "log.csv", tmp_path / "out.parquet"
    mapping.write_text(MAPPING)
    frame = pl.read_parquet(clicks).head(2_000)
    frame.rename(dict(zip(frame.columns, THEIRS, strict=True))).write_csv(log)
    assert invoke("score", log, "--mapping", mapping, "--model", model, "--out", out).exit_code == 0
    plain = tmp_path / "plain.parquet"
    assert invoke("score", clicks, "--model", model, "--out", plain).exit_code == 0
    assert pl.read_parquet(out).equals(pl.read_parquet(plain).head(2_000))
    refused(invoke("score", log, "--model", model, "--out", out), "has no column", "A mapping says")


def test_rows_that_are_no_clicks_are_set_aside_where_a_file_for_them_is_named(clicks, model, tmp_path):
    log, out, rejects = tmp_path / "log.csv", tmp_path / "out.parquet", tmp_path / "rejects.ndjson"
    frame = pl.read_parquet(clicks).head(1_000).cast(pl.String)
    wrong = pl.Series([i in (3, 700) for i in range(frame.height)])
    frame.with_columns(ts=pl.when(wrong).then(pl.lit("noon")).otherwise("ts")).write_csv(log)
    good = frame.filter(~wrong)["click_id"].to_list()
    refused(invoke("score", log, "--model", model, "--out", out), "row 4", '"noon"', "--rejects FILE")
    commands = {
        "train": ["--out", tmp_path / "model", "--until", "100%"],
        "calibrate": ["--model", tmp_path / "model", "--since", "0%", "--until", "100%", "--budget", "0.5"],
        "evaluate": ["--model", tmp_path / "model", "--since", "0%"],
        "score": ["--model", tmp_path / "model", "--out", out],
    }
    for command, options in commands.items():
        rejects.unlink(missing_ok=True)
        result = invoke(command, log, *options, "--rejects", rejects)
        assert result.exit_code == 0, result.output
        assert f"2 rows could not be read: see {rejects}" in result.stderr
        rows = [json.loads(line) for line in rejects.read_text().splitlines()]
        assert [(row["row"], row["column"], row["value"]) for row in rows] == [(4, "ts", "noon"), (701, "ts", "noon")]
    assert pl.read_parquet(out)["click_id"].to_list() == good


def test_a_file_of_rejects_is_neither_another_file_nor_left_from_before(clicks, model, tmp_path):
    log, out, rejects = tmp_path / "log.csv", tmp_path / "out.csv", tmp_path / "rejects.ndjson"
    frame = pl.read_parquet(clicks).head(50).cast(pl.String)
    frame.write_csv(log)
    options = ["--model", model, "--out", out]
    before = log.read_bytes()
    refused(invoke("score", log, *options, "--rejects", log), "--rejects is", "also the source")
    refused(invoke("score", log, *options, "--rejects", out), "--rejects is", "which is also out")
    refused(
        invoke("score", log, *options, "--rejects", tmp_path / "no" / "r"), "--rejects is", "no file can be written"
    )
    assert log.read_bytes() == before
    rejects.write_text("of another run")
    assert invoke("score", log, *options, "--rejects", rejects).exit_code == 0
    assert not rejects.exists()
    frame.with_columns(ts=pl.lit("noon")).write_csv(log)
    refused(invoke("score", log, *options, "--rejects", rejects), "every row of", f"see {rejects}")


def test_the_same_seed_trains_the_same_model(clicks, tmp_path):
    options = ["--until", "1d", "--seed", 4]
    for name in ("a", "b"):
        assert invoke("train", clicks, "--out", tmp_path / name, *options).exit_code == 0
    assert load_model(tmp_path / "a").version == load_model(tmp_path / "b").version


def test_thresholds_are_chosen_for_the_slices_and_options_asked_for(clicks, tmp_path):
    folder = tmp_path / "model"
    assert invoke("train", clicks, "--out", folder, "--kind", "velocity", "--slice", "device").exit_code == 0
    options = ["--method", "quadratic", "--budget", 0.1, "--cap", 0.5]
    assert invoke("calibrate", clicks, "--model", folder, *options).exit_code == 0
    thresholds = load_model(folder).thresholds
    assert thresholds.slices == ("device",)
    assert thresholds.calibration.method == "quadratic"
    assert len(set(thresholds.calibration.thresholds)) > 1


def test_a_model_without_thresholds_is_not_used(clicks, tmp_path):
    folder = tmp_path / "model"
    assert invoke("train", clicks, "--out", folder, "--kind", "velocity").exit_code == 0
    for command in (["evaluate"], ["score", "--out", tmp_path / "x.csv"]):
        refused(
            invoke(command[0], clicks, "--model", folder, *command[1:]), "has no thresholds yet; run onlineguard slidr"
        )


def test_wrong_use_is_one_line_that_names_the_flag(clicks, model, traffic, tmp_path):
    new = tmp_path / "new"
    refused(invoke("train", clicks, "--out", new, "--slice", "ts"), "--slice names 'ts'")
    refused(invoke("train", clicks, "--out", new, "--until", "soon"), "--until is 'soon'; it must be a share")
    refused(invoke("train", clicks, "--out", new, "--since", "9d", "--until", "10d"), "leaves no clicks; the log runs")
    refused(invoke("train", clicks, "--out", clicks), "which is a file; name a folder")
    refused(invoke("train", tmp_path / "none.csv", "--out", new), "cannot be read")
    refused(invoke("calibrate", clicks, "--model", new), "manifest.json is missing")
    refused(invoke("calibrate", clicks, "--model", model, "--budget", 2), "--budget is 2.0; it must lie")
    refused(invoke("evaluate", clicks, "--model", model, "--truth", clicks), "cannot be read")
    refused(invoke("evaluate", clicks, "--model", model, "--report", tmp_path / "no" / "r.html"), "--report is")
    refused(invoke("score", clicks, "--model", model, "--out", tmp_path / "x.txt"), "must end in .parquet")
    refused(invoke("score", clicks, "--model", model, "--out", clicks), "which is also the source")
    assert not new.exists()


def test_a_calibration_that_is_refused_leaves_the_model_as_it_was(clicks, model):
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    refused(invoke("calibrate", clicks, "--model", model, "--budget", 0.0001, "--confidence", 0.99), "budget")
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


def test_a_budget_that_the_purchases_cannot_show_is_refused_unless_no_promise_is_asked_for(clicks, model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    refused(
        invoke("calibrate", clicks, "--model", folder),
        "budget is 0.01 at confidence 0.95; ",
        "and 299 would do. Wait for more purchases, raise budget to 0.05",
    )
    refused(
        invoke("calibrate", clicks, "--model", folder, "--confidence", "sure"), "--confidence is 'sure'; it must be"
    )
    assert invoke("calibrate", clicks, "--model", folder, "--confidence", "none").exit_code == 0
    assert load_model(folder).thresholds.calibration.confidence is None


def test_features_are_counted_once_and_are_the_same(clicks, model, tmp_path):
    log, first, second = tmp_path / "log.parquet", tmp_path / "first.parquet", tmp_path / "second.parquet"
    frame = pl.read_parquet(clicks).head(2_000)
    frame.write_parquet(log)
    assert "kept" not in invoke("score", log, "--model", model, "--out", first).stderr
    result = invoke("score", log, "--model", model, "--out", second)
    assert f"features: {log}.features-" in result.stderr
    assert "which an earlier command kept" in result.stderr
    assert pl.read_parquet(first).equals(pl.read_parquet(second))
    frame.head(1_500).write_parquet(log)  # another log of the same name
    assert "kept" not in invoke("score", log, "--model", model, "--out", second).stderr
    assert pl.read_parquet(second).equals(pl.read_parquet(first).head(1_500))
    assert len(list(tmp_path.glob("log.parquet.features-*"))) == 1


def test_features_that_are_damaged_are_counted_again(clicks, model, tmp_path):
    log, out = tmp_path / "log.parquet", tmp_path / "out.parquet"
    pl.read_parquet(clicks).head(500).write_parquet(log)
    for _ in range(2):
        assert invoke("score", log, "--model", model, "--out", out).exit_code == 0
        (kept,) = tmp_path.glob("log.parquet.features-*")
        kept.write_bytes(kept.read_bytes()[:100])


def test_a_log_out_of_order_is_sorted_and_said_to_be(clicks, model, tmp_path):
    log, out, plain = tmp_path / "log.parquet", tmp_path / "out.parquet", tmp_path / "plain.parquet"
    frame = pl.read_parquet(clicks).head(4_000).sort("ts", maintain_order=True)
    frame.reverse().write_parquet(log)
    result = invoke("score", log, "--model", model, "--out", out)
    assert result.exit_code == 0
    assert "are over an hour behind earlier rows; all were sorted by time" in result.stderr
    frame.write_parquet(plain)
    assert invoke("score", plain, "--model", model, "--out", tmp_path / "in_order.parquet").exit_code == 0
    columns = ["click_id", "p_robot"]
    same = [pl.read_parquet(file).select(columns).sort("click_id") for file in (out, tmp_path / "in_order.parquet")]
    ties = frame["ts"].is_duplicated().sum()
    assert (same[0]["p_robot"] != same[1]["p_robot"]).sum() <= 10 * ties  # equal times may come in either order


def test_the_next_command_is_given_with_the_mapping(clicks, tmp_path):
    mapping, log = tmp_path / "m.toml", tmp_path / "log.csv"
    mapping.write_text(MAPPING)
    frame = pl.read_parquet(clicks)
    frame.rename(dict(zip(frame.columns, THEIRS, strict=True))).write_csv(log)
    result = invoke("train", log, "--mapping", mapping, "--out", tmp_path / "m", "--kind", "velocity")
    assert f"next: onlineguard slidr calibrate {log} --mapping {mapping} --model {tmp_path / 'm'}" in result.stderr
    options = ["--mapping", mapping, "--model", tmp_path / "m", "--budget", 0.2]
    result = invoke("calibrate", log, *options)
    assert f"next: onlineguard slidr evaluate {log} --mapping {mapping} --model {tmp_path / 'm'}" in result.stderr


def test_orders_become_scores_and_join_clicks(traffic, clicks, tmp_path):
    orders, scores, log = traffic / "orders.parquet", tmp_path / "rfm.csv", tmp_path / "log.parquet"
    result = invoke("rfm", orders, "--out", scores)
    assert result.exit_code == 0, result.output
    assert "accounts with orders have a score, as of 2026-03-0" in result.stderr
    table = pl.read_csv(scores)
    assert table.columns == ["user_id", "recency", "frequency", "monetary", "rfm"]
    assert table["rfm"].is_between(3, 15).all()
    assert invoke("rfm", orders, "--clicks", clicks, "--out", log).exit_code == 0
    frame, before = pl.read_parquet(log), pl.read_parquet(clicks)
    assert frame.drop("rfm").equals(before.drop("rfm"))
    first_day = before["ts"] < before["ts"].min() + 86_400_000
    assert frame.filter(first_day)["rfm"].equals(before.filter(first_day)["rfm"])  # the simulator scores nightly
    assert invoke("train", log, "--out", tmp_path / "m", "--kind", "velocity").exit_code == 0
    refused(invoke("rfm", orders, "--clicks", clicks, "--at", "50%", "--out", log), "--at is after the first click")
    refused(invoke("rfm", clicks, "--out", scores), "has no column amount")
    refused(invoke("rfm", orders, "--out", tmp_path / "x.txt"), "--out is", "must end in .parquet")


@pytest.mark.parametrize("command", ["train", "calibrate", "evaluate", "score", "rfm"])
def test_help_shows_an_example(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"onlineguard slidr {command}" in result.output


@pytest.mark.parametrize("name", onlineguard.slidr.__all__)
def test_every_public_name_resolves(name):
    assert getattr(onlineguard.slidr, name).__name__ == name
    assert name in dir(onlineguard.slidr)


def test_the_public_names_are_exactly_those_that_can_be_loaded():
    assert sorted(onlineguard.slidr.__all__) == sorted(
        name for names in onlineguard.slidr._NAMES.values() for name in names
    )
    with pytest.raises(AttributeError, match="no attribute 'Trian'"):
        _ = onlineguard.slidr.Trian
    modules = {path.stem for path in Path(onlineguard.slidr.__file__).parent.glob("*.py")}
    assert not modules & set(onlineguard.slidr.__all__)


def test_help_and_import_load_nothing_heavy():
    code = (
        "import sys, onlineguard.slidr, onlineguard.cli.app; print(*{name.partition('.')[0] for name in sys.modules})"
    )
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"jax", "numpy", "scipy", "polars", "sklearn", "optax"} & set(loaded.stdout.split())


def test_a_history_is_shown_by_day_and_a_person_is_erased_from_it(tmp_path):
    log = simulate(Traffic(clicks=600, days=2), 1).clicks
    folder = written(tmp_path / "history", recorded(log), told(log, delay=3_600_000))
    shown = invoke("history", folder)
    assert shown.exit_code == 0, shown.output
    days = json.loads(invoke("history", folder, "--json").stdout)["days"]
    assert sum(day["rows"] for day in days) == log.height
    assert sum(day["purchases"] for day in days) == log["purchase_ts"].count()
    assert days[0]["delay"] == [1.0, 1.0]
    assert all(day["day"] in shown.stdout for day in days)
    user = log["user_id"].drop_nulls()[0]
    erased = invoke("history", "erase", folder, "--user", user)
    assert f"erased {log.filter(pl.col('user_id') == user).height} clicks" in erased.stderr
    refused(invoke("history", tmp_path), "is no history")


def test_days_that_were_counted_by_entity_make_the_same_model_as_the_log(clicks, model, tmp_path):
    days, history, again = tmp_path / "days", tmp_path / "history", tmp_path / "again"
    days.mkdir()
    log = pl.read_parquet(clicks)
    for half, name in ((log[: log.height // 2], "1"), (log[log.height // 2 :], "2")):
        half.write_parquet(days / f"{name}.parquet")
    result = invoke("features", days, "--out", history, "--parts", 2)
    assert result.exit_code == 0, result.output
    assert f"{log.height:,} clicks with their features" in result.stderr
    assert "a second" in result.stderr
    result = invoke("features", days, "--out", history)
    assert f"{log.height:,} of which were there" in result.stderr
    assert invoke("train", history, "--out", again).exit_code == 0
    result = invoke("calibrate", history, "--model", again, "--budget", 0.05, "--confidence", "none")
    assert result.exit_code == 0, result.output
    assert load_model(again).version == load_model(model).version
    assert invoke("evaluate", history, "--model", again).exit_code == 0
    assert not [*history.glob(".features-*")]
    shown = invoke("history", history, "--json")
    assert sum(day["rows"] for day in json.loads(shown.stdout)["days"]) == log.height


def test_what_a_history_cannot_be_asked_for_is_refused(clicks, model, tmp_path):
    (tmp_path / "days").mkdir()
    refused(invoke("train", tmp_path / "days", "--out", tmp_path / "m"), "is no history")
    refused(invoke("train", tmp_path / "days", "--out", tmp_path / "m", "--rejects", tmp_path / "r"), "--rejects")
    refused(invoke("score", tmp_path / "days", "--model", model, "--out", tmp_path / "d.csv"), "slidr replay")
    refused(invoke("evaluate", tmp_path / "days", "--model", model, "--truth", clicks), "--truth")
    refused(invoke("features", tmp_path / "days", "--out", tmp_path / "h"), "no .parquet files")
    refused(invoke("features", clicks, "--out", clicks.parent), "where the clicks are")
