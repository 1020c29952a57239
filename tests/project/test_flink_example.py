"""`examples/flink` on Flink's local cluster: a job that failed and went on from a checkpoint ends like a plain loop."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.event_lines import event_lines

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "flink"
EVENTS, SLICES = 4_000, 20
PYTHON = os.environ.get("ONLINEGUARD_FLINK")


def written(folder):
    """The lines of all files that a sink has finished."""
    files = [path for path in sorted(folder.rglob("part-*")) if path.is_file()]
    return [json.loads(line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(PYTHON is None, reason="ONLINEGUARD_FLINK names no Python that has PyFlink: see examples/flink")
@pytest.mark.skipif(shutil.which("java") is None, reason="Java is not installed")
def test_a_job_that_failed_and_was_restarted_ends_like_a_plain_loop_over_the_same_events(tmp_path):
    (tmp_path / "events.ndjson").write_text("\n".join(event_lines(EVENTS, SLICES)), encoding="utf-8")
    here = os.pathsep.join([str(ROOT), str(EXAMPLE)])
    program = [PYTHON, str(EXAMPLE / "fails_once.py"), str(tmp_path)]
    ran = subprocess.run(
        program, env=os.environ | {"PYTHONPATH": here}, capture_output=True, text=True, timeout=600, check=False
    )
    assert ran.returncode == 0, ran.stderr

    assert int((tmp_path / "failed_at").read_text(encoding="utf-8")) >= EVENTS // 2
    resumed_at = [int(number) for number in (tmp_path / "resumed_at").read_text(encoding="utf-8").split()]
    assert resumed_at, "no process saw an event after the failure"
    assert min(resumed_at) > SLICES  # not from the beginning: what came before was in the checkpoint
    plain = [json.loads(line) for line in (tmp_path / "plain.ndjson").read_text(encoding="utf-8").splitlines()]
    verdicts = sorted(written(tmp_path / "verdicts"), key=lambda verdict: verdict["id"])
    assert verdicts == plain  # each once, with every state, to the last bit
    assert sum(verdict["anomalous"] for verdict in verdicts) > 10
