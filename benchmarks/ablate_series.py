"""What each part and each constant of the default detector of series is worth.

    uv run --group dev python -m benchmarks.ablate_series [--quick] [--data DIR] [--only NAME ...]

One JSON line a variant: the detector as it is, without each of its parts, and with each constant halved and doubled.

    windows           the public benchmark's standard score over 17 server metrics, own verdicts
    caught, false     labelled segments of two operations series in which an alarm is raised, and false alarms there
    synthetic         the mean of the standard scores over families of synthetic series with labelled windows
    quiet             alarms in 10,000 events of series without any, the mean over laws

One window of the server metrics is worth 3.3 points, one of the synthetic ones about .5.
"""

import argparse
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.ablate_detector import constant, forget_programs
from benchmarks.bench_series import alarms
from benchmarks.nab import PROFILES, normalised, windows_of
from benchmarks.series_streams import KPI, Labelled, cloudwatch_series, eventful, kpi_series, quiet
from benchmarks.streams import FILE
from benchmarks.workloads import emit
from onlineguard.models import forecast, landmarks, season, series, shapes, steps, stillness, surprise

FIXED = {  # what follows from others, what has no unit to be doubled in, and what only says how numbers are held
    *("BLOCK", "LEVEL", "COURSE", "LATEST", "WHOLE", "LAGS", "KEPT", "OCTAVES", "BINS", "FULL", "TINY", "LARGEST"),
    *("HUGE", "KINDS", "MOST", "LN2", "LN10", "LOG10_E", "USUAL_RATE", "USUAL_SCORES", "LEVELS", "PAUSE", "READY"),
    *("SPAN", "STRETCH", "LASTED"),
}
PARTS: dict[str, tuple[Any, str, float]] = {
    "course and level": (series, "VOTES", 0.0),
    "the season": (series, "SEASON", 100.0),
    "the residual": (series, "RESIDUAL", 100.0),
    "the stillness": (series, "STILL", 100.0),
    "usual jumps": (steps, "USUAL", 100),
    "novelty": (series, "NOVEL", 100.0),
    "the past without its oldest": (surprise, "FORGOTTEN", 0.0),
    "more surprise in a longer past": (surprise, "AGE", 0.0),
    "the tail of a record": (surprise, "LEAST_TAIL", 1e6),
    "the gate of the forecast": (forecast, "WORTH", -1e6),
    "least novelty beside a forecast": (series, "LEAST_NEW", 0.0),
}


def varied() -> list[tuple[Any, str]]:
    """Every constant that is halved and doubled: its module and its name."""
    modules = (surprise, landmarks, shapes, season, forecast, steps, stillness, series)
    return [(module, name) for module in modules for name in vars(module) if name.isupper() and name not in FIXED]


def figures(sets: dict[str, list[Labelled]]) -> dict[str, float]:
    """The figures of the detector as it stands now."""
    found = {name: alarms(parts) for name, parts in sets.items()}

    def score(name: str, family: str = "") -> float:
        pairs = zip(found[name], sets[name], strict=True)
        return normalised(
            [(flags, one.labels) for flags, one in pairs if one.name.startswith(family)], PROFILES["standard"]
        )

    families = dict.fromkeys(one.name.partition("/")[0] for one in sets["eventful"])
    result = {
        "synthetic": float(np.mean([score("eventful", f"{family}/") for family in families])),
        "quiet": 1e4 * float(np.mean([flags.mean() for flags in found["quiet"]])),
    }
    if "cloudwatch" in sets:
        pairs = list(zip(found["kpi"], sets["kpi"], strict=True))
        result |= {
            "windows": score("cloudwatch"),
            "caught": sum(bool(flags[a : b + 1].any()) for flags, one in pairs for a, b in windows_of(one.labels)),
            "false": sum(int((flags & ~one.labels).sum()) for flags, one in pairs),
        }
    return {name: round(value, 1) for name, value in result.items()}


@contextmanager
def replaced(module: Any, name: str, value: Any) -> Generator[None]:
    """A constant or a function of another value, and no program compiled before."""
    forget_programs()
    with mock.patch.object(module, name, value):
        yield
    forget_programs()


def only(kept: int) -> Any:
    """`shapes.distances` with one of the two in place of both."""
    both = shapes.distances
    return lambda course, latest: (both(course, latest)[kept],) * 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="some series, the first variants: to see that it works")
    parser.add_argument("--only", nargs="*", help="only these parts and constants")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("ONLINEGUARD_DATA"), help="folder of real data [ONLINEGUARD_DATA]"
    )
    options = parser.parse_args()
    if options.quick:
        options.only = options.only or list(PARTS)[:1]
        sets = {"eventful": eventful(1), "quiet": quiet(1, 1_000)}
    else:
        sets = {"eventful": eventful(4), "quiet": quiet(4, 10_000)}
        if options.data is not None and all((options.data / file).is_file() for file in (FILE, KPI)):
            sets |= {"cloudwatch": cloudwatch_series(options.data), "kpi": kpi_series(options.data)}

    emit(bench="ablate series", variant="as it is", **figures(sets))
    for part, (module, name, value) in PARTS.items():
        if not options.only or part in options.only:
            with replaced(module, name, value):
                emit(bench="ablate series", variant=f"without {part}", **figures(sets))
    for kept, part in enumerate(("the level", "the course")):
        if not options.only or part in options.only:
            with replaced(shapes, "distances", only(kept)):
                emit(bench="ablate series", variant=f"without {part}", **figures(sets))
    for module, name in varied():
        for factor in (0.5, 2.0):
            if not options.only or name in options.only:
                with constant(module, name, None, factor) as value:
                    emit(bench="ablate series", variant=name, value=value, **figures(sets))


if __name__ == "__main__":
    main()
