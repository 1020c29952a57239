"""What a user meets before the first call: names, import cost, docstring examples, and the wheel."""

import doctest
import email
import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

import onlineguard

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path.relative_to(ROOT) for path in (ROOT / "onlineguard").rglob("*.py"))


@pytest.mark.parametrize("name", onlineguard.__all__)
def test_every_public_name_resolves(name):
    assert getattr(onlineguard, name).__name__ == name
    assert name in dir(onlineguard)


def test_the_public_names_are_exactly_those_that_can_be_loaded():
    assert sorted(onlineguard.__all__) == sorted(name for names in onlineguard._NAMES.values() for name in names)
    with pytest.raises(AttributeError, match="no attribute 'Enigne'"):
        _ = onlineguard.Enigne


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, onlineguard; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"jax", "jaxlib", "river", "numpy", "scipy", "pandas", "polars", "matplotlib", "rich", "typer"}
    assert not heavy & set(loaded.stdout.split())


def test_an_engine_that_is_given_arrays_loads_no_package_for_frames(tmp_path):
    code = (
        "import sys; from onlineguard import Engine; engine = Engine(1); engine.update(['a', 'b'], [[1.0], [2.0]]); "
        "engine.save('e'); Engine.load('e').score('a', [[1.0]]); print({'pandas', 'polars'} & {*sys.modules})"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "set()\n"


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_every_docstring_example_gives_what_it_shows(source):
    module = importlib.import_module(".".join(source.with_suffix("").parts).removesuffix(".__init__"))
    assert doctest.testmod(module).failed == 0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The built wheel, open."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT, check=True)
    (path,) = folder.glob("*.whl")
    with ZipFile(path) as archive:
        yield archive


def test_the_wheel_holds_the_package_its_types_and_licence_and_nothing_else(wheel):
    info = f"onlineguard-{onlineguard.__version__}.dist-info"
    names = set(wheel.namelist())
    assert {name.partition("/")[0] for name in names} == {"onlineguard", "onlineguard_service", info}
    assert names >= {str(source) for source in SOURCES} | {
        "onlineguard/py.typed",
        "onlineguard/report/report.js",
        f"{info}/licenses/LICENSE",
    }


def test_the_wheel_states_the_version_and_the_floors(wheel):
    info = f"onlineguard-{onlineguard.__version__}.dist-info"
    metadata = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert metadata["Version"] == onlineguard.__version__
    assert metadata["Requires-Python"] == project["requires-python"]
    requirements = [line.partition(";")[0] for line in metadata.get_all("Requires-Dist")]
    assert not [requirement for requirement in requirements if "<" in requirement or "==" in requirement]
    assert "onlineguard = onlineguard.__main__:main" in wheel.read(f"{info}/entry_points.txt").decode()


@pytest.mark.slow
def test_the_unpacked_wheel_is_importable_on_its_own(wheel, tmp_path):
    wheel.extractall(tmp_path)
    code = "import onlineguard; print(onlineguard.__file__, onlineguard.Engine.__name__)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [str(tmp_path / "onlineguard" / "__init__.py"), "Engine"]
