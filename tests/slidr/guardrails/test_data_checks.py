"""The guardrails on training data: each fires at its own fault, and none at a clean week, in both worlds."""

import dataclasses
from datetime import date

import numpy as np
import polars as pl
import pytest

from benchmarks.faults import flooded, relabelled
from onlineguard.errors import InvalidArgument, SourceError
from onlineguard.records.versions import Promises
from onlineguard.slidr.features import LOOKED_UP, NAMES, WIDTH
from onlineguard.slidr.guardrails import distributions, labels, traffic
from onlineguard.slidr.guardrails.checks import Settings, run
from onlineguard.slidr.guardrails.data import DAY, HOUR, Data, arrived
from onlineguard.slidr.retrain import CHECKS, DATA_CHECKS
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic

SLICES = ("device", "marketplace", "logged_in")
TRAFFIC = Traffic(clicks=50_000, days=7, start=date(2026, 3, 2))
DENSE = dataclasses.replace(TRAFFIC, clicks=100_000)  # so many show an outage of two hours
BEGIN, END = TRAFFIC.begin, TRAFFIC.end


def features_like(clicks):
    """Features within their ranges, of which one tells how fast an ip clicks; counting real ones takes seconds.

    There are no lookups.
    """
    rng = np.random.default_rng(0)
    counted = rng.random((clicks.height, WIDTH - len(LOOKED_UP)), np.float32)
    X = np.hstack([counted, np.zeros((clicks.height, len(LOOKED_UP)), np.float32)])
    X[:, NAMES.index("logged_in")] = clicks["logged_in"].to_numpy()
    X[:, NAMES.index("ip_clicks_24h")] = clicks.select(pl.len().over("ip").log1p()).to_series().to_numpy()
    return X


def data_of(clicks, X=None, **changes):
    X = features_like(clicks) if X is None else X
    return Data(clicks, X, BEGIN, END, END, SLICES, **changes)


def promises_of(X):
    features = distributions.promise_of(X)
    return Promises(clicks_a_day=1.0, human_share=0.1, score_edges=[], slices={}, features=features)


def failures(data):
    return {outcome.name for outcome in run(DATA_CHECKS, data, Settings()) if outcome.outcome == "failed"}


@pytest.fixture(scope="module")
def week():
    return simulate(TRAFFIC, 3).clicks


@pytest.fixture(scope="module")
def clean(week):
    return data_of(week)


@pytest.mark.parametrize("world", ["usual", "wide"])
def test_in_a_clean_week_nothing_fires_and_every_check_says_what_it_saw(world):
    clicks = simulate(dataclasses.replace(TRAFFIC, world=world), 4).clicks
    X = features_like(clicks)
    outcomes = run(DATA_CHECKS, data_of(clicks, X, promised=promises_of(X)), Settings())
    assert [(each.name, each.sentence) for each in outcomes if each.outcome != "passed"] == []
    assert all(each.sentence and each.reason and each.figures for each in outcomes)


@pytest.mark.parametrize("hours", [2, 6, 24])
def test_an_outage_of_labels_is_found_with_its_beginning_and_its_length(hours):
    config = dataclasses.replace(DENSE, label_outage=hours)
    clicks = simulate(config, 3).clicks
    data = data_of(clicks, np.empty((clicks.height, 0)))
    found = labels.outages(data, {"least": 0.3})
    assert found.holds is False
    assert abs(found.figures["hours_without_purchases"] - hours) <= 1
    begin = (config.outage[0] - BEGIN) // HOUR
    assert any(data.when(begin + off) in found.sentence for off in (-1, 0, 1))


def test_a_quiet_day_and_a_flood_without_purchases_are_no_outage(week, clean):
    quiet = (pl.col("ts") - BEGIN) // DAY == 3
    half = week.filter(~quiet | (pl.int_range(pl.len()) % 5 < 2))  # two in five of the clicks, purchases and all
    assert labels.outages(data_of(half), {"least": 0.3}).holds
    assert labels.outages(data_of(flooded(week, BEGIN + 2 * DAY, np.random.default_rng(0))), {"least": 0.3}).holds


