"""The command line and what people have: wide tables, bad fields, files that grow, options in a file, a look before."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import onlineguard
from onlineguard.cli import runner
from onlineguard.cli.alarms import AlarmNumbers
from onlineguard.cli.app import app
from onlineguard.cli.exits import clean
from onlineguard.errors import InvalidArgument
from onlineguard.report.quality import GAP
from onlineguard.sources import Source
from onlineguard.sources.kinds import number_kind

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(onlineguard.__file__).parents[1])}


def invoke(*arguments, **options):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)


@pytest.fixture
def odd_csv(tmp_path) -> Path:
    """Decimal commas, a column that counts rows, a text that comes again, and a bad field in every tenth row."""
    rng = np.random.default_rng(0)
    x = rng.normal(50.0, 1.0, (600, 2)).round(3)
    x[500] *= 3
    lines = ["id;wann;host;load_1;load_5;remark"]
    for i, (a, b) in enumerate(x.tolist()):
        first = "broken" if i % 10 == 3 else str(a).replace(".", ",")
        when = f"{1 + i // 24:02}.01.2024 {i % 24:02}:00" if i < 700 else ""
        lines.append(f"{i};{when};host {i % 3};{first};{str(b).replace('.', ',')};ok {i}".replace("32.01", "01.02"))
    (tmp_path / "odd.csv").write_text("\n".join(lines[:601]), encoding="utf-8")
    return tmp_path / "odd.csv"


def test_800_columns_need_no_list(tmp_path):
    values = np.random.default_rng(0).normal(size=(30, 800))
    frame = pl.DataFrame(values, schema=[f"sensor_{j}" for j in range(800)])
    frame = frame.with_columns(host=pl.Series(["a", "b"] * 15)).with_row_index("id")
    frame.write_csv(tmp_path / "wide.csv")
    read = Source(tmp_path / "wide.csv", [], None)
    (batch,) = read
    assert read.feature_columns == [f"sensor_{j}" for j in range(800)]
    np.testing.assert_array_equal(batch.X, values.astype(np.float32))
    assert read.proposed_slice == ("host", 2)
    some = Source(tmp_path / "wide.csv", ["host"], ["sensor_79*", "sensor_[12]", "id"])
    assert [len(batch.X[0]) for batch in some] == [14]
    assert some.feature_columns == ["sensor_79", *(f"sensor_79{i}" for i in range(10)), "sensor_1", "sensor_2", "id"]


def test_a_run_says_how_the_file_is_read_and_what_could_be_chosen(odd_csv, tmp_path):
    result = invoke(
        "run", odd_csv, "--keep", "id,load_*,host", "--alarms", "--drivers", "--out", tmp_path / "v.parquet"
    )
    assert result.exit_code == 0, result.output
    lines = result.stderr.splitlines()
    assert lines[0] == f"{odd_csv}: utf-8, semicolons between fields, header, decimal comma"
    assert lines[1] == "features: load_1, load_5 (--feature names others)"
    assert lines[2] == "all events are one slice; --slice host would tell 3 apart"
    assert "60 fields could not be read and count as missing: load_1 60" in lines
    assert [line for line in lines if line.startswith("  line ")] == [
        f"  line {line}: feature 'load_1' is 'broken', not a number" for line in (5, 15, 25)
    ]
    assert any("--na" in line for line in lines)
    verdicts = pl.read_parquet(tmp_path / "v.parquet")
    assert len(verdicts) == 600
    assert verdicts.columns[-7:] == ["alarm", "driver", "driver_share", "id", "load_1", "load_5", "host"]
    assert verdicts.schema["p_value"] == pl.Float32
    assert verdicts["load_1"].null_count() == 60
    assert verdicts["id"].to_list() == [str(i) for i in range(600)]
    odd = verdicts.row(500, named=True)
    assert (odd["anomalous"], odd["driver"] in ("load_1", "load_5")) == (True, True)
    assert odd["alarm"] >= 1
    usual = verdicts.filter(~pl.col("anomalous"))
    assert usual["alarm"].null_count() == usual["driver"].null_count() == len(usual)


def test_inspect_shows_what_would_be_read_and_a_command_that_works(odd_csv, monkeypatch):
    monkeypatch.chdir(odd_csv.parent)
    result = invoke("inspect", "odd.csv")
    assert result.exit_code == 0, result.output
    for words in ("semicolons between fields", "decimal comma", "counts rows", "time", "broken", "01.01.2024 00:00"):
        assert words in result.stdout
    command = result.stdout.splitlines()[-1]
    assert command == ("onlineguard run odd.csv --slice host --feature load_1,load_5 --time wann --report report.html")
    given_ = invoke("inspect", "odd.csv", "--delimiter", ";", "--no-header").stdout.splitlines()[-1]
    assert "--delimiter ';' --no-header" in given_
    assert "--feature column_4" in given_ or "column_5" in given_
    assert not list(odd_csv.parent.glob("*.rejects.ndjson"))


def test_the_options_of_a_run_may_stand_in_a_file(odd_csv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text(
        '[run]\nsource = "odd.csv"\nfeature = ["load_1", "load_5"]\nslice = "host"\nrate = 0.02\nout = "file.csv"\n'
        'na = "broken"\nalarms = true\ntime-format = "%d.%m.%Y %H:%M"\n'
    )
    result = invoke("run", "--config", "run.toml", "--rate", "0.05", "--state", "state")
    assert result.exit_code == 0, result.output
    assert "could not be read" not in result.stderr
    assert "alarm" in pl.read_csv("file.csv").columns
    engine = onlineguard.Engine.load("state")
    assert (engine.features, engine.target_rate) == (["load_1", "load_5"], 0.05)  # the command line comes first
    for text, words in [
        ("[run]\nslices = 'host'\n", "'slices' is no option of a run; did you mean 'slice'?"),
        ("[serve]\nport = 1\n", "has no table [run]"),
        ("[run\n", "cannot be read"),
        ('[run]\nsource = "odd.csv"\nrate = 0.5\n', "--rate is 0.5"),
    ]:
        Path("run.toml").write_text(text)
        result = invoke("run", "--config", "run.toml")
        assert result.exit_code == 2
        assert words in result.stderr


def test_a_pause_is_that_of_the_series_and_of_no_other(odd_csv):
    assert runner.open_engine(["x"], "series", pause=5).params.pause == 5.0
    for options, said in [
        ({"detector": "point", "pause": 5}, "has none"),
        ({"detector": "series", "pause": -1}, "at least 0"),
    ]:
        with pytest.raises(InvalidArgument, match=said):
            runner.open_engine(["x"], **options)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 600), max_size=4), st.sampled_from([0.02, 0.2, 0.9]))
def test_alarms_are_numbered_as_a_plain_loop_numbers_them_wherever_the_stream_is_cut(seed, cuts, share):
    rng = np.random.default_rng(seed)
    slices, anomalous = rng.integers(0, 3, 600), rng.random(600) < share
    expected, seen, last, n_alarms = [], {}, {}, 0
    for slice_, odd in zip(slices.tolist(), anomalous.tolist(), strict=True):
        seen[slice_] = seen.get(slice_, 0) + 1
        if odd:
            before, number = last.get(slice_, (-GAP - 2, 0))
            if seen[slice_] - before > GAP + 1:
                n_alarms += 1
                number = n_alarms
            last[slice_] = (seen[slice_], number)
        expected.append(last[slice_][1] if odd else 0)
    numbers = AlarmNumbers()
    found = [numbers.of(slices[part], anomalous[part]) for part in np.split(np.arange(600), sorted(cuts))]
    assert np.concatenate(found).tolist() == expected
    assert numbers.n_alarms == n_alarms


def test_completion_is_offered():
    assert "--install-completion" in invoke("--help").output


@pytest.mark.slow
@pytest.mark.parametrize("piped", [True, False], ids=["a pipe", "a file that grows"])
def test_a_line_in_is_a_verdict_out_before_the_next_line(tmp_path, piped):
    file = tmp_path / "grows.csv"
    file.write_bytes(b"host;x\na;1,5\n")
    options = ["run", "-" if piped else str(file), "--follow", "--slice", "host", "--feature", "x", "--out", "v.csv"]
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from onlineguard.cli.app import main; main()"
    command = [sys.executable, "-c", code, *options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=ENVIRONMENT
    ) as process:
        try:
            sink = process.stdin if piped else file.open("ab")
            if piped:
                sink.write(file.read_bytes())
                sink.flush()
            verdict = json.loads(process.stdout.readline())
            assert (verdict["host"], verdict["line"], verdict["ready"]) == ("a", 2, False)
            for i in range(5):
                sink.write(b"%s;%d,25\n" % (b"ab"[i % 2 : i % 2 + 1], i))
                sink.flush()
                verdict = json.loads(process.stdout.readline())  # it does not wait for more lines
                assert (verdict["host"], verdict["line"]) == ("ab"[i % 2], 3 + i)
            sink.close()
            if not piped:
                process.send_signal(2)
            assert process.stdout.read() == b""
            assert process.wait(60) == (0 if piped else 130)
        finally:
            process.kill()
    assert pl.read_csv(tmp_path / "v.csv")["line"].to_list() == list(range(2, 8))


@pytest.fixture
def web_log(tmp_path) -> Path:
    """Latencies with a status, which is a number and no amount, and objects within the lines."""
    rng = np.random.default_rng(0)
    rows = [
        {"level": "info", "service": {"name": "ab"[i % 2]}, "status": int(status), "ms": float(ms)}
        for i, (status, ms) in enumerate(zip(rng.choice([200, 404, 500], 600), rng.normal(20.0, 2.0, 600), strict=True))
    ]
    rows[550]["ms"], rows[0]["level"] = 90.0, "warn"
    path = tmp_path / "web.ndjson"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_run_that_keeps_nothing_says_how_to_get_a_picture_and_numbers_that_may_be_codes_are_named(web_log, tmp_path):
    said = invoke("run", web_log).stderr
    assert "status has few numbers, such as 200, 404, 500: if they are codes, add --category status" in said
    assert "nothing was kept: --report report.html draws the oddest slices" in said
    options = ("--category", "status", "--slice", "service.name", "--out", tmp_path / "v.csv")
    said = invoke("run", web_log, *options).stderr
    assert "few numbers" not in said
    assert "nothing was kept" not in said
    oddest = pl.read_csv(tmp_path / "v.csv").sort("p_value", nulls_last=True).row(0, named=True)
    assert (oddest["service.name"], oddest["line"], oddest["anomalous"]) == ("a", 551, True)


def test_a_look_names_all_columns_that_may_tell_slices_apart_and_those_that_may_be_codes(web_log):
    shown = invoke("inspect", web_log).stdout
    assert "--slice level --feature status,ms --report" in shown
    assert "Others that may tell slices apart: service.name (2)." in shown
    assert "add --category status" in shown


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ([200, 404, 500] * 20, (200, 404, 500)),
        ([0, 1, 2, 3] * 20, ()),  # amounts
        ([0.5, 100.5] * 20, ()),
        (list(range(0, 600, 10)), ()),  # too many
        ([-100, 100] * 20, ()),
        ([200, 500], ()),  # seen too seldom
    ],
)
def test_codes_are_few_whole_numbers_that_lie_far_apart(numbers, told):
    assert number_kind("status", pl.Series(numbers)).codes == told


def test_lags_judge_each_event_by_those_before_it_and_stay_with_the_state(tmp_path):
    x = np.sin(np.arange(3_000) / 3.0) + np.random.default_rng(0).normal(0.0, 0.05, 3_000)
    x[2_900] = -x[2_900]
    pl.DataFrame({"x": x}).write_csv(tmp_path / "wave.csv")
    options = ["run", tmp_path / "wave.csv", "--lags", "2", "--out", tmp_path / "v.csv", "--state", tmp_path / "s"]
    first = invoke(*options)
    assert "detector: point, since --lags is given" in first.stderr
    odd = pl.read_csv(tmp_path / "v.csv").filter("anomalous")["line"].to_list()
    assert 2_902 in odd
    assert len(odd) < 90
    assert "known from" in invoke(*options).stderr
    other = invoke(*options[:2], "--state", tmp_path / "s", "--detector", "point")
    assert "written with lags 2, but this run has 0" in other.stderr
    refused = invoke(*options[:4], "--detector", "series")
    assert refused.exit_code == 2
    assert "error: --lags is 2, but the detector is series" in refused.stderr


def test_times_that_nobody_named_are_pointed_out(odd_csv, web_log):
    assert "wann holds times: --time wann" in invoke("run", odd_csv).stderr
    assert "holds times" not in invoke("run", odd_csv, "--time", "wann").stderr
    assert "holds times" not in invoke("run", web_log).stderr


def test_units_are_read_and_said(tmp_path):
    lines = ["endpoint,latency,size"] + [f"/a,{i}.5 ms,{i} kB" for i in range(1, 150)] + ["/a,2 s,1 MiB"]
    (tmp_path / "units.csv").write_text("\n".join(lines), encoding="utf-8")
    result = invoke("run", tmp_path / "units.csv", "--out", tmp_path / "v.csv", "--keep", "latency,size")
    assert "1 ms as 0.001, 1 kB as 1000" in result.stderr
    read = pl.read_csv(tmp_path / "v.csv")
    assert read["latency"][[0, -1]].to_list() == pytest.approx([0.0015, 2.0])
    assert read["size"][[0, -1]].to_list() == pytest.approx([1000.0, 1_048_576.0])
    assert "could not be read" not in result.stderr


def test_a_narrow_space_is_shown_as_a_space():
    assert clean("1\u202f626,06\x1b[2J") == "1 626,06\ufffd[2J"
