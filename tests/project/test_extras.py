"""What is installed with which extra, and the one line that names a missing one."""

import pickle
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from onlineguard import extras
from onlineguard.errors import MissingExtra, OnlineguardError

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# Packages of an extra that are never looked for: those that are used where they are found, and those of another part.
UNASKED = {"uvloop", "onlineguard"}
CLOUDS = ("s3", "gcs", "azure")  # not installed for the tests; `registry.stores.EXTRAS` looks for them by URL


def without(*packages: str) -> str:
    """The beginning of a program for which these packages, and all modules in them, are not installed."""
    return f"import sys; sys.modules.update(dict.fromkeys({packages!r}))\n"


def run(program: str) -> tuple[int, str]:
    """Exit code and standard error of a program in a process of its own."""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    return ran.returncode, ran.stderr


@pytest.mark.parametrize(
    ("module", "lacks", "line"),
    [
        ("onlineguard.estimators", "river", "onlineguard.estimators needs river: pip install 'onlineguard[river]'"),
        (
            "onlineguard.sklearn",
            "sklearn",
            "onlineguard.sklearn needs scikit-learn: pip install 'onlineguard[sklearn]'",
        ),
        ("onlineguard.sources", "polars", "onlineguard.sources needs polars: pip install 'onlineguard[polars]'"),
        ("onlineguard.slidr", "polars", "onlineguard.slidr needs polars: pip install 'onlineguard[slidr]'"),
        ("onlineguard.client", "httpx2", "onlineguard.client needs httpx2: pip install 'onlineguard[client]'"),
        ("onlineguard.slidr", "sklearn", "onlineguard.slidr needs scikit-learn: pip install 'onlineguard[slidr]'"),
        (
            "onlineguard.slidr.learning.train",
            "optax",
            "onlineguard.slidr needs optax: pip install 'onlineguard[slidr]'",
        ),
    ],
)
def test_a_part_without_its_packages_is_one_import_error_that_names_the_extra(module, lacks, line):
    code, said = run(without(lacks) + f"import {module}")
    assert code == 1
    assert said.splitlines()[-1] == f"onlineguard.errors.MissingExtra: {line}"


def test_a_client_needs_nothing_of_slidr():
    program = without("polars", "optax", "scipy", "sklearn", "jax") + "from onlineguard.client import Client, Router\n"
    assert run(f"{program}assert not any(name.startswith('onlineguard.slidr') for name in sys.modules)") == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "lacks", "line"),
    [
        ([], ["typer"], "`onlineguard` needs typer: pip install 'onlineguard[cli]'"),
        (["run", "a.csv"], ["polars"], "`onlineguard` needs polars: pip install 'onlineguard[cli]'"),
        (
            ["cluster", "status"],
            ["ray"],
            "error: `onlineguard cluster` needs ray: pip install 'onlineguard[ray]'",
        ),
        (["demo"], ["optax"], "error: onlineguard.slidr needs optax: pip install 'onlineguard[slidr]'"),
        (["simulate", "nowhere"], ["optax"], "error: onlineguard.slidr needs optax: pip install 'onlineguard[slidr]'"),
        (
            ["slidr", "score", "clicks.csv", "--model", "m", "--out", "o.csv"],
            ["optax", "sklearn"],
            "error: onlineguard.slidr needs optax, scikit-learn: pip install 'onlineguard[slidr]'",
        ),
        (
            ["serve"],
            ["uvicorn", "starlette"],
            "error: `onlineguard serve` needs starlette, uvicorn: pip install 'onlineguard[serve]'",
        ),
        (
            ["worker"],
            ["redis", "httpx2"],
            "error: `onlineguard worker` needs httpx2, redis: pip install 'onlineguard[serve]'",
        ),
    ],
)
def test_a_command_without_its_packages_is_one_line_that_names_the_extra(arguments, lacks, line):
    program = without(*lacks) + f"sys.argv[1:] = {arguments!r}\nfrom onlineguard.__main__ import main; main()"
    code, said = run(program)
    assert (code, " ".join(said.split())) == (2, line)


@pytest.mark.slow
def test_the_engine_needs_nothing_but_its_own_packages():
    optional = {name for packages in extras.PACKAGES.values() for name in packages} - {"scipy"}  # JAX brings scipy
    program = without(*optional, "matplotlib", "pandas", "orjson") + (
        "import onlineguard, onlineguard.report, onlineguard.report.quality\n"
        "from onlineguard import *\n"
        "engine = onlineguard.Engine(2); engine.update(['a'], [[1.0, 2.0]]); print(repr(engine))"
    )
    assert run(program) == (0, "")


def test_models_run_on_numpy_where_jax_is_not_installed():
    program = without("jax", "jaxlib", "jaxtyping", "msgspec", "polars", "safetensors") + (
        "from onlineguard import Detector, JointDetector, KeyedModel, Series\n"
        "for model in (Detector(), JointDetector(), Series()):\n"
        "    keyed = KeyedModel(model, 1)\n"
        "    state, _ = keyed.step(None, [0.5])\n"
        "    keyed.step(state, [0.6])"
    )
    assert run(program) == (0, "")


def test_the_packages_that_are_looked_for_are_those_that_the_extras_bring():
    distributions = {name: found[0].lower() for name, found in packages_distributions().items()}
    for extra, requirements in PROJECT["project"]["optional-dependencies"].items():
        named = {re.split(r"[\[>; ]", requirement)[0] for requirement in requirements}
        used = extras.PACKAGES.get(extra, ())
        asked = {distributions.get(name, extras.INSTALLED_AS.get(name, name)).replace("_", "-") for name in used}
        assert asked == named - UNASKED or extra in ("gpu", "otel", "zstd", *CLOUDS), extra


def test_nothing_that_only_pictures_and_tests_need_is_installed():
    brought = [*PROJECT["project"]["dependencies"]]
    others = {**PROJECT["project"]["optional-dependencies"], "plot": []}
    brought += [each for requirements in others.values() for each in requirements]
    names = {re.split(r"[\[>; ]", each)[0] for each in brought}
    assert not names & {"matplotlib", "orjson", "pandas", "pytest", "ruff", "pyright", "hypothesis", "cvxpy", "numba"}
    assert PROJECT["tool"]["uv"]["default-groups"] == []


def test_the_error_is_an_import_error_and_survives_pickling():
    error = MissingExtra("a part", ["x-y"], "cli")
    assert isinstance(error, ImportError)
    assert isinstance(error, OnlineguardError)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.extra) == ("a part needs x-y: pip install 'onlineguard[cli]'", "cli")
