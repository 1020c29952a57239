"""Features: what each is, and that a log in batches and its clicks one by one give the same bits."""

import subprocess
import sys
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import jax
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.clicks.clicks import Click, Mapping, read_clicks
from onlineguard.slidr.features import LOOKED_UP, NAMES, UNITS, WIDTH, Featuriser, assembled
from tests.support.click_frames import EXAMPLE, frame
from tests.support.slidr_oracle import Oracle
from tests.support.slidr_streams import HOUR, MINUTE, NOON, SECOND, streams


def clicks_of(keys, marketplaces):
    n = len(keys.ts)
    return frame(
        click_id=keys.click_ids,
        ts=keys.ts.tolist(),
        user_id=keys.users,
        session_id=keys.sessions,
        ip=keys.ips,
        marketplace=[marketplaces[i % len(marketplaces)] for i in range(n)],
        ad_id=keys.ads,
        logged_in=keys.signed_in,
    )


def one(featuriser, **changes):
    features = featuriser.transform_one(Click(**(frame().row(0, named=True) | changes)))
    return dict(zip(NAMES, features.tolist(), strict=True))


def log1p(number, unit=1):
    """log1p(number / unit) of the number's 12 leading bits."""
    low = max(number.bit_length() - 12, 0)
    return float(np.float32(np.log1p((number >> low << low) / unit)))


def seconds(ms):
    return log1p(ms, 1_000)


def test_there_is_a_name_and_a_unit_for_each_feature():
    assert len(NAMES) == len(set(NAMES)) == len(UNITS) == WIDTH == 59
    assert Featuriser().transform(frame()).shape == (1, WIDTH)
    assert Featuriser().transform(frame().clear()).shape == (0, WIDTH)


@given(streams(40), st.lists(st.sampled_from(["DE", "US", "IN", "elsewhere"]), min_size=1, max_size=3), st.data())
def test_a_log_in_frames_click_by_click_and_by_the_definition_gives_the_same_bits(keys, marketplaces, data):
    clicks = clicks_of(keys, marketplaces)
    whole = Featuriser().transform(clicks)
    featuriser, cut = Featuriser(), data.draw(st.integers(0, clicks.height))
    in_two = np.concatenate([featuriser.transform(clicks[:cut]), featuriser.transform(clicks[cut:])])
    assert in_two.tobytes() == whole.tobytes()
    featuriser = Featuriser()
    single = np.stack([featuriser.transform_one(Click(**row)) for row in clicks.iter_rows(named=True)])
    assert single.tobytes() == whole.tobytes()
    assert Featuriser(Oracle()).transform(clicks).tobytes() == whole.tobytes()


@given(st.lists(st.lists(st.integers(0, 2**31 - 1) | st.integers(0, 5_000), min_size=34, max_size=34), min_size=1))
def test_a_compiled_program_gives_the_same_bits(rows):
    counts = np.array(rows, np.int32)
    times = (np.arange(len(rows)) % 1_440, np.arange(len(rows)) % 7, np.arange(len(rows)) % 2)
    looked_up = np.linspace(0.0, 15.0, len(rows) * len(LOOKED_UP), dtype=np.float32).reshape(len(rows), -1)
    columns = (counts, *times, looked_up)
    compiled = [np.asarray(jax.jit(assembled)(*row)) for row in zip(*columns, strict=True)]
    assert np.stack(compiled).tobytes() == assembled(*columns).tobytes()


@given(streams())
def test_features_are_finite_and_velocity_ratios_lie_between_0_and_1(keys):
    features = Featuriser().transform(clicks_of(keys, ["DE"]))
    assert np.isfinite(features).all()
    circles = [name.startswith(("hour_", "weekday_")) for name in NAMES]
    assert (features[:, ~np.array(circles)] >= 0).all()
    ratios = features[:, [name.find("_ratio_") > 0 for name in NAMES]]
    assert ratios.shape[1] == 12
    assert (ratios <= 1).all()


