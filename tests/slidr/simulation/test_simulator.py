"""Simulated traffic: its files, its laws, and that people and robots do what is said of them."""

import ipaddress
from dataclasses import replace
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from onlineguard.errors import InvalidArgument
from onlineguard.slidr import features
from onlineguard.slidr.simulation import wide, world
from onlineguard.slidr.simulation.simulator import CLICKS, FILES, ORDERS, TRUTH, simulate, write_traffic
from onlineguard.slidr.simulation.tally import KINDS, USUAL_KINDS
from onlineguard.slidr.simulation.traffic import Traffic
from onlineguard.slidr.simulation.world import DAY, HISTORY, HOUR, MARKETPLACES, MINUTE, TIMEZONES, Rhythm

CONFIG = Traffic(clicks=120_000, days=14)


@pytest.fixture(scope="module")
def traffic():
    return simulate(CONFIG, seed=3)


@pytest.fixture(scope="module")
def clicks(traffic) -> pl.DataFrame:
    """Each click once, with its kind, its day (0 is the first) and its week."""
    return (
        traffic.clicks.with_columns(order=pl.int_range(pl.len()))
        .unique("click_id", keep="first", maintain_order=True)
        .join(traffic.truth, on="click_id", maintain_order="left", validate="1:1")
        .with_columns(day=(pl.col("ts") - CONFIG.begin) // DAY)
        .with_columns(week=pl.col("day") // 7)
    )


@pytest.fixture(scope="module")
def many_clicks() -> pl.DataFrame:
    """For what is rare: bursts and offices."""
    config = Traffic(clicks=800_000, days=14)
    traffic = simulate(config, seed=4)
    clicks = traffic.clicks.join(traffic.truth, on="click_id").with_columns(day=(pl.col("ts") - config.begin) // DAY)
    return clicks.with_columns(week=pl.col("day") // 7)


def of(clicks: pl.DataFrame, kind: str) -> pl.DataFrame:
    return clicks.filter(pl.col("kind") == kind)


def pauses(clicks: pl.DataFrame) -> pl.DataFrame:
    """Milliseconds since the click before of the same session; none for a session's first."""
    known = clicks.filter(pl.col("session_id").is_not_null()).sort("session_id", "ts")
    pause = pl.col("ts").diff().over("session_id").alias("pause")
    return known.with_columns(pause).filter(pl.col("pause").is_not_null())


def test_the_frames_have_the_columns_and_types_that_are_promised(traffic):
    for frame, schema in zip(traffic, (CLICKS, TRUTH, ORDERS), strict=True):
        assert dict(frame.schema) == schema
    filled = {"click_id", "ts", "ip", "user_agent", "device", "marketplace", "ad_id", "logged_in"}
    counts = traffic.clicks.null_count().row(0, named=True)
    assert {name for name, nulls in counts.items() if nulls == 0} == filled
    assert traffic.truth.null_count().row(0) == (0, 0, 0)
    assert traffic.orders.null_count().row(0) == (0, 0, 0)


def test_the_same_seed_makes_the_same_traffic_and_another_seed_other(traffic):
    small = Traffic(clicks=5_000, days=2)
    for frame, again in zip(simulate(small, 1), simulate(small, 1), strict=True):
        assert_frame_equal(frame, again)
    assert not simulate(small, 1).clicks["ts"].equals(simulate(small, 2).clicks["ts"])


def test_the_files_hold_what_the_frames_hold(traffic, tmp_path):
    seen = []
    tally = write_traffic(tmp_path / "new" / "folder", CONFIG, 3, seen.append)
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(FILES)
    for name, frame in zip(FILES, traffic, strict=True):
        assert_frame_equal(pl.read_parquet(tmp_path / "new" / "folder" / name), frame)
    assert seen == sorted(seen)
    assert seen[-1] == len(traffic.clicks) == tally.clicks + tally.duplicates
    assert tally.orders == len(traffic.orders)


def test_the_tally_counts_every_click_once(traffic, clicks, tmp_path):
    tally = write_traffic(tmp_path, CONFIG, 3)
    assert tally.kinds == {kind: len(of(clicks, kind)) for kind in USUAL_KINDS}
    assert tally.purchases.sum() == clicks["purchase_ts"].count()
    slices = clicks.group_by("device", "marketplace", "logged_in", "kind").len()
    for device, marketplace, logged_in, kind, count in slices.rows():
        place = (
            world.DEVICES.index(device),
            world.MARKETPLACES.index(marketplace),
            int(logged_in),
            USUAL_KINDS.index(kind),
        )
        assert tally.slices[place] == count
    assert tally.slices.sum() == len(clicks)


def test_clicks_come_in_order_but_for_a_few_that_are_minutes_late(traffic):
    ts = traffic.clicks["ts"].to_numpy()
    behind = np.maximum.accumulate(ts) - ts
    assert behind.max() < 15 * MINUTE + MINUTE
    assert 0.003 < (behind > 10_000).mean() < 0.008
    assert ts.min() >= CONFIG.begin
    assert ts.max() < CONFIG.end


def test_a_few_clicks_arrive_twice_and_the_truth_knows_each_once(traffic):
    counts = traffic.clicks["click_id"].value_counts()
    twice = counts.filter(pl.col("count") == 2)["click_id"]
    assert 0.0003 < len(twice) / len(counts) < 0.002
    assert counts["count"].max() == 2
    again = traffic.clicks.filter(pl.col("click_id").is_in(twice.implode())).drop("rfm")  # midnight may lie between
    assert again.unique().height == len(twice)
    assert set(traffic.truth["click_id"]) == set(counts["click_id"])
    assert traffic.truth["click_id"].is_unique().all()
    assert (traffic.truth["robot"] == (traffic.truth["kind"] != "person")).all()


def test_there_are_about_as_many_clicks_and_robots_as_were_asked_for(clicks):
    assert len(clicks) == pytest.approx(CONFIG.clicks, rel=0.05)
    assert clicks["robot"].mean() == pytest.approx(CONFIG.robots, abs=0.03)
    nobody = simulate(Traffic(clicks=4_000, days=2, robots=0.0), 0)
    assert not nobody.truth["robot"].any()
    many = simulate(Traffic(clicks=40_000, days=2, robots=0.9), 0)
    assert many.truth["robot"].mean() == pytest.approx(0.9, abs=0.05)


def test_ids_do_not_tell_when_a_click_was_made_or_who_made_it(clicks):
    number = clicks["click_id"].cast(pl.Int64).to_numpy()
    assert abs(np.corrcoef(number, clicks["ts"].to_numpy())[0, 1]) < 0.02
    assert abs(np.corrcoef(number, clicks["robot"].to_numpy())[0, 1]) < 0.02
    user = clicks.filter(pl.col("user_id").is_not_null())
    assert abs(np.corrcoef(user["user_id"].cast(pl.Int64).to_numpy(), user["robot"].to_numpy())[0, 1]) < 0.1


@given(st.sets(st.integers(0, (1 << 36) - 1), min_size=2), st.integers(0, (1 << 36) - 1))
def test_distinct_numbers_become_distinct_ids(numbers, key):
    text = world.identifiers(np.array([*numbers, world.UNKNOWN]), key)
    assert text[-1] is None
    assert text[:-1].n_unique() == len(numbers)


def test_every_address_is_ipv4_and_of_a_range_that_nobody_owns(clicks):
    for ip in clicks["ip"].unique():
        address = ipaddress.IPv4Address(ip)
        assert any(
            address in ipaddress.ip_network(network)
            for network in ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "198.18.0.0/15")
        )


# People


def test_people_keep_the_hours_of_their_own_marketplace(clicks):
    for marketplace, zone in TIMEZONES.items():
        mine = of(clicks, "person").filter(pl.col("marketplace") == marketplace)
        hour = pl.from_epoch(mine["ts"], time_unit="ms").dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
        counts = np.bincount(hour.dt.hour().to_numpy(), minlength=24)
        assert counts[[2, 3, 4]].mean() < 0.25 * counts[[19, 20, 21]].mean()


def test_people_live_by_the_zones_that_features_count_local_hours_by():
    assert {name: features.TIMEZONES.get(name) for name in MARKETPLACES} == TIMEZONES
    assert None not in TIMEZONES.values()
    noon = datetime(2026, 7, 1, 12, tzinfo=UTC)
    rhythm = Rhythm(noon.date(), np.random.default_rng(0))
    for number, name in enumerate(MARKETPLACES):
        local = noon.astimezone(ZoneInfo(features.TIMEZONES[name]))
        assert rhythm._local[number][48] == 24 * local.weekday() + local.hour


def test_desktops_rest_at_the_weekend_and_phones_do_not(clicks):
    german = of(clicks, "person").filter(pl.col("marketplace") == "DE")
    weekend = german.with_columns(free=pl.from_epoch("ts", time_unit="ms").dt.weekday() >= 6)
    by_device = dict(weekend.group_by("device").agg(pl.col("free").mean()).rows())
    assert by_device["desktop"] < 0.22 < 2 / 7 < by_device["mobile"]


def test_people_share_homes_carriers_and_gateways(many_clicks):
    people = of(many_clicks, "person").filter(pl.col("user_id").is_not_null(), pl.col("week") == 0)
    users = (
        people.group_by("ip", "day")
        .agg(pl.col("user_id").n_unique())
        .with_columns(kind=pl.col("ip").str.extract(r"^(\d+)\."))
    )
    mean = dict(users.group_by("kind").agg(pl.col("user_id").mean()).rows())
    largest = dict(users.group_by("kind").agg(pl.col("user_id").max()).rows())
    assert 1.0 < mean["10"] < 1.5
    assert mean["100"] > 5
    assert largest["172"] > 10


def test_purchases_follow_the_click_and_only_stolen_accounts_among_robots_make_any(clicks):
    bought = clicks.filter(pl.col("purchase_ts").is_not_null())
    delay = (bought["purchase_ts"] - bought["ts"]).to_numpy()
    assert delay.min() >= 5_000
    assert delay.max() <= DAY
    assert 10 * MINUTE < np.median(delay) < 40 * MINUTE
    assert set(bought["kind"]) <= {"person", "takeover"}


def bought(frame: pl.DataFrame, *by: str) -> dict[object, tuple[int, float]]:
    """Clicks of people, and the share of them that led to a purchase, by the values of a column."""
    counts = frame.group_by(*by).agg(pl.len(), pl.col("purchase_ts").count() / pl.len()).rows()
    return {key: (n, share) for key, n, share in counts}


@pytest.mark.parametrize("by", ["logged_in", "device", "marketplace", "week", "valued"])
def test_purchases_are_equally_likely_for_all_clicks_of_people(many_clicks, by):
    people = of(many_clicks, "person").with_columns(valued=(pl.col("rfm") >= 12).fill_null(False))
    everyone = people["purchase_ts"].count() / len(people)
    for n, share in bought(people, by).values():
        assert share == pytest.approx(everyone, abs=4.5 * np.sqrt(everyone / n))


def test_biased_purchases_are_likelier_signed_in_and_with_a_high_score():
    config = Traffic(clicks=200_000, days=14, biased_purchases=True)
    traffic = simulate(config, seed=3)
    people = of(traffic.clicks.join(traffic.truth, on="click_id"), "person")
    signed = bought(people, "logged_in")
    assert 0.01 < signed[False][1] < signed[True][1] < 0.05
    valued = bought(people.filter("logged_in").with_columns(high=(pl.col("rfm") >= 12).fill_null(False)), "high")
    assert valued[True][1] > valued[False][1]


def test_a_purchase_of_a_signed_in_account_is_an_order_of_that_time(traffic, clicks):
    bought = clicks.filter(pl.col("purchase_ts").is_not_null(), "logged_in", pl.col("kind") == "person")
    orders = traffic.orders.select("user_id", purchase_ts="ts")
    assert len(bought) > 500
    assert len(bought.join(orders, on=["user_id", "purchase_ts"], how="semi")) == len(bought)


def scores_by_counting(orders: pl.DataFrame, at: int) -> dict[str, float]:
    """RFM scores from the definition, account by account."""
    known: dict[str, list[tuple[int, float]]] = {}
    for user, ts, amount in orders.rows():
        if at - HISTORY <= ts < at:
            known.setdefault(user, []).append((ts, amount))
    values = np.array([(max(o)[0], len(o), sum(amount for _, amount in o)) for o in known.values()])
    total = np.zeros(len(values))
    for column in values.T:
        smaller = np.array([(column < value).sum() for value in column])
        total += 1 + 5 * smaller // len(column)
    return dict(zip(known, total.tolist(), strict=True))


def test_the_rfm_of_a_click_is_what_the_orders_gave_at_the_midnight_before(traffic, clicks):
    for day in (0, 5, 13):
        expected = scores_by_counting(traffic.orders, CONFIG.begin + day * DAY)
        today = clicks.filter(pl.col("day") == day)
        assert [expected.get(user) for user in today["user_id"]] == today["rfm"].to_list()
        assert today["rfm"].count() > 1_000
    assert (clicks["rfm"].min(), clicks["rfm"].max()) == (3.0, 15.0)


def test_the_rfm_of_a_click_is_what_the_labels_compute(traffic, clicks):
    labels = pytest.importorskip("onlineguard.slidr.learning.labels")
    for day in range(CONFIG.days):
        scores = labels.rfm_scores(traffic.orders, CONFIG.begin + day * DAY).select("user_id", expected="rfm")
        today = clicks.filter(pl.col("day") == day).join(scores, on="user_id", how="left", maintain_order="left")
        assert today["rfm"].equals(today["expected"])


# Robots


def test_robots_change_their_ways_by_week(clicks, many_clicks):
    burst = pauses(of(many_clicks, "burst")).group_by("week").agg(pl.col("pause").median()).sort("week")
    assert burst["pause"][1] > 1.3 * burst["pause"][0]
    assert set(of(clicks, "farm")["day"]) == set(range(7, 14))
    imitator = (
        of(clicks, "imitator").group_by("day", "user_id").agg(pl.col("session_id").n_unique(), pl.col("week").min())
    )
    visits = imitator.group_by("week").agg(pl.col("session_id").mean()).sort("week")["session_id"]
    assert visits[0] > visits[1] > 5
    prefix = pl.col("ip").str.extract(r"^(.*)\.\d+$")
    rented = dict(of(clicks, "datacentre").group_by("week").agg(prefix.unique()).rows())
    assert not set(rented[0]) & set(rented[1])


def test_a_burst_is_hundreds_of_clicks_of_one_address_within_minutes(clicks):
    longest = of(clicks, "burst").group_by("ip").agg(pl.len(), span=pl.col("ts").max() - pl.col("ts").min())
    assert longest["len"].median() > 40
    assert longest["span"].median() < 20 * MINUTE


def test_slow_robots_click_day_and_night_from_many_homes(clicks):
    slow = of(clicks, "slow")
    counts = np.bincount((slow["ts"].to_numpy() // HOUR) % 24, minlength=24)
    assert counts.min() > 0.6 * counts.max()
    assert slow.group_by("ip", "day").len()["len"].mean() < 4
    homes = set(of(clicks, "person").filter(pl.col("ip").str.starts_with("10."))["ip"])
    assert len(homes & set(slow["ip"])) > 0.3 * slow["ip"].n_unique()


def test_imitators_keep_peoples_hours_and_pauses_but_come_more_often(clicks):
    imitator, person = of(clicks, "imitator"), of(clicks, "person")
    theirs, ours = (np.bincount((c["ts"].to_numpy() // HOUR) % 24, minlength=24) for c in (imitator, person))
    assert np.corrcoef(theirs, ours)[0, 1] > 0.8
    spread = [np.log(pauses(c)["pause"].clip(1).to_numpy()).std() for c in (imitator, person)]
    assert spread[0] < 0.9 * spread[1]
    daily = [c.drop_nulls("user_id").group_by("user_id", "day").len()["len"].mean() for c in (imitator, person)]
    assert daily[0] > 3 * daily[1]


def test_the_attack_is_on_one_campaign_and_for_two_days(clicks):
    attack = of(clicks, "attack")
    assert set(attack["day"]) <= set(CONFIG.attack) | {max(CONFIG.attack) + 1}  # visits end after midnight
    assert attack["ad_id"].n_unique() == world.CAMPAIGN_ADS
    on_it = clicks.filter(pl.col("ad_id").is_in(attack["ad_id"].unique().implode()))
    share = dict(on_it.group_by(pl.col("day").is_in(list(CONFIG.attack))).agg(pl.col("robot").mean()).rows())
    assert share[True] > 2 * share[False]


def test_the_mix_of_robots_differs_by_slice(clicks):
    share = clicks.group_by("device", "marketplace", "logged_in").agg(pl.col("robot").mean(), pl.len())
    share = share.filter(pl.col("len") > 1_000)
    assert share["robot"].min() < 0.07
    assert share["robot"].max() > 0.3
    assert clicks.group_by("device", "marketplace", "logged_in").len().height == 30


# The wide world


@pytest.fixture(scope="module")
def wide_clicks() -> pl.DataFrame:
    config = Traffic(clicks=120_000, days=21, world="wide")
    traffic = simulate(config, seed=5)
    clicks = traffic.clicks.unique("click_id", keep="first", maintain_order=True)
    clicks = clicks.join(traffic.truth, on="click_id", maintain_order="left", validate="1:1")
    return clicks.with_columns(day=(pl.col("ts") - config.begin) // DAY)


def test_the_wide_world_has_every_kind_and_says_which_are_people(wide_clicks):
    robot = dict(wide_clicks.group_by("kind").agg(pl.col("robot").all()).rows())
    assert set(robot) == set(KINDS)
    assert {kind for kind, is_robot in robot.items() if not is_robot} == {"person", *wide.PEOPLE}
    assert wide_clicks["robot"].mean() == pytest.approx(0.2, abs=0.03)
    groups = of(wide_clicks, "person").height / wide_clicks.filter(~pl.col("robot")).height
    assert groups == pytest.approx(1 - wide.PEOPLE_SHARE, abs=0.03)


def test_some_robots_of_the_wide_world_come_in_the_last_week_only(wide_clicks):
    first = dict(wide_clicks.group_by("kind").agg(pl.col("day").min()).rows())
    assert {kind for kind in wide.ROBOTS if first[kind] >= 14} == set(wide.LAST_WEEK)


def test_most_visitors_of_the_wide_world_are_unknown_and_some_robots_buy(wide_clicks):
    assert wide_clicks["user_id"].is_null().mean() == pytest.approx(0.6, abs=0.05)
    assert not wide_clicks.filter(pl.col("user_id").is_null() & pl.col("rfm").is_not_null()).height
    bought = dict(wide_clicks.group_by("kind").agg(pl.col("purchase_ts").count() / pl.len()).rows())
    assert max(bought[kind] for kind in wide.PEOPLE) < bought["person"] / 4
    assert 0 < bought["flooding"] < bought["person"] / 2
    everyone = simulate(Traffic(clicks=5_000, days=2, world="wide", anonymous=1.0), 0).clicks
    assert everyone["user_id"].is_null().all()


def test_wide_robots_do_what_is_said_of_them(wide_clicks):
    even = {
        kind: np.log(pauses(of(wide_clicks, kind))["pause"].clip(1).to_numpy()).std()
        for kind in ("polling", "resetting", "replayed")
    }
    assert even["polling"] < 0.1 < even["resetting"] < 0.5 < even["replayed"]
    homes = of(wide_clicks, "proxied").drop_nulls("user_id").group_by("user_id").agg(pl.col("ip").n_unique(), pl.len())
    assert homes["ip"].mean() > 0.9 * homes["len"].mean() > 3
    resetting = of(wide_clicks, "resetting").drop_nulls("user_id")
    assert resetting.group_by("user_id").agg(pl.col("session_id").n_unique())["session_id"].max() == 1
    owners = set(of(wide_clicks, "person")["user_id"].drop_nulls())
    flooding = of(wide_clicks, "flooding")["user_id"].drop_nulls()
    assert flooding.is_in(list(owners)).mean() > 0.5


# On request


def test_a_holiday_adds_clicks_of_people_on_its_three_days_only(clicks):
    config = replace(CONFIG, holiday=True)
    peak = simulate(config, 3)
    day = (peak.clicks["ts"] - CONFIG.begin) // DAY
    ratio = np.bincount(day) / np.bincount(clicks["day"])
    assert config.peak == 9
    assert ratio[9] > 1.8
    usual = np.delete(ratio, [8, 9, 10])
    assert np.abs(usual - 1).max() < 0.1


def test_a_label_outage_takes_the_purchases_of_its_hours_and_nothing_else(traffic):
    config = replace(CONFIG, label_outage=6.0)
    faulty = simulate(config, 3)
    first, last = config.outage
    assert last - first == 6 * HOUR
    lost = traffic.clicks["purchase_ts"].is_between(first, last, closed="left").fill_null(False)
    assert lost.sum() > 10
    expected = traffic.clicks.with_columns(
        pl.when(pl.lit(lost)).then(None).otherwise(pl.col("purchase_ts")).alias("purchase_ts")
    )
    assert_frame_equal(faulty.clicks, expected)
    assert_frame_equal(faulty.orders, traffic.orders)


def test_a_clock_fault_moves_the_clicks_of_one_front_end_and_nothing_else(traffic):
    config = replace(CONFIG, clock_fault=True)
    faulty = simulate(config, 3).clicks
    first, last = config.fault
    shift = (faulty["ts"] - traffic.clicks["ts"]).to_numpy()
    truly = traffic.clicks["ts"].to_numpy()
    wrong = shift != 0
    within = (truly >= first) & (truly < last)
    assert not wrong[~within].any()
    assert 0.06 < wrong[within].mean() < 0.2
    assert set(shift[wrong & (truly >= first + HOUR)]) == {7 * DAY}
    assert (faulty["ts"].to_numpy()[wrong & (truly < first + HOUR)] < HOUR).all()
    assert_frame_equal(faulty.drop("ts", "purchase_ts"), traffic.clicks.drop("ts", "purchase_ts"))
    bought = faulty.filter(pl.col("purchase_ts").is_not_null())
    assert (bought["purchase_ts"] > bought["ts"]).all()


# Wrong use


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"world": "flat"}, "world is 'flat'; it must be one of usual, wide"),
        ({"anonymous": 1.5}, "anonymous is 1.5"),
        ({"days": 0}, "days is 0"),
        ({"days": 400}, "days is 400"),
        ({"clicks": 100}, "clicks is 100; it must be 4,200"),
        ({"robots": 1.0}, "robots is 1.0"),
        ({"robots": float("nan")}, "robots is nan"),
        ({"label_outage": -1.0}, "label_outage is -1.0"),
        ({"label_outage": 1e9}, "label_outage is"),
        ({"start": date(1960, 1, 1)}, "start is 1960-01-01"),
    ],
)
def test_traffic_that_cannot_be_is_refused_with_the_way_out(wrong, words):
    with pytest.raises(InvalidArgument, match=words):
        Traffic(**wrong)


def test_a_negative_seed_is_refused():
    with pytest.raises(InvalidArgument, match="seed is -1"):
        simulate(Traffic(clicks=1_000, days=1), -1)


@pytest.mark.parametrize("start", [date(2026, 3, 28), date(2024, 2, 29), date(2026, 12, 31)])
def test_clocks_that_change_and_short_runs_are_no_trouble(start):
    traffic = simulate(Traffic(clicks=1_000, days=2, start=start, holiday=True, label_outage=48, clock_fault=True), 0)
    assert len(traffic.clicks) > 500
    assert (
        traffic.clicks["purchase_ts"].max() is None or traffic.clicks["purchase_ts"].max() >= traffic.clicks["ts"].min()
    )


# Files


def test_files_of_an_earlier_run_stay_until_the_new_ones_are_whole(tmp_path, monkeypatch):
    write_traffic(tmp_path, Traffic(clicks=1_000, days=1), 0)
    before = (tmp_path / "clicks.parquet").read_bytes()

    def fail(clicks: int) -> None:
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_traffic(tmp_path, Traffic(clicks=1_000, days=1), 1, fail)
    assert (tmp_path / "clicks.parquet").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
