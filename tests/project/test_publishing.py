"""What an index, a citation and a conda channel take: everything is ready to be published, and nothing is."""

import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
import tarfile
import tomllib
import venv
from pathlib import Path

import pytest
import yaml
from trove_classifiers import classifiers

import onlineguard

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RECIPE = yaml.safe_load((ROOT / "conda" / "meta.yaml").read_text(encoding="utf-8"))


def test_the_citation_has_the_keys_that_its_schema_asks_for_and_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation.keys() >= {"authors", "cff-version", "message", "title"}
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == onlineguard.__version__ == RECIPE["package"]["version"]
    assert citation["license"] == PROJECT["license"] == RECIPE["about"]["license"]
    assert all(author.keys() & {"name", "family-names"} for author in citation["authors"])
    for reference in citation["references"]:
        assert reference.keys() >= {"authors", "title", "type"}


def test_the_recipe_asks_for_what_pyproject_asks_for():
    asked = [f"python {PROJECT['requires-python']}", *PROJECT["dependencies"]]
    assert sorted(line.replace(" ", "") for line in RECIPE["requirements"]["run"]) == sorted(
        line.replace(" ", "") for line in asked
    )
    built = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    assert {line.replace(" ", "") for line in RECIPE["requirements"]["host"]} >= set(built)
    assert RECIPE["build"]["entry_points"] == [f"{name} = {what}" for name, what in PROJECT["scripts"].items()]
    assert RECIPE["source"]["path"].endswith(f"onlineguard-{onlineguard.__version__}.tar.gz")


def test_classifiers_are_known_and_the_authors_are_the_maintainers():
    assert set(PROJECT["classifiers"]) <= classifiers
    assert PROJECT["authors"] == PROJECT["maintainers"] == [{"name": "onlineguard maintainers"}]


def test_templates_have_a_name_and_say_what_they_are_for():
    for template in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.md"):
        head = yaml.safe_load(re.match(r"---\n(.*?)---\n", template.read_text(encoding="utf-8"), re.DOTALL)[1])
        assert head.keys() >= {"about", "name"}
    assert (ROOT / ".github" / "pull_request_template.md").exists()


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The built wheel and sdist."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True)
    return sorted(folder.iterdir())


@pytest.mark.slow
def test_the_archives_pass_the_check_of_an_index(archives):
    pytest.importorskip("twine", reason="twine comes with the group dev")
    check = [sys.executable, "-m", "twine", "check", "--strict", *map(str, archives)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


@pytest.mark.slow
def test_the_wheel_installs_into_a_clean_environment_without_a_network_and_says_what_is_missing(archives, tmp_path):
    wheel = next(path for path in archives if path.suffix == ".whl")
    venv.create(tmp_path / "clean", with_pip=True)
    python = tmp_path / "clean" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel)], cwd=tmp_path, check=True
    )
    code = "import onlineguard; print(onlineguard.__version__, onlineguard.__file__)"
    ran = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split()[0] == importlib.metadata.version("onlineguard")
    assert str(tmp_path) in ran.stdout
    command = subprocess.run([python.parent / "onlineguard", "--help"], capture_output=True, text=True, check=False)
    assert command.returncode == 2
    assert "onlineguard[cli]" in command.stderr


@pytest.mark.slow
def test_the_recipe_builds_from_the_archive_by_its_own_script_and_passes_its_own_test(archives, tmp_path):
    """As conda would: with the packages of `host` the script runs in the archive; then come imports and commands."""
    (archive,) = [path for path in archives if path.name == Path(RECIPE["source"]["path"]).name]
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    folder = tmp_path / archive.name.removesuffix(".tar.gz")
    assert (folder / RECIPE["about"]["license_file"]).is_file()
    venv.create(tmp_path / "prefix", with_pip=True)
    here = [path for path in sys.path if path.endswith("site-packages")]  # hatchling, and what the package asks for
    env = {**os.environ, "PIP_NO_INDEX": "1", "PATH": f"{tmp_path / 'prefix' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    env["PYTHONPATH"] = os.pathsep.join([str(next((tmp_path / "prefix" / "lib").glob("*/site-packages"))), *here])

    def run(line, cwd=tmp_path):
        done = subprocess.run(shlex.split(line), cwd=cwd, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(RECIPE["build"]["script"], folder)
    for line in [*(f"python -c 'import {name}'" for name in RECIPE["test"]["imports"]), *RECIPE["test"]["commands"]]:
        run(line)
    assert str(tmp_path / "prefix") in run("python -c 'import onlineguard; print(onlineguard.__file__)'")
    for entry in RECIPE["build"]["entry_points"]:
        assert (tmp_path / "prefix" / "bin" / entry.partition(" = ")[0]).exists()
