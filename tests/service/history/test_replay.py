"""What was judged live is judged anew from its history: the same by the same model, to the last bit."""

import asyncio
import json

import polars as pl
import pytest
from onlineguard_service.core import Core
from typer.testing import CliRunner

from onlineguard.cli.app import app
from onlineguard.errors import InvalidArgument
from onlineguard.slidr.history.reading import History
from onlineguard.slidr.model import Model, load_model
from onlineguard.slidr.replay.replay import complete, replayed
from onlineguard.wire.requests import Label
from tests.support.cores import chosen

PAIRS = [(name, f"was_{name}") for name in ("score", "threshold", "robotic", "model")]


def lived(state, model, clicks):
    """The history of a service that judged these clicks, in batches and one by one."""

    async def run():
        core = await Core.open(chosen(state, model, history="on"))
        for start in range(0, 600, 50):
            await core.clicks(clicks[start : start + 50])
        await core.snapshot()
        for click in clicks[600:700]:
            await core.clicks([click])
        await core.labels([Label(click.click_id, click.ts) for click in clicks[:40]])
        await core.close()

    asyncio.run(run())
    return History(state / "history")


@pytest.fixture(scope="module")
def history(tmp_path_factory, model_folder, clicks):
    return lived(tmp_path_factory.mktemp("one"), model_folder, clicks)


@pytest.fixture(scope="module")
def of_other(tmp_path_factory, other_folder, clicks):
    return lived(tmp_path_factory.mktemp("other"), other_folder, clicks)


@pytest.mark.parametrize("recompute", [False, True])
def test_the_model_that_decided_decides_the_same_again(history, model_folder, recompute):
    assert complete(history)
    again = pl.concat(replayed(history, load_model(model_folder), recompute=recompute))
    assert again.height == history.rows()
    for now, was in PAIRS:
        assert again[now].equals(again[was].alias(now))
    assert again["robotic"].any()


@pytest.mark.parametrize("recompute", [False, True])
def test_another_model_decides_what_it_would_have_decided_live(history, of_other, other_folder, recompute):
    anew = pl.concat(replayed(history, load_model(other_folder), recompute=recompute))
    live = pl.concat(of_other.clicks())
    for now, _ in PAIRS:
        assert anew[now].equals(live[now])
    assert (anew["robotic"] != anew["was_robotic"]).any()


@pytest.mark.parametrize("recompute", [False, True])
def test_a_part_is_judged_as_in_the_whole(history, other_folder, recompute):
    model = load_model(other_folder)
    whole = pl.concat(replayed(history, model, recompute=recompute))
    since, until = int(whole["ts"][200]), int(whole["ts"][500])
    part = pl.concat(replayed(history, model, since, until, recompute))
    assert part.equals(whole.filter(pl.col("ts").is_between(since, until, closed="left")))


def test_a_model_without_thresholds_decides_nothing(history, model_folder):
    model = load_model(model_folder)
    with pytest.raises(InvalidArgument, match="has no thresholds"):
        next(replayed(history, Model(model.config, model.scorer, model.trained)))


def test_the_command_shows_what_would_change_then_publishes_it_once(history, of_other, model_folder, tmp_path, clicks):
    def invoke(*more):
        found = CliRunner().invoke(app, ["slidr", "replay", str(of_other.path), *map(str, more)])
        assert found.exit_code == 0, found.output
        return found

    (tmp_path / "ads.csv").write_text(
        "ad_id,advertiser,price\n" + "".join(f"{ad},anna,0.5\n" for ad in {click.ad_id for click in clicks[:350]})
    )
    version = load_model(model_folder).version
    dry = json.loads(invoke("--model", model_folder, "--dry-run", "--prices", tmp_path / "ads.csv", "--json").stdout)
    anew = pl.concat(replayed(of_other, load_model(model_folder)))
    changes = anew.filter(pl.col("robotic") != pl.col("was_robotic"))
    assert dry["total"]["now_robotic"] + dry["total"]["now_valid"] == changes.height > 0
    assert {row["advertiser"] for row in dry["advertiser"]} <= {"anna", "unknown"}
    out = tmp_path / "delayed.ndjson"
    for _ in range(2):
        invoke("--model", model_folder, "--out", out, "--changed", "--from", "0%", "--to", "100%")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["click_id"] for line in lines] == changes["click_id"].to_list()
    assert {line["model_version"] for line in lines} == {version}
    assert all(line["replaces"]["decision"] != line["decision"] for line in lines)
    wrong = CliRunner().invoke(app, ["slidr", "replay", str(history.path), "--model", "absent", "--dry-run"])
    assert (wrong.exit_code, "absent" in wrong.stderr) == (2, True)
