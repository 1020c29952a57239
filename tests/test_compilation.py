"""Programs are compiled once a machine, into a folder of the user's, and no answer depends on it."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from onlineguard import compilation

PROGRAM = """
import jax
from onlineguard.compilation import keep_programs
print(keep_programs())
print(jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs)
print(float(jax.jit(lambda x: jax.numpy.sin(x) * 3.0)(2.0)).hex())
"""
ENGINE = """
import hashlib
import numpy as np
from onlineguard import Engine
from onlineguard.compilation import keep_programs
keep_programs()
X = np.random.default_rng(0).standard_normal((300, 2)).astype(np.float32)
verdicts = Engine(2).update(["a", "b", "c"] * 100, X)
print(hashlib.sha256(verdicts.score.tobytes() + verdicts.threshold.tobytes() + verdicts.p_value.tobytes()).hexdigest())
"""


def answers(program: str, **environment: str) -> list[str]:
    """What a process of its own prints on standard output, a line each; it must print nothing on standard error."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION")}
    ran = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.split("\n")[:-1]


def entries(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_a_second_process_compiles_nothing_and_answers_the_same_bits(tmp_path):
    without = answers(ENGINE, ONLINEGUARD_COMPILATION_CACHE="off")
    first = answers(ENGINE, ONLINEGUARD_COMPILATION_CACHE=str(tmp_path / "kept"))
    kept = entries(tmp_path / "kept")
    assert len(kept) > 1
    assert answers(ENGINE, ONLINEGUARD_COMPILATION_CACHE=str(tmp_path / "kept")) == first == without
    assert entries(tmp_path / "kept") == kept


@pytest.mark.slow
def test_processes_that_start_at_once_share_one_folder(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        each = list(
            pool.map(lambda _: answers(PROGRAM, ONLINEGUARD_COMPILATION_CACHE=str(tmp_path / "kept")), range(4))
        )
    assert each == [each[0]] * 4
    assert each[0][0] == str(tmp_path / "kept")
    assert all(entries(tmp_path / "kept").values())


@pytest.mark.slow
def test_an_entry_that_was_cut_off_is_compiled_again(tmp_path):
    first = answers(PROGRAM, ONLINEGUARD_COMPILATION_CACHE=str(tmp_path))
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-20])
    assert answers(PROGRAM, ONLINEGUARD_COMPILATION_CACHE=str(tmp_path)) == first


@pytest.mark.slow
def test_an_old_empty_entry_is_removed_and_written_anew(tmp_path):
    first = answers(PROGRAM, ONLINEGUARD_COMPILATION_CACHE=str(tmp_path))
    whole, then = entries(tmp_path), time.time() - 2 * compilation.WRITING
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
        os.utime(path, (then, then))
    assert answers(PROGRAM, ONLINEGUARD_COMPILATION_CACHE=str(tmp_path)) == first
    assert entries(tmp_path).keys() == whole.keys()
    assert all(entries(tmp_path).values())


@pytest.mark.slow
def test_off_keeps_none():
    kept, settings, _ = answers(PROGRAM, ONLINEGUARD_COMPILATION_CACHE="off")
    assert kept == "None"
    assert settings.startswith("None ")


@pytest.mark.slow
def test_a_cache_that_the_user_configured_is_left_alone(tmp_path):
    own, ours = tmp_path / "own", tmp_path / "ours"
    kept, settings, _ = answers(PROGRAM, JAX_COMPILATION_CACHE_DIR=str(own), ONLINEGUARD_COMPILATION_CACHE=str(ours))
    assert kept == "None"
    assert settings == f"{own} 1.0"
    assert not ours.exists()


def test_a_folder_that_cannot_be_made_is_not_used(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(compilation.VARIABLE, str(tmp_path / "file" / "kept"))
    monkeypatch.setattr(compilation.jax.config, "update", pytest.fail)
    unset_in_jax(monkeypatch)
    assert compilation.keep_programs.__wrapped__() is None
    assert f"{compilation.VARIABLE} is {tmp_path / 'file' / 'kept'}" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_a_folder_that_another_user_can_write_is_not_used(tmp_path, monkeypatch):
    tmp_path.chmod(0o777)
    monkeypatch.setenv(compilation.VARIABLE, str(tmp_path))
    monkeypatch.setattr(compilation.jax.config, "update", pytest.fail)
    unset_in_jax(monkeypatch)
    assert compilation.keep_programs.__wrapped__() is None
    assert entries(tmp_path) == {}


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"HOME": "/home/ann"}, "/home/ann/.cache/onlineguard/programs"),
        ("linux", {"HOME": "/home/ann", "XDG_CACHE_HOME": "/fast"}, "/fast/onlineguard/programs"),
        ("linux", {"HOME": "/home/ann", "XDG_CACHE_HOME": "relative"}, "/home/ann/.cache/onlineguard/programs"),
        ("darwin", {"HOME": "/Users/ann"}, "/Users/ann/Library/Caches/onlineguard/programs"),
        ("win32", {"LOCALAPPDATA": "/c/ann/Local"}, "/c/ann/Local/onlineguard/programs"),
        ("win32", {}, None),
        ("linux", {"HOME": "/home/ann", compilation.VARIABLE: "/elsewhere"}, "/elsewhere"),
        ("linux", {"HOME": "/home/ann", compilation.VARIABLE: "off"}, None),
    ],
)
def test_the_folder_is_where_the_platform_keeps_caches(monkeypatch, platform, environment, expected):
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", compilation.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert compilation._folder() == (None if expected is None else Path(expected))


def unset_in_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process where nobody has configured a cache, whatever the tests themselves use."""
    monkeypatch.setattr(type(compilation.jax.config), "jax_compilation_cache_dir", None)
