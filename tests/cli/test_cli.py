"""The command line as its users meet it: real runs, their files, their errors and their exit codes."""

import contextlib
import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import onlineguard
from onlineguard.cli.app import app

COMMAND = [sys.executable, "-m", "onlineguard"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(onlineguard.__file__).parents[1])}  # installed or not


def invoke(*arguments, stdin=None):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture
def frame() -> pl.DataFrame:
    """2,000 events of two slices, with 20 odd ones that are labelled."""
    rng = np.random.default_rng(0)
    odd = np.zeros(2_000, bool)
    odd[1_000::50] = True
    x = np.where(odd, 40.0, rng.normal(size=2_000))
    t = 1_700_000_000 + 60 * np.arange(2_000)
    return pl.DataFrame({"host": np.where(rng.random(2_000) < 0.5, "a", "b"), "t": t, "x": x, "odd": odd.astype(int)})


@pytest.fixture
def csv_file(frame, tmp_path) -> Path:
    frame.write_csv(tmp_path / "events.csv")
    return tmp_path / "events.csv"


def ours(path: Path) -> list:
    """The options that fit the events."""
    return ["run", path, "--slice", "host", "--feature", "x"]


def test_a_run_prints_what_it_found_and_writes_every_file_asked_for(csv_file, tmp_path):
    out, report, state = tmp_path / "v.parquet", tmp_path / "r.html", tmp_path / "s"
    options = ["--time", "t", "--label", "odd", "--out", out, "--report", report, "--state", state]
    result = invoke(*ours(csv_file), *options)
    assert result.exit_code == 0, result.output
    for words in ("Events", "2,000", "ROC-AUC", "Windows caught", "Median delay in time", "The oddest slices"):
        assert words in result.stdout
    assert "detector: point, since values hardly depend on those before" in result.stderr
    assert "events.csv: 2,000 events in" in result.stderr
    assert len(pl.read_parquet(out)) == 2_000
    assert "<html" in report.read_text()
    assert state.stat().st_size > 0


def test_labelled_points_are_ranked_and_caught(csv_file):
    result = invoke(*ours(csv_file), "--label", "odd")
    assert "detector: point" in result.stderr
    lines = {line[:28].strip(): line[28:].strip() for line in result.stdout.splitlines()}
    found = next(value for name, value in lines.items() if name.startswith("Windows caught"))
    assert found == "20 of 20"


@pytest.mark.parametrize("ending", ["csv", "ndjson", "parquet", "csv.gz", "stdin csv", "stdin ndjson"])
def test_every_kind_of_source_gives_the_same_verdicts(frame, csv_file, tmp_path, ending):
    invoke(*ours(csv_file), "--out", tmp_path / "expected.csv")
    kind = ending.split()[-1]
    path = tmp_path / f"again.{kind}"
    if kind == "csv.gz":
        path.write_bytes(gzip.compress(csv_file.read_bytes()))
    else:
        getattr(frame, f"write_{kind}")(path)
    stdin = path.read_text() if ending.startswith("stdin") else None
    result = invoke(*ours("-" if stdin else path), "--out", tmp_path / "found.csv", stdin=stdin)
    assert result.exit_code == 0, result.output
    found, expected = (pl.read_csv(tmp_path / name).drop("line") for name in ("found.csv", "expected.csv"))
    assert found.equals(expected)


@pytest.mark.parametrize("detector", ["point", "series"])
def test_a_run_continued_from_its_state_is_one_run_over_both_halves(frame, csv_file, tmp_path, detector):
    frame[:900].write_csv(tmp_path / "first.csv")
    frame[900:].write_csv(tmp_path / "second.csv")
    halves = []
    for half in ("first", "second"):
        options = ["--detector", detector, "--state", tmp_path / "state", "--out", tmp_path / f"{half}.parquet"]
        assert invoke(*ours(tmp_path / f"{half}.csv"), *options).exit_code == 0
        halves.append(pl.read_parquet(tmp_path / f"{half}.parquet").drop("line"))
    assert invoke(*ours(csv_file), "--detector", detector, "--out", tmp_path / "whole.parquet").exit_code == 0
    assert pl.concat(halves).equals(pl.read_parquet(tmp_path / "whole.parquet").drop("line"))


def refused(result, *words):
    """One line on standard error, exit code 2, no traceback."""
    assert result.exit_code == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "Traceback" not in result.output
    for word in words:
        assert word in errors[0]


def test_a_state_that_does_not_fit_is_refused_and_stays_as_it_was(csv_file, tmp_path):
    state = tmp_path / "state"
    assert invoke(*ours(csv_file), "--state", state).exit_code == 0
    before = state.read_bytes()
    refused(invoke(*ours(csv_file), "--state", state, "--rate", 0.05), "rate 0.01", "0.05")
    refused(invoke(*ours(csv_file), "--state", state, "--detector", "series"), "detector 'point'")
    refused(invoke("run", csv_file, "--feature", "t", "--state", state), "features ['x']")
    for slices in ("odd", "host,odd"):
        result = invoke("run", csv_file, "--slice", slices, "--feature", "x", "--state", state)
        refused(result, "slice columns ['host']", f"this run has slice columns {slices.split(',')}")
    refused(invoke("run", csv_file, "--feature", "x", "--state", state), "['host']", "this run has no slice columns")
    assert state.read_bytes() == before
    state.write_bytes(before[:-50])
    refused(invoke(*ours(csv_file), "--state", state), str(state))


