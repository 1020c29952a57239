"""The import rules of ARCHITECTURE.md: who may use whom, and no circle anywhere.

Imports inside functions and for type checkers count like those at the top of a module.
"""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [
    *sorted((ROOT / "onlineguard").rglob("*.py")),
    *sorted((ROOT / "service" / "onlineguard_service").rglob("*.py")),
]

# From the bottom up. A module imports from its own room and from the rooms before it. A module that is listed by name
# is a room of its own.
ROOMS = [
    "onlineguard.errors",
    "onlineguard.extras",
    "onlineguard.lazy",
    "onlineguard.atomic",
    "onlineguard.locks",
    "onlineguard.compilation",
    "onlineguard.plugins",
    "onlineguard.programs",
    "onlineguard.sentinels",
    "onlineguard.records",
    "onlineguard.core",
    "onlineguard.models",
    "onlineguard.engine",
    "onlineguard.estimators",
    "onlineguard.sklearn",
    "onlineguard.sources",
    "onlineguard.report",
    "onlineguard.slidr.clicks",
    "onlineguard.slidr.counting",
    "onlineguard.slidr.learning",
    "onlineguard.slidr.lookups",
    "onlineguard.slidr.thresholds",
    "onlineguard.slidr.evaluation",
    "onlineguard.slidr.simulation",
    "onlineguard.slidr.features",
    "onlineguard.slidr.pipeline",
    "onlineguard.slidr.rfm",
    "onlineguard.slidr.model",
    "onlineguard.slidr.log",
    "onlineguard.slidr.history",
    "onlineguard.slidr.offline",
    "onlineguard.slidr.lookups.nightly",
    "onlineguard.slidr.workflow",
    "onlineguard.slidr.registry",
    "onlineguard.slidr.guardrails",
    "onlineguard.slidr.retrain",
    "onlineguard.slidr.live",
    "onlineguard.slidr.watch",
    "onlineguard.slidr.judge",
    "onlineguard.slidr.replay",
    "onlineguard.wire",
    "onlineguard.client",
    "onlineguard_service",
    "onlineguard.cli",
    "onlineguard_service.cluster.commands",
    "onlineguard_service.commands",  # the service's commands: the command line finds them by an entry point
    "onlineguard.__main__",
]
# These name what a user may import and load it when it is first used. No module of the library goes through them.
FACADES = {"onlineguard", "onlineguard.slidr"}

IN_THE_CORE = {"abc", "collections", "dataclasses", "functools", "importlib", "math", "pkgutil", "statistics", "typing"}
IN_THE_CORE |= {"jax", "jaxtyping", "numpy", "onlineguard"}


def module_of(path: Path) -> str:
    """The dotted name of a source file."""
    inside = path.relative_to(ROOT / "service" if "onlineguard_service" in path.parts else ROOT)
    return ".".join(inside.with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


def imported(tree: ast.Module) -> set[str]:
    """The modules of this project that a module imports, wherever in it; a package stands for its `__init__`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports name the package they import from"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inside & MODULES.keys() or {str(node.module)}
    return names & MODULES.keys()


def room_of(module: str) -> int:
    """The number of the room that a module stands in; the longest name decides."""
    found = [(len(room), i) for i, room in enumerate(ROOMS) if f"{module}.".startswith(f"{room}.")]
    assert found, f"{module} stands in no room; add its package to ROOMS and to ARCHITECTURE.md"
    return max(found)[1]


LIBRARY = sorted(MODULES.keys() - FACADES)


@pytest.mark.parametrize("module", LIBRARY)
def test_a_module_imports_from_its_own_room_and_those_before_it(module):
    for name in imported(MODULES[module]) - {"onlineguard"}:
        assert name not in FACADES, f"{module} imports {name}, which loads everything; import the module itself"
        assert room_of(name) <= room_of(module), f"{module} imports {name}, which stands above it"


def test_of_the_package_itself_only_the_version_is_imported():
    for module in LIBRARY:
        for node in ast.walk(MODULES[module]):
            if isinstance(node, ast.ImportFrom) and node.module == "onlineguard":
                taken = {a.name for a in node.names if f"onlineguard.{a.name}" not in MODULES}
                assert taken <= {"__version__"}, module


def test_no_modules_import_each_other_in_a_circle():
    graph = {module: imported(MODULES[module]) - {"onlineguard"} for module in LIBRARY}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_the_core_knows_no_clock_file_network_or_framework():
    for module in LIBRARY:
        if module.startswith("onlineguard.core."):
            for node in ast.walk(MODULES[module]):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
                assert {name.split(".")[0] for name in names} <= IN_THE_CORE, f"{module} imports {names}"


def test_the_architecture_page_names_every_package():
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    packages = {module_of(path) for path in SOURCES if path.name == "__init__.py"}
    assert [name for name in sorted(packages) if name.replace(".", "/") not in page] == []


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_import_no_tests(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [f"{node.module}.{a.name}" for a in node.names] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            assert not any(part.startswith("test_") for part in name.split(".")), f"imports {name}; see tests/support"