def test_counters_are_on_a_log_scale_and_ratios_compare_neighbouring_windows():
    featuriser = Featuriser()
    one(featuriser, click_id="a", ts=NOON)
    one(featuriser, click_id="b", ts=NOON + 3 * MINUTE)
    third = one(featuriser, click_id="c", ts=NOON + 3 * MINUTE + 2 * SECOND, user_id="bert", logged_in=False)
    assert [third[f"ip_clicks_{w}"] for w in ("1m", "5m", "1h", "24h")] == [log1p(2), log1p(3), log1p(3), log1p(3)]
    assert third["ip_ratio_1m_5m"] == float(np.float32(2 / 3))
    assert third["ip_ratio_5m_1h"] == third["user_ratio_1m_5m"] == 1.0
    assert (third["ip_users_1h"], third["ip_sessions_24h"]) == (log1p(2), log1p(1))
    assert (third["ip_since"], third["user_since"]) == (seconds(2_000), seconds(86_400_000))
    assert third["logged_in"] == 0.0


def test_an_unknown_user_has_no_counters_and_a_first_click():
    featuriser = Featuriser()
    for id_ in ("a", "b"):
        features = one(featuriser, click_id=id_, user_id=None)
    assert [features[f"user_clicks_{w}"] for w in ("1m", "24h")] == [0.0, 0.0]
    assert features["user_ratio_1h_24h"] == features["ip_users_24h"] == 0.0
    assert (features["user_since"], features["ip_since"]) == (seconds(86_400_000), 0.0)


@pytest.mark.parametrize(
    ("marketplace", "zone"), [("US", "America/New_York"), ("IN", "Asia/Kolkata"), ("elsewhere", "UTC")]
)
@given(ts=st.integers(0, 4_000_000_000_000))
def test_hour_and_weekday_are_local_and_on_the_unit_circle(marketplace, zone, ts):
    local = datetime.fromtimestamp(ts // MINUTE * 60, UTC).astimezone(ZoneInfo(zone))
    features = one(Featuriser(), ts=ts, marketplace=marketplace)
    minute = (np.arctan2(features["hour_sin"], features["hour_cos"]) % (2 * np.pi)) / (2 * np.pi) * 1_440
    assert round(minute) % 1_440 == local.hour * 60 + local.minute
    weekday = (np.arctan2(features["weekday_sin"], features["weekday_cos"]) % (2 * np.pi)) / (2 * np.pi) * 7
    assert round(weekday) % 7 == local.weekday()


def test_bad_input_is_refused_before_anything_is_counted():
    featuriser = Featuriser()
    with pytest.raises(InvalidArgument, match="column ts, row 2 is null"):
        featuriser.transform(frame(click_id=["a", "b"], ts=[NOON, None]))
    with pytest.raises(InvalidArgument, match="clicks has no column ip"):
        featuriser.transform(frame().drop("ip"))
    with pytest.raises(InvalidArgument, match="ts is -1; it must be milliseconds"):
        one(featuriser, ts=-1)
    assert len(featuriser.store) == 0
    with pytest.raises(InvalidArgument, match=r"timezones\['MARS'\] is 'Mars/Olympus'; it must be a zone"):
        Featuriser(timezones={"MARS": "Mars/Olympus"})


def test_importing_the_clicks_loads_no_jax():
    code = "import sys, onlineguard.slidr.clicks.clicks; print('jax' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_the_talkingdata_log_has_the_features_that_its_rows_say(data_dir):
    """Counted anew from the log's own columns: the rows of the busiest ip, and of the last day at the end."""
    path = data_dir / "clicks" / "talkingdata" / "clicks-48h.csv.gz"
    clicks = read_clicks(path, Mapping.load(EXAMPLE))
    features = Featuriser().transform(clicks)
    (busiest, most), *_ = clicks["ip"].value_counts(sort=True).iter_rows()
    assert most == 447
    at = np.flatnonzero((clicks["ip"] == busiest).to_numpy())
    hours = (clicks["ts"].to_numpy() // HOUR)[at]
    expected = [int((hours[: i + 1] > hour - 24).sum()) for i, hour in enumerate(hours)]
    counted = features[at, NAMES.index("ip_clicks_24h")]
    np.testing.assert_array_equal(counted, np.log1p(np.array(expected, float)).astype(np.float32))
    np.testing.assert_array_equal(counted, features[at, NAMES.index("prefix_clicks_24h")])
    log = pl.read_csv(path).with_columns(hour=pl.col("click_time").str.slice(0, 13))
    users = log.filter(pl.col("ip") == int(busiest), pl.col("hour") > "2017-11-07 15").select("device", "os").n_unique()
    assert features[at[-1], NAMES.index("ip_users_24h")] == np.float32(np.log1p(users))
    assert hours[-1] == clicks["ts"].max() // HOUR
    assert (features[:, NAMES.index("session_clicks_24h")] == 0).all()