def test_bad_rows_are_set_aside_and_counted_and_strict_stops_at_the_first(csv_file, tmp_path):
    lines = csv_file.read_text().splitlines()
    lines[5] = "a,1,many,0"
    lines[9] = "a,1"
    csv_file.write_text("\n".join(lines))
    result = invoke(*ours(csv_file))
    assert result.exit_code == 0
    assert "1 row could not be read" in result.stderr
    assert "1 field could not be read and count as missing: x 1" in result.stderr
    for reason in (
        "  line 6: feature 'x' is 'many', not a number",
        "  line 10: the row has 2 columns, the header has 4",
    ):
        assert reason in result.stderr.splitlines()
    assert len((tmp_path / "events.csv.rejects.ndjson").read_text().splitlines()) == 1
    out = tmp_path / "out.csv"
    refused(invoke(*ours(csv_file), "--strict", "--out", out, "--state", tmp_path / "state"), "line 6")
    assert not out.exists()
    assert not (tmp_path / "state").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "missing.csv", "--feature", "x"], ["missing.csv"]),
        (["run", "events.csv", "--feature", "y"], ["'y'", "columns are"]),
        (["run", "events.csv", "--feature", "x", "--rate", "0.5"], ["--rate is 0.5"]),
        (["run", "events.csv", "--feature", "x", "--detector", "series", "--patience", "24"], ["--patience is 24"]),
        (["run", "events.csv", "--feature", ","], ["--feature is ','"]),
        (["run", "events.csv", "--feature", "x", "--slice", ","], ["--slice is ','"]),
        (["run", "events.csv", "--feature", "x,x"], ["--feature is ['x', 'x']"]),
        (["run", "events.csv", "--feature", "x", "--out", "out.txt"], ["--out is out.txt"]),
        (["run", "events.csv", "--feature", "x", "--out", "events.csv"], ["the source"]),
        (["run", "events.csv", "--feature", "x", "--out", "events.csv.rejects.ndjson"], ["where rejected rows go"]),
        (["run", "events.csv", "--feature", "x", "--time", "host"], ["time column 'host'", "--time-format"]),
        (["run", "events.csv", "--feature", "y*"], ["feature pattern 'y*'", "fits no column", "host, t, x"]),
        (["run", "events.csv", "--delimiter", "ab"], ["--delimiter is 'ab'"]),
        (["run", "events.csv", "--delimiter", ";", "--feature", "x"], ["'x'", "--delimiter"]),
        (["run", "events.csv", "--feature", "x", "--decimal", "x"], ["--decimal is 'x'"]),
        (["run", "events.csv", "--feature", "x", "--pause", "5", "--detector", "point"], ["--pause is 5"]),
        (["run", "events.csv", "--feature", "x", "--out", "v.csv", "--keep", "z"], ["kept column 'z'"]),
        (["inspect", "missing.csv"], ["missing.csv"]),
        (["demo", "--report", "missing/report.html"], ["--report is missing/report.html"]),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(csv_file, monkeypatch, arguments, words):
    monkeypatch.chdir(csv_file.parent)
    refused(invoke(*arguments), *words)


def test_a_demo_whose_report_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("onlineguard.cli.demo.synthetic_stream", lambda *arguments: pytest.fail("work was done"))
    refused(invoke("demo", "--report", tmp_path / "missing" / "report.html"), "--report is", "folder that exists")


def test_a_state_of_one_slice_for_all_is_not_continued_by_host(csv_file, tmp_path):
    assert invoke("run", csv_file, "--feature", "x", "--state", tmp_path / "state").exit_code == 0
    refused(invoke(*ours(csv_file), "--state", tmp_path / "state"), "no slice columns", "['host']")
    assert invoke("run", csv_file, "--feature", "x", "--state", tmp_path / "state").exit_code == 0


def test_a_state_that_names_no_slice_columns_is_continued_and_names_them_from_then_on(csv_file, tmp_path):
    state = tmp_path / "state"
    assert invoke(*ours(csv_file), "--state", state).exit_code == 0
    engine = onlineguard.Engine.load(state)
    engine.notes.clear()  # as in the files of earlier versions
    engine.save(state)
    refused(invoke("run", csv_file, "--feature", "x", "--state", state), "1 slice column", "no slice columns")
    assert invoke(*ours(csv_file), "--state", state).exit_code == 0
    refused(invoke("run", csv_file, "--slice", "odd", "--feature", "x", "--state", state), "['host']", "['odd']")


