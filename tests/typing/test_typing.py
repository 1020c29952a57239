"""Users' programs beside this file are clean under `mypy --strict` and pyright in strict mode."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(path for path in Path(__file__).parent.glob("*.py") if path != Path(__file__))

pytestmark = pytest.mark.slow  # a type checker reads NumPy, JAX and river


def checked(command: list[str], **environment: str) -> tuple[int, str]:
    """The exit code of a type checker, and what it said."""
    ran = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
        check=False,
    )
    return ran.returncode, ran.stdout + ran.stderr


def mypy(programs: list[Path], cache: Path) -> tuple[int, str]:
    """The library's own errors are left out: they are not the user's, who has it installed."""
    options = ["--strict", "--follow-imports=silent", "--cache-dir", str(cache)]
    return checked(["mypy", *options, *map(str, programs)], MYPYPATH=str(ROOT))


def test_programs_of_users_are_clean_under_mypy_and_their_mistakes_are_found(tmp_path):
    assert mypy(PROGRAMS, tmp_path / "cache") == (
        0,
        f"Success: no issues found in {len(PROGRAMS)} source files\n",
    )
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from onlineguard import Engine\n\nEngine(2, target_rate='high').update('a', [[1.0]]).scores\n")
    code, said = mypy([wrong], tmp_path / "cache")
    assert code == 1
    assert '"target_rate" to "Engine" has incompatible type "str"; expected "float"' in said
    assert '"Verdicts" has no attribute "scores"' in said


def test_programs_of_users_are_clean_under_pyright(tmp_path):
    config = {
        "include": list(map(str, PROGRAMS)),
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.12",
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config), encoding="utf-8")
    interpreter = ["--pythonpath", sys.executable]
    code, said = checked(["pyright", *interpreter, "--project", str(tmp_path)])
    assert code == 0, said
    assert "0 errors" in said


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "onlineguard" / "py.typed").exists()
