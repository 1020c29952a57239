"""What an installation takes: packages, megabytes, and the seconds of `pip install` and of the first import.

    uv run --group dev python -m benchmarks.bench_install [--quick] [--extras all] [--project FOLDER]

Without --quick, pip installs the project into new environments in a temporary folder, in the versions of its
constraints.txt: once without extras, and once with those that are named. Its seconds include what the network takes.
--project names another checkout, e.g. of an older version.

With --quick nothing is installed and no network is needed. The packages of this environment that the project asks for,
directly or not, are counted instead.

A megabyte is 10^6 bytes of files, with the bytecode that pip writes; pip itself does not count. `importing` is the time
of the processor that new processes take for `from onlineguard import Engine`: the median of several, less that of as
many that run nothing.
"""

import argparse
import re
import resource
import statistics
import subprocess
import tempfile
import time
import venv
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement

from benchmarks.workloads import emit

ROOT = Path(__file__).parents[1]
LARGEST = 4  # packages that are named
STARTS = 9


def name_of(text: str) -> str:
    """The name of a package as an index writes it."""
    return re.sub(r"[-_.]+", "-", text).lower()


def megabytes(package: Distribution) -> float:
    """Of the files of a package."""
    files = [Path(str(file.locate())) for file in package.files or ()]
    return sum(path.stat().st_size for path in files if path.is_file()) / 1e6


def asked_for(extras: str) -> dict[str, Distribution]:
    """The packages of this environment that the project with these extras asks for, and itself."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    left = [Requirement(f"onlineguard[{extras}]")]
    while left:
        requirement = left.pop()
        for extra in ("", *requirement.extras):
            name = name_of(requirement.name)
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                found[name] = distribution(name)
            except PackageNotFoundError:  # an extra of a package that this environment lacks
                continue
            for line in found[name].requires or ():
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    left.append(needed)
    return found


def installed(project: Path, extras: str, folder: Path) -> tuple[Path, float]:
    """The Python of a new environment in which the project was installed, and the seconds that pip took."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    what = f"{project}[{extras}]" if extras else str(project)
    install = [python, "-m", "pip", "install", "--quiet", "--no-cache-dir", what]
    began = time.perf_counter()
    subprocess.run([*install, "-c", project / "constraints.txt"], cwd=folder, check=True)
    return python, time.perf_counter() - began


def started(python: Path, program: str) -> float:
    """The median seconds of the processor that new processes take, which run a program."""
    times: list[float] = []
    for _ in range(STARTS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([python, "-I", "-c", program], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(times)


def figures(packages: Iterable[Distribution]) -> dict[str, object]:
    """How many packages, how large together, and the largest of them."""
    sizes = {name_of(package.name): megabytes(package) for package in packages}
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:LARGEST]
    return {
        "packages": len(sizes),
        "megabytes": round(sum(sizes.values())),
        "largest": {name: round(sizes[name]) for name in largest},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", nargs="*", default=["all"], help="each is one more installation")
    parser.add_argument("--project", type=Path, default=ROOT, help="the checkout that is installed")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    for extras in ("", *options.extras):
        if options.quick:
            emit(extras=extras, **figures(asked_for(extras).values()))
            continue
        with tempfile.TemporaryDirectory() as name:
            python, took = installed(options.project.resolve(), extras, Path(name))
            (packages,) = (Path(name) / "lib").glob("*/site-packages")
            found = [each for each in distributions(path=[str(packages)]) if name_of(each.name) != "pip"]
            importing = started(python, "from onlineguard import Engine") - started(python, "pass")
            emit(extras=extras, **figures(found), seconds=round(took), importing=round(importing, 2))


if __name__ == "__main__":
    main()