def test_an_option_that_is_missing_or_unknown_is_exit_code_2(csv_file):
    assert invoke("run").exit_code == 2
    assert invoke(*ours(csv_file), "--no-such-option").exit_code == 2
    assert invoke(*ours(csv_file), "--patience", 0).exit_code == 2


def test_names_from_the_data_cannot_steer_the_terminal(tmp_path):
    path = tmp_path / "events.csv"
    values = np.random.default_rng(0).normal(size=500)
    values[400] = 90.0
    pl.DataFrame({"s": ["\x1b[31m[bold]evil"] * 500, "x": values}).write_csv(path)
    result = invoke("run", path, "--slice", "s", "--feature", "x")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "[bold]evil" in result.stdout


def test_the_version_and_the_help_are_shown():
    assert invoke("--version").stdout == f"onlineguard {onlineguard.__version__}\n"
    assert "Commands" in invoke().output
    for command in ("run", "demo"):
        assert "Examples" in invoke(command, "--help").output


def test_the_help_comes_without_loading_jax():
    code = """
import sys
from onlineguard.cli.app import main
sys.argv = ["onlineguard", "run", "--help"]
try:
    main()
finally:
    print(sorted({"jax", "numpy", "polars", "river", "pandas", "matplotlib"} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=ENVIRONMENT)
    assert result.stdout.splitlines()[-1] == b"[]"


@pytest.mark.slow
def test_a_real_process_reads_a_pipe_and_shows_no_bar_where_there_is_no_terminal(csv_file):
    result = subprocess.run(
        [*COMMAND, *map(str, ours(Path("-")))],
        input=csv_file.read_bytes(),
        capture_output=True,
        check=False,
        cwd=csv_file.parent,
        env=ENVIRONMENT,
    )
    assert result.returncode == 0
    assert b"2,000" in result.stdout
    first, second, third, *_ = result.stderr.decode().splitlines()
    assert first == "stdin: utf-8, commas between fields, header, decimal point"
    assert second == "t holds times: --time t"
    assert third.startswith("detector: point")
    assert b"\x1b" not in result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_ctrl_c_or_sigterm_ends_the_stream_there_with_everything_saved(tmp_path, stop):
    # A shell that starts the tests in the background has its children ignore Ctrl-C.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from onlineguard.cli.app import main; main()"
    options = ["run", "-", "--feature", "x", "--state", "state", "--out", "out.csv"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, *options], **pipes, cwd=tmp_path, env=ENVIRONMENT) as process:
        try:
            process.stdin.write(b"x\n" + b"".join(b"%d.125\n" % (i % 13) for i in range(1_000_000)))
            process.stdin.write(b"3.14159265358979\n" * 500_000)  # the pipe stays open: more might come
            process.stdin.flush()
            for _ in range(600):
                if process.poll() is not None or any(part.stat().st_size for part in tmp_path.glob(".out.csv.*/text")):
                    break
                time.sleep(0.05)
            for _ in range(6):  # polars keeps the Ctrl-C for itself that comes while it parses; one presses it again
                process.send_signal(stop)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                    break
        finally:
            process.kill()
        errors = process.stderr.read().decode()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "interrupted: judged up to line" in errors
    judged = len(pl.read_csv(tmp_path / "out.csv"))
    assert 0 < judged <= 1_500_000
    assert onlineguard.Engine.load(tmp_path / "state").n_events == judged


@pytest.mark.slow
def test_the_demo_needs_nothing_and_says_what_it_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("demo", "--events", 80_000, "--clicks", 60_000)
    assert result.exit_code == 0, result.output
    for words in ("found", "missed", "false alarms", "the usual rule", "onlineguard found"):
        assert words in result.stdout
    for words in ("threshold", "caught", "accused", "datacentre", "p-value", "not billed"):
        assert words in result.stdout
    for name in ("onlineguard-demo.html", "onlineguard-demo-clicks.html"):
        assert f"report: {name}" in result.stderr
        assert (tmp_path / name).stat().st_size > 10_000


@pytest.mark.slow
def test_the_documented_run_over_real_server_metrics_works(data_dir, tmp_path):
    source = data_dir / "streams" / "cloudwatch.csv.gz"
    options = ["--slice", "metric", "--feature", "value", "--time", "timestamp", "--label", "anomaly_window"]
    # A read-only folder of data takes no rejects file, and needs none.
    result = invoke("run", source, *options, "--out", tmp_path / "v.parquet", "--report", tmp_path / "r.html")
    assert result.exit_code == 0, result.output
    assert "detector: series" in result.stderr
    for words in ("67,740", "17", "mean of 16 slices", "of 30", "Median delay in time"):
        assert words in result.stdout
    frame = pl.read_parquet(tmp_path / "v.parquet")
    assert (len(frame), frame["metric"].n_unique()) == (67_740, 17)
    assert 0 < frame["anomalous"].sum() < 0.1 * len(frame)
    assert "labelled window" in (tmp_path / "r.html").read_text()
