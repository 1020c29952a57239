"""`examples/spark` on a local Spark: a job that failed and was repeated from its checkpoint ends like a plain loop."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.event_lines import event_lines

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "spark"
FILES, EVENTS, SLICES = 6, 300, 8  # files, events a file
PYTHON = os.environ.get("ONLINEGUARD_SPARK", sys.executable if find_spec("pyspark") else None)


def write_events(folder):
    """Files of events, each a second younger than the one before."""
    lines = list(event_lines(FILES * EVENTS, SLICES))
    for number in range(FILES):
        path = folder / f"{number}.ndjson"
        path.write_text("\n".join(lines[number * EVENTS : (number + 1) * EVENTS]), encoding="utf-8")
        os.utime(path, (1_700_000_000 + number,) * 2)  # Spark reads them in this order


@pytest.mark.slow
@pytest.mark.skipif(PYTHON is None, reason="no PySpark here, and ONLINEGUARD_SPARK names no Python that has it")
@pytest.mark.skipif(shutil.which("java") is None, reason="Java is not installed")
def test_a_job_that_failed_and_was_repeated_ends_like_a_plain_loop_over_the_same_events(tmp_path):
    (tmp_path / "events").mkdir()
    write_events(tmp_path / "events")
    here = os.pathsep.join([str(ROOT), str(EXAMPLE)])
    chosen = {"PYTHONPATH": here, "PYSPARK_PYTHON": PYTHON, "SPARK_LOCAL_IP": "127.0.0.1"}
    program = [PYTHON, str(EXAMPLE / "fails_once.py"), str(tmp_path)]
    ran = subprocess.run(program, env=os.environ | chosen, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr

    assert int((tmp_path / "failed_at").read_text(encoding="utf-8")) >= FILES * EVENTS // 2
    assert int((tmp_path / "batches_before").read_text(encoding="utf-8")) == FILES // 2
    verdicts, states = json.loads((tmp_path / "judged.json").read_text(encoding="utf-8"))
    plain_verdicts, plain_states = json.loads((tmp_path / "plain.json").read_text(encoding="utf-8"))
    assert verdicts == plain_verdicts  # each once, and to the last bit
    assert states == plain_states
    assert len(states) == SLICES
    assert sum(verdict["anomalous"] for verdict in verdicts) > 1
