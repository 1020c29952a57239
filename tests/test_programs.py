"""Programs that a service keeps are loaded by the next one, and no answer depends on it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from onlineguard import programs
from onlineguard.engine.table import Layout, put_rows
from onlineguard.models.detector import Detector
from onlineguard.programs import Program, _environment, _text  # pyright: ignore[reportPrivateUsage]

JUDGE = """
import hashlib, sys
import numpy as np
import jax
from onlineguard import Engine, programs
traced, aside = [], []  # whether an event was one of tracing; whether a program was compiled only to be kept
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: aside.append(programs.keeping()) if event.endswith("backend_compile_duration") else None
)
jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: traced.append("jaxpr_trace" in event))
if "kept" in sys.argv: programs.begin()
X = np.random.default_rng(0).standard_normal((300, 2)).astype(np.float32)
engine = Engine(2)
engine.warmup(64)
verdicts = [engine.update(["a", "b", "c"] * 100, X), engine.score(["a", "d"], X[:2]), engine.update(["d"], X[:1])]
told = [each for one in verdicts for each in (one.score, one.threshold, one.p_value)]
state = engine.dump()[1]["table"]
print(hashlib.sha256(b"".join(each.tobytes() for each in (*told, state))).hexdigest())
print(sum(traced) > 0)
programs.write()
if programs._Kept.thread is not None: programs._Kept.thread.shutdown()
print(any(aside), not all(aside))
"""


def judged(folder: Path, *args: str) -> list[str]:
    """The hash of what an engine in a process of its own answers and has learned; whether it traced a program, compiled
    some only to keep them, and others for itself, where JAX's cache counts as a compiler too."""
    environment = {"ONLINEGUARD_COMPILATION_CACHE": str(folder), "PYTHONPATH": ":".join(sys.path)}
    ran = subprocess.run(
        [sys.executable, "-c", JUDGE, *args], env=environment, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.split()


def kept(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / programs.FOLDER).rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_second_process_traces_nothing_and_answers_the_same_bits(tmp_path):
    answers, *did = judged(tmp_path, "kept")
    assert did == ["True", "False", "True"]
    assert judged(tmp_path, "kept") == [answers, "False", "False", "False"]
    first, *others = files = kept(tmp_path)
    first.write_bytes(first.read_bytes()[:-1] + b"?")
    for other in others:
        other.write_bytes(other.read_bytes()[:100])
    # JAX's cache has them still, but what it loads cannot be kept: they are compiled once more, aside
    assert judged(tmp_path, "kept") == [answers, "True", "True", "True"]
    assert kept(tmp_path) == files
    assert judged(tmp_path, "kept") == [answers, "False", "False", "False"]
    assert judged(tmp_path) == [answers, "True", "False", "True"]


def test_without_begin_a_program_is_what_jax_compiles():
    assert put_rows.at(np.zeros((4, 2), np.float32), np.ones((1, 2), np.float32), np.array([1], np.int32)) is (
        put_rows._jit  # pyright: ignore[reportPrivateUsage]
    )


class Foreign(NamedTuple):
    size: int


def text(value: Any) -> str:
    found = _text(value)
    assert found is not None
    return found


def test_what_a_program_is_made_of_is_told_apart():
    layout = Layout.of(Detector(0.01).init(2))
    different = [
        ("a", (1, 2)),
        ("a", (12,)),
        ("a", 1, 2),
        ("a", "1", 2),
        (layout,),
        (Layout.of(Detector(0.01).init(3)),),
        (jax.tree.structure(Detector(0.01)),),
        (jax.tree.structure((1, [2])),),
        (jax.tree.structure(((1, 2),)),),
        (np.dtype("int32"),),
        (None,),
    ]
    assert len({text(value) for value in different}) == len(different)
    assert text((layout,)) == text((Layout.of(Detector(0.01).init(2)),))


@pytest.mark.parametrize("value", [Foreign(1), lambda: None, object(), {"a": 1}, Foreign])
def test_what_is_not_of_this_package_is_not_kept(value: Any):
    assert _text((value,)) is None
    assert _text((jax.tree.structure(Foreign(1)),)) is None


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(programs._Kept, "folder", tmp_path)  # pyright: ignore[reportPrivateUsage]
    return tmp_path


def test_a_program_within_another_is_traced_as_a_part_of_it(folder: Path):
    def double(x: Any) -> Any:
        return 2 * x

    inner = Program(double)
    assert float(jax.jit(lambda x: inner(x) + 1)(np.float32(3.0))) == 7.0


def test_other_sources_settings_or_processors_are_another_environment(monkeypatch: pytest.MonkeyPatch):
    before = _environment("this")
    assert _environment("this") == before
    assert _environment("that") != before
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1 --other")
    assert _environment("this") != before
    monkeypatch.undo()
    stat: Callable[..., Any] = programs.os.stat

    class Newer:
        def __init__(self, about: Any):
            self.st_size, self.st_mtime_ns = about.st_size, about.st_mtime_ns + 1

    monkeypatch.setattr(programs.os, "stat", lambda path: Newer(stat(path)))
    assert _environment("this") != before
