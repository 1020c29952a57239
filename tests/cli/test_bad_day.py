"""One bad day, as docs/operations.md tells it: its commands are run as they stand there, in their order."""

import json
import re
import shlex
import time
from datetime import date, timedelta
from pathlib import Path
from string import Template

import httpx2
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from onlineguard.cli.app import app
from onlineguard.client import Client
from onlineguard.compilation import VARIABLE
from onlineguard.slidr.clicks.clicks import SCHEMA
from onlineguard.slidr.features import Featuriser
from onlineguard.slidr.history.reading import History
from onlineguard.slidr.registry.registry import Registry
from onlineguard.slidr.replay.replay import replayed
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic
from tests.support.histories import recorded, told, written
from tests.support.real import Service

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
TRAFFIC = Traffic(clicks=60_000, days=20, start=date(2026, 3, 2))
ALONE, BAD_DAY = date(2026, 3, 12), date(2026, 3, 21)  # from when on every process counts for itself, and until when
PROCESSES = 8
PRICE = 0.4
TOGETHER = 256  # clicks of a request, as many as the live watch tests together
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


def counted_alone(clicks, X):
    """The features where each of the processes counts the clicks that it gets, and knows of no others."""
    midnights = [(day - date(1970, 1, 1)) // timedelta(milliseconds=1) for day in (ALONE, BAD_DAY)]
    during = clicks["ts"].is_between(*midnights, closed="left").to_numpy()
    process = np.random.default_rng(0).integers(0, PROCESSES, clicks.height)
    alone = X.copy()
    for number in range(PROCESSES):
        mine = np.flatnonzero(during & (process == number))
        alone[mine] = Featuriser().transform(clicks[mine])
    return alone, midnights[1]


@pytest.fixture
def service(tmp_path):
    """The service that the page starts, on a port of its own."""
    service = Service(tmp_path, {VARIABLE: str(tmp_path / "programs")})
    yield service
    service.kill()


def lived(service, clicks):
    """Send the clicks of a day in order, and then what became known of them; an alarm is waited for, not outrun."""
    with Client(service.url) as client:
        answers = []
        for part in clicks.select(list(SCHEMA)).with_columns(purchase_ts=pl.lit(None, pl.Int64)).iter_slices(TOGETHER):
            answers += client.clicks(part)
            while any(alarm["figure"] == "ivr" and not alarm["of"] for alarm in service.get("/v1/watch")["alarms"]):
                if service.get("/v1/watch")["rollbacks"]:
                    break
                time.sleep(0.05)
        bought = clicks.filter(pl.col("purchase_ts").is_not_null()).select("click_id", "purchase_ts")
        assert all(answer.known for answer in client.labels(bought))
    return answers


@pytest.mark.slow
def test_one_bad_day_goes_as_the_page_says(tmp_path, monkeypatch, service):
    monkeypatch.chdir(tmp_path)
    traffic = simulate(TRAFFIC, 3)
    clicks = traffic.clicks.sort("ts", maintain_order=True).unique("click_id", keep="first", maintain_order=True)
    X, midnight = counted_alone(clicks, Featuriser().transform(clicks))
    rows = recorded(clicks, X).filter(pl.col("ts") < midnight)
    written(Path("state/history"), rows, told(clicks.filter(pl.col("ts") < midnight)), every=50_000)
    day = clicks.filter(pl.col("ts") >= midnight)
    Path("limits.toml").write_text(LIMITS)
    ads = clicks.select("ad_id").unique().sort("ad_id")
    ads.with_columns(advertiser=pl.col("ad_id").str.slice(0, 5), price=pl.lit(PRICE)).write_csv("ads.csv")
    robots = day.select("click_id").join(traffic.truth.unique("click_id"), on="click_id", maintain_order="left")
    people = {row["click_id"] for row in robots.iter_rows(named=True) if not row["robot"]}
    here = [line.replace("http://127.0.0.1:8080", service.url) for line in commands()]
    first, second, serve, force, snapshot, dry, publish, shown = here

    ended = run(first)
    assert ended.exit_code == 0, ended.output
    registry = Registry("models")
    good = registry.current()

    ended = run(second)
    assert ended.exit_code == 3, ended.output
    assert "beware: drift: prefix_clicks_24h has drifted most" in ended.stderr
    assert registry.current() == good
    (bad,) = set(registry.versions()) - {good}

    service.as_told(shlex.split(serve)[1:], tmp_path)
    assert service.get("/v1/watch")["model_version"] == good
    assert run(force, BAD=bad).exit_code == 0
    while service.get("/v1/watch")["model_version"] != bad:
        time.sleep(0.05)
    answers = lived(service, day)
    assert [answer.model_version for answer in answers] == sorted(
        (a.model_version for a in answers), key=[bad, good].index
    )
    assert registry.current() == good
    assert registry.changes()[-1].who == "live watch"

    def wrong(decisions):
        return {id_ for id_, robotic in decisions if robotic} & people

    before = wrong((answer.click_id, answer.decision == "robotic") for answer in answers)
    assert httpx2.post(shlex.split(snapshot)[-1], timeout=60).status_code == 200
    ended = run(dry + " --json", GOOD=good)
    assert ended.exit_code == 0, ended.output
    total = json.loads(ended.stdout)["total"]
    assert total["clicks"] == day.height
    assert total["was_billed"] == pytest.approx(PRICE * (day.height - total["was_robotic"]))
    assert total["billed"] - total["was_billed"] == pytest.approx(total["charge"] - total["refund"])

    ended = run(publish, GOOD=good)
    assert ended.exit_code == 0, ended.output
    changes = total["now_robotic"] + total["now_valid"]
    assert f"the service has {changes:,} new decisions" in ended.stderr
    ended = run(publish, GOOD=good)
    assert f"the service has 0 new decisions, 0 of them about clicks that it has forgotten; {changes:,}" in ended.stderr
    with Client(service.url) as client:
        again = client.clicks(day.select(list(SCHEMA)).with_columns(purchase_ts=pl.lit(None, pl.Int64)))
    after = wrong((answer.click_id, answer.decision == "robotic") for answer in again)
    assert len(after) < 0.25 * len(before)
    assert len(before) > 100
    assert httpx2.post(shlex.split(snapshot)[-1], timeout=60).status_code == 200
    repaired = pl.concat(replayed(History("state/history"), registry.load(good), midnight))
    assert repaired["robotic"].equals(repaired["was_robotic"].alias("robotic"))

    assert run(shown).exit_code == 0
    assert [change.action for change in registry.changes()] == ["promote", "promote", "rollback"]
    print(total, len(before), len(after))
