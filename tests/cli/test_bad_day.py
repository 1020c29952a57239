"""One bad day, as docs/operations.md tells it: its commands are run as they stand there, in their order."""

import json
import re
import shlex
from datetime import date, timedelta
from pathlib import Path
from string import Template

import polars as pl
import pytest
from typer.testing import CliRunner

from onlineguard.cli.app import app
from onlineguard.slidr.features import Featuriser
from onlineguard.slidr.history.reading import History
from onlineguard.slidr.registry.registry import Registry
from onlineguard.slidr.replay.replay import replayed
from onlineguard.slidr.simulation.simulator import Traffic, simulate
from tests.support.histories import recorded, told, written

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
TRAFFIC = Traffic(clicks=60_000, days=20, start=date(2026, 3, 2), label_outage=84.0)  # from 12 March 10:00 on
BAD_DAY = date(2026, 3, 21)
PRICE = 0.4
# So few clicks hold neither the default budget nor the default limits.
LIMITS = """
drift = {psi = 1.0}
thresholds = {supported = 0.1, idle = 1.0}
auc = {least = 0.3}
attack = {most = 0.3}
density = {off = true}
ivr = {off = true}
coverage = {off = true}
canary = {off = true}
"""


def commands():
    """The commands of the section, without their prompts."""
    section = PAGE.read_text("utf-8").split("## One bad day\n")[1].split("\n## ")[0]
    lines = "\n".join(re.findall(r"```console\n(.*?)```", section, re.DOTALL)).replace("\\\n", " ")
    return [line.removeprefix("$ ") for line in lines.splitlines() if line.startswith("$ ")]


def run(line, **versions):
    """Run a command as a shell would; GOOD and BAD are its variables."""
    program, *words = shlex.split(Template(line).substitute(versions))
    assert program == "onlineguard"
    return CliRunner().invoke(app, words)


@pytest.mark.slow
def test_one_bad_day_goes_as_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clicks = (
        simulate(TRAFFIC, 3)
        .clicks.sort("ts", maintain_order=True)
        .unique("click_id", keep="first", maintain_order=True)
    )
    rows = recorded(clicks, Featuriser().transform(clicks))
    midnight = (BAD_DAY - date(1970, 1, 1)) // timedelta(milliseconds=1)
    before = rows.filter(pl.col("ts") < midnight)
    bad_day = rows.filter(pl.col("ts").is_between(midnight, midnight + 86_400_000, closed="left"))
    history = written(Path("state/history"), before, told(clicks), every=50_000)
    Path("limits.toml").write_text(LIMITS)
    ads = clicks.select("ad_id").unique().sort("ad_id")
    prices = ads.with_columns(advertiser=pl.col("ad_id").str.slice(0, 5), price=pl.lit(PRICE))
    prices.write_csv("ads.csv")
    first, second, force, back, dry, publish, shown = commands()

    ended = run(first)
    assert ended.exit_code == 0, ended.output
    registry = Registry("models")
    good = registry.current()

    ended = run(second)
    assert ended.exit_code == 3, ended.output
    assert "beware: outages: purchases are missing for" in ended.stderr
    assert registry.current() == good
    (bad,) = set(registry.versions()) - {good}

    assert run(force, BAD=bad).exit_code == 0
    assert registry.current() == bad
    for version in (good, bad):  # as the service keeps those that it had
        registry.checkout(version, Path("state/models") / version)
    judging = Path("judging")
    decided = pl.concat(replayed(History(written(judging, bad_day, every=50_000)), registry.load(bad)))
    names = ("score", "threshold", "slice", "robotic", "model")
    written(history, bad_day.with_columns(decided[name] for name in names), every=50_000)

    assert run(back).exit_code == 0
    assert registry.current() == good

    ended = run(dry + " --json", GOOD=good)
    assert ended.exit_code == 0, ended.output
    total = json.loads(ended.stdout)["total"]
    assert total["clicks"] == bad_day.height
    assert total["was_robotic"] == decided["robotic"].sum()
    assert total["now_robotic"] > 0
    assert total["refund"] == pytest.approx(PRICE * total["now_robotic"])

    assert run(publish, GOOD=good).exit_code == 0
    delayed = [json.loads(line) for line in Path("delayed.ndjson").read_text().splitlines()]
    assert len(delayed) == total["now_robotic"] + total["now_valid"]
    assert {(each["model_version"], each["replaces"]["model_version"]) for each in delayed} == {(good, bad)}
    assert run(publish, GOOD=good).exit_code == 0
    assert len(Path("delayed.ndjson").read_text().splitlines()) == len(delayed)

    repaired = {each["click_id"]: each["decision"] == "robotic" for each in delayed}
    right = pl.concat(replayed(History(judging), registry.load(good)))
    given = dict(zip(decided["click_id"], decided["robotic"], strict=True)) | repaired
    assert given == dict(zip(right["click_id"], right["robotic"], strict=True))

    assert run(shown).exit_code == 0
    assert [change.action for change in registry.changes()] == ["promote", "promote", "rollback"]