def test_a_front_end_with_a_wrong_clock_is_found():
    data = data_of(simulate(dataclasses.replace(TRAFFIC, clock_fault=True), 3).clicks)
    assert failures(data) == {"clocks"}  # and nothing else


def test_with_recorded_arrivals_a_clock_is_held_against_them(week):
    stamps = week.select("ts", t="ts")
    assert traffic.clocks(data_of(week, arrivals=arrived(stamps, BEGIN, END)), {"most": 0.01}).holds
    hour = (pl.col("t") - BEGIN) // HOUR == 50
    wrong = stamps.with_columns(ts=pl.when(hour & (pl.int_range(pl.len()) % 8 == 0)).then(5).otherwise("ts"))
    assert traffic.clocks(data_of(week, arrivals=arrived(wrong, BEGIN, END)), {"most": 0.01}).holds is False


def test_a_feature_that_stops_varying_or_is_missing_is_named(week, clean):
    at = NAMES.index("ip_clicks_1h")
    still = clean.X.copy()
    still[(clean.ts >= BEGIN + 3 * DAY) & (clean.ts < BEGIN + 4 * DAY), at] = 0.0
    finding = distributions.features(data_of(week, still), {"share": 0.5})
    assert finding.holds is False
    assert finding.sentence.startswith("ip_clicks_1h did not vary")
    lost = clean.X.copy()
    lost[7, at] = np.nan
    assert distributions.features(data_of(week, lost), {"share": 0.5}).sentence.startswith(
        "ip_clicks_1h are not finite"
    )
    assert traffic.schema(data_of(week, lost), {"without_ip": 0.01}).sentence.startswith("ip_clicks_1h runs from nan")
    gone = clean.X.copy()
    gone[:, at] = 0.0
    assert distributions.features(data_of(week, gone), {"share": 0.5}).holds  # as it always was, perhaps
    promised = promises_of(clean.X)
    assert distributions.features(data_of(week, gone, promised=promised), {"share": 0.5}).holds is False


def test_lookups_that_were_not_begun_are_no_fault_and_lost_ones_are(week, clean):
    at = [NAMES.index(name) for name in LOOKED_UP]

    def finding(since, until, columns):
        X = clean.X.copy()
        X[:, at] = np.random.default_rng(1).random((len(X), len(at)))
        X[np.ix_((clean.ts >= BEGIN + since * DAY) & (clean.ts < BEGIN + until * DAY), columns)] = 0.0
        return distributions.features(data_of(week, X), {"share": 0.5})

    assert finding(0, 7, at).holds  # there are none
    assert finding(0, 3, at).holds  # they were begun in the week
    assert finding(3, 4, at[-1:]).holds  # nobody came from a hosting network that day
    lost = finding(3, 4, at)
    assert lost.holds is False
    assert lost.sentence.startswith("account_rfm, user_daily")


def test_a_population_that_moved_has_a_large_stability_index(week, clean):
    promised = promises_of(clean.X)
    assert distributions.drift(data_of(week, clean.X, promised=promised), {"psi": 0.25}).figures["psi"] < 0.01
    moved = clean.X.copy()
    moved[:, NAMES.index("ip_clicks_1h")] **= 3
    finding = distributions.drift(data_of(week, moved, promised=promised), {"psi": 0.25})
    assert finding.holds is False
    assert finding.sentence.startswith("ip_clicks_1h")


def test_robots_that_flood_a_day_are_found_by_what_they_share(week):
    finding = traffic.attack(data_of(flooded(week, BEGIN + 2 * DAY, np.random.default_rng(0))), {"most": 0.1})
    assert finding.holds is False
    assert "US-00107" in finding.sentence


