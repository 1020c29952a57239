"""What every experiment shares: its command line, seeds, progress, confidence intervals, plot style and results.

An experiment is a function from `Options` to its results and figures; nothing of it is written before all of it is
done, so a run that breaks off leaves what was there before.
"""

import argparse
import json
import math
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.pyplot import close
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from scipy import stats

from onlineguard import atomic

DIGITS = 6  # significant digits of a number in results.json: what another order of summation could change is beyond

# One colour a role in every figure of every experiment, told apart by colour-blind readers as well (Okabe and Ito).
COLOURS = {
    "ours": "#D55E00",
    "derived": "#0072B2",
    "constant": "#56B4E9",
    "decay": "#009E73",
    "unclipped": "#CC79A7",
    "frozen": "#7F7F7F",
    "peer": "#B8860B",
    "peer 2": "#8C6BB1",
    "peer 3": "#4D4D4D",
    "truth": "#000000",
}

console = Console(stderr=True)


class ExperimentError(Exception):
    """What the user can mend, said in one sentence; the command ends with it and exit code 2."""


@dataclass(frozen=True)
class Options:
    """What the command line said."""

    quick: bool  # a run of well under a minute, to show that all works
    seeds: int
    out: Path  # where results.json and the figures go
    data: Path | None


@dataclass(frozen=True)
class Outcome:
    """What an experiment found."""

    results: Mapping[str, Any]  # goes into results.json: numbers, strings, lists and dicts
    figures: Mapping[str, Figure]  # by name, without ending
    table: str  # what is printed at the end, in Markdown


def main(
    experiment: Callable[[Options], Outcome],
    file: str,
    seeds: int,
    quick_seeds: int = 2,
    takes_data: bool = False,
    arguments: Sequence[str] | None = None,
) -> None:
    """Run an experiment from the command line: `file` is its own, whose docstring and folder it goes by.

    A full run writes beside the experiment, a quick one into `quick/` there, unless `--out` says otherwise.
    """
    home = Path(file).resolve().parent
    description = (sys.modules["__main__"].__doc__ or "") if arguments is None else ""
    parser = argparse.ArgumentParser(
        prog=f"python -m experiments.{home.name}",
        description=description or experiment.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="a run of less than a minute: fewer seeds, shorter streams"
    )
    parser.add_argument(
        "--seeds", type=int, help=f"independent repetitions (default {seeds}, with --quick {quick_seeds})"
    )
    parser.add_argument("--out", type=Path, help=f"folder for results.json and figures (default {home.name}/)")
    if takes_data:
        parser.add_argument("--data", type=Path, help="folder of the data (default: ONLINEGUARD_DATA, else a download)")
    given = parser.parse_args(arguments)
    if given.seeds is not None and given.seeds < 2:
        parser.error(f"--seeds is {given.seeds}; an interval needs at least 2")
    out = given.out or (home / "quick" if given.quick else home)
    options = Options(
        given.quick, given.seeds or (quick_seeds if given.quick else seeds), out, getattr(given, "data", None)
    )
    try:
        check_writable(out)
        outcome = experiment(options)
        publish(outcome, out)
    except ExperimentError as error:
        console.print(f"[red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        console.print("interrupted; nothing was written")
        sys.exit(130)
    print(outcome.table)
    print(f"\nwrote results.json and {len(outcome.figures)} figures into {out}")


def rng(*key: int) -> np.random.Generator:
    """Random numbers of their own for each key, e.g. an experiment's cell and seed."""
    return np.random.default_rng([len(key), *key])  # without the length, (1,) and (1, 0) would draw the same


def over[K, R](work: Callable[[K], R], keys: Sequence[K], what: str, processes: int | None = None) -> list[R]:
    """`work` of every key, in the order of the keys, in as many processes as there are cores, under a progress bar.

    `work` is a function of a module, and its keys and results can be pickled. Which process does what changes nothing.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    count = processes or len(
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(what, total=len(keys))
        if count == 1:
            return [result for result in map(work, keys) if bar.advance(task) is None]
        with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
            futures = [pool.submit(work, key) for key in keys]
            for future in futures:
                future.add_done_callback(lambda _: bar.advance(task))
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its confidence interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.high - self.mean:.3f}"

    def as_list(self) -> list[float]:
        return [self.mean, self.low, self.high]


def interval(values: Any, level: float = 0.95) -> Interval:
    """Student's t interval of the mean of independent values, one a seed; NaN values are left out."""
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return Interval(math.nan, math.nan, math.nan)
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, math.nan, math.nan)
    half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)


def style() -> None:
    """The look of every figure; also chooses a backend that needs no screen."""
    matplotlib.use("Agg")
    matplotlib.rcParams.update(
        {
            "font.size": 9,
            "axes.titlesize": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#E5E5E5",
            "grid.linewidth": 0.6,
            "legend.frameon": False,
            "lines.linewidth": 1.4,
            "figure.dpi": 100,
            "savefig.dpi": 150,
            "figure.constrained_layout.use": True,
        }
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows as a Markdown table, columns padded so that it also reads well in a terminal."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def check_writable(out: Path) -> None:
    """Raise ExperimentError now, and not after the work, if nothing can be written there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise ExperimentError(f"--out {out} cannot be written to: {error.strerror}; name another folder") from error


def publish(outcome: Outcome, out: Path) -> None:
    """Write results.json and the figures: all of them, or on an error none."""
    out.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".partial-", dir=out))
    try:
        text = json.dumps(_rounded(outcome.results), indent=1, allow_nan=False) + "\n"
        (staging / "results.json").write_text(text)
        for name, figure in outcome.figures.items():
            figure.savefig(staging / f"{name}.png", metadata={"Software": None})
        for path in sorted(staging.iterdir()):
            atomic.move(path, out / path.name)
    except OSError as error:
        raise ExperimentError(
            f"results cannot be written to {out}: {error.strerror}; free space, or use --out"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        for figure in outcome.figures.values():
            close(figure)


def _rounded(value: Any) -> Any:
    """Plain JSON values: numbers to DIGITS significant digits, what is not finite as null."""
    if isinstance(value, Interval):
        return _rounded(value.as_list())
    if isinstance(value, Mapping):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _rounded(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    if isinstance(value, (bool, np.bool, str)) or value is None:
        return bool(value) if isinstance(value, np.bool) else value
    if isinstance(value, (int, np.integer)):
        return int(value)
    number = float(value)
    return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else None
