"""Delayed decisions are published once each, in whatever way a run was cut off."""

import json

import polars as pl
import pytest
import redis as client

from onlineguard.errors import InvalidArgument, SourceError
from onlineguard.slidr.replay import publishing
from onlineguard.slidr.replay.bill import Bill, read_prices
from onlineguard.slidr.replay.publishing import File, Stream, publish
from tests.support.redis_server import serving


def frames(n=40, sources=("a", "b"), at_once=7):
    """Clicks of two journals, two an entry; every third is decided anew."""
    rows = [
        {
            "source": sources[i % len(sources)], "sequence": 2 + i // 4, "position": i // 2 % 2, "click_id": f"c{i}",
            "ts": i, "ad_id": f"ad{i % 2}", "purchase_ts": 1 if i % 5 == 0 else None, "slice": f"s{i % 3}",
            "score": None if i == 4 else 0.75, "threshold": 0.5, "robotic": True, "model": "new", "was_score": 0.25,
            "was_threshold": 0.5, "was_robotic": i % 3 > 0, "was_model": "old",
        }
        for i in range(n)
    ]  # fmt: skip
    whole = pl.DataFrame(rows, schema_overrides={"purchase_ts": pl.Int64()})
    return [whole[start : start + at_once] for start in range(0, n, at_once)]


@pytest.mark.parametrize("changed", [False, True])
def test_a_file_that_a_kill_cut_off_anywhere_is_completed(tmp_path, changed, monkeypatch):
    monkeypatch.setattr(publishing, "AT_ONCE", 5)
    path = tmp_path / "delayed.ndjson"
    assert list(publish(frames(), File(path, "new"), changed))[-1] == 40
    whole = path.read_bytes()
    decisions = [json.loads(line) for line in whole.splitlines()]
    assert len(decisions) == (14 if changed else 40)
    assert decisions[0] == {
        "id": "a-2-0-new", "click_id": "c0", "decision": "robotic", "p_robot": 0.75, "threshold": 0.5, "slice": "s0",
        "model_version": "new",
        "replaces": {"model_version": "old", "decision": "valid", "p_robot": 0.25, "threshold": 0.5},
    }  # fmt: skip
    for end in range(0, len(whole), 97):
        path.write_bytes(whole[:end])
        list(publish(frames(), File(path, "new"), changed))
        assert path.read_bytes() == whole


def test_a_file_of_something_else_is_left_alone(tmp_path):
    path = tmp_path / "delayed.ndjson"
    list(publish(frames(), File(path, "new")))
    for version, text, message in (("other", path.read_text(), "model new, not other"), ("new", "x\n", "no decision")):
        path.write_text(text)
        with pytest.raises(SourceError, match=message):
            list(publish(frames(), File(path, version)))
        assert path.read_text() == text
    with pytest.raises(InvalidArgument, match=r"must end in \.ndjson"):
        File(tmp_path / "delayed.csv", "new")


def test_a_stream_gets_every_decision_once_although_runs_end_early(tmp_path, monkeypatch):
    monkeypatch.setattr(publishing, "AT_ONCE", 3)
    with serving(tmp_path) as port:
        url = f"redis://127.0.0.1:{port}/0"
        for steps in (1, 0, 4, 2, 100):
            for done in publish(frames(), Stream(url, "delayed", "run")):
                if done >= 3 * steps:
                    break
        list(publish(frames(), Stream(url, "delayed", "run")))
        entries = client.Redis.from_url(url).xrange("delayed")
        ids = [json.loads(fields[b"decision"])["click_id"] for _, fields in entries]
        list(publish(frames(), Stream(url, "delayed", "another")))
        assert client.Redis.from_url(url).xlen("delayed") == 80
    assert ids == [f"c{i}" for i in range(40)]
    with pytest.raises(SourceError, match="does not take decisions"):
        list(publish(frames(), Stream(url, "delayed", "run")))


def test_the_bill_adds_up_by_slice_ad_and_advertiser(tmp_path):
    (tmp_path / "ads.csv").write_text("ad_id,advertiser,price\nad0,anna,2.0\nad1,,1.0\n")
    bill = Bill(read_prices(tmp_path / "ads.csv"))
    assert sum(frame.height for frame in bill.counting(frames())) == 40
    total = bill.by().row(0, named=True)
    assert total == {
        "clicks": 40, "was_robotic": 26, "robotic": 40, "now_robotic": 14, "now_valid": 0, "purchases_freed": 0,
        "was_billed": 7 * 2.0 + 7 * 1.0, "billed": 0.0, "refund": 7 * 2.0 + 7 * 1.0, "charge": 0.0,
    }  # fmt: skip
    for by, n in (("slice", 3), ("ad_id", 2), ("advertiser", 2)):
        table = bill.by(by)
        assert table.height == n
        assert table.drop(by).sum().row(0, named=True) == pytest.approx(total)
    assert dict(bill.by("advertiser").select("advertiser", "refund").iter_rows()) == {"anna": 14.0, "unknown": 7.0}


def test_what_is_no_table_of_prices_is_refused(tmp_path):
    for text, message in (("ad,price\n1,2\n", "must have ad_id"), ("ad_id,price\n1,2\n1,3\n", "more than once")):
        (tmp_path / "ads.csv").write_text(text)
        with pytest.raises(SourceError, match=message):
            read_prices(tmp_path / "ads.csv")