@pytest.mark.parametrize(("how", "check"), [("all", "agreement"), ("fast", "agreement"), ("other", "delay")])
def test_a_day_with_wrong_labels_is_found(week, clean, how, check):
    broken = data_of(relabelled(how)(week, BEGIN + 3 * DAY, np.random.default_rng(0)), clean.X)
    (asked,) = [each for each in DATA_CHECKS if each.name == check]
    assert asked.judge(clean, asked.limits).holds
    assert asked.judge(broken, asked.limits).holds is False


def test_labels_that_come_late_are_found_where_their_arrival_is_recorded(week):
    hours = np.full(200, 30.0)
    finding = labels.delay(data_of(week, label_hours=hours), {"hours": 24.0, "before": 0.01})
    assert finding.holds is False
    assert finding.figures["p95_hours"] == 30.0


def test_an_hour_of_the_week_in_which_nobody_is_known_is_found(week):
    dark = ((pl.col("ts") - BEGIN) // HOUR).is_between(60, 63)
    blank = [pl.when(dark).then(None).otherwise(name).alias(name) for name in ("purchase_ts", "rfm")]
    many = pl.concat([week.with_columns(*blank)] * 6)  # as dense as a week of 300,000
    finding = labels.density(data_of(many, np.zeros((many.height, WIDTH), np.float32)), {"least": 0.1})
    assert finding.holds is None or finding.holds  # copies are not counted
    many = many.with_columns(click_id=pl.int_range(pl.len()).cast(pl.String))
    finding = labels.density(data_of(many, np.zeros((many.height, WIDTH), np.float32)), {"least": 0.1})
    assert finding.holds is False
    assert finding.figures["sparse_hours"] == 4


def test_clicks_that_came_twice_a_silent_hour_and_a_slice_that_is_gone_are_found(week):
    twice = pl.concat([week, week.filter((pl.col("ts") - BEGIN) // DAY == 1)])
    assert traffic.duplicates(data_of(twice), {"most": 0.02}).holds is False
    renamed = pl.concat([week, week.with_columns(click_id=pl.col("click_id") + "-again")])
    assert traffic.duplicates(data_of(renamed), {"most": 0.02}).holds is False
    silent = week.filter((pl.col("ts") - BEGIN) // HOUR != 60)
    assert traffic.volume(data_of(silent), {"least": 0.2, "most": 5.0, "hour": 20.0}).holds is False
    gone = week.filter(~(((pl.col("ts") - BEGIN) // DAY == 3) & (pl.col("marketplace") == "US")))
    finding = traffic.volume(data_of(gone), {"least": 0.2, "most": 5.0, "hour": 20.0})
    assert finding.holds is False
    assert "US" in finding.sentence


def test_too_little_to_judge_by_is_said_and_not_guessed(week):
    few = data_of(week[:50])
    found = {outcome.name: outcome.outcome for outcome in run(DATA_CHECKS, few, Settings())}
    assert found["delay"] == found["agreement"] == "skipped"
    assert found["clocks"] == "skipped"


def test_limits_are_set_by_name_in_a_file_and_unknown_ones_are_refused(tmp_path, clean):
    path = tmp_path / "guardrails.toml"
    path.write_text("[delay]\nhours = 0.1\n[outages]\noff = true\n")
    settings = Settings.load(path, CHECKS)
    outcomes = {outcome.name: outcome for outcome in run(labels.CHECKS[:3], clean, settings)}
    assert outcomes["delay"].outcome == "failed"
    assert outcomes["delay"].limits["before"] == 0.01
    assert (outcomes["outages"].outcome, outcomes["outages"].sentence) == ("skipped", "switched off by the settings")
    for text, match in (
        ("[delays]\nhours = 1", "delays is no guardrail; they are density"),
        ("[delay]\nhour = 1", "delay has the settings off, hours, before"),
        ("[delay]\nhours = 'long'", r"delay\.hours is 'long'"),
    ):
        path.write_text(text)
        with pytest.raises(InvalidArgument, match=match):
            Settings.load(path, CHECKS)
    with pytest.raises(SourceError, match="cannot be read"):
        Settings.load(tmp_path / "nowhere.toml", CHECKS)
