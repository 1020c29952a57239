"""A fleet as one: what its processes tell in /metrics, added up.

IVR, FPR and coverage are ratios of counts, and counts of processes that judged different clicks add up. So the rates of
all shards, or of all services behind a router, are those of one service that was sent everything. Replicas judge clicks
that shards judge again, so theirs are not added.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.request import Request, urlopen

from onlineguard.errors import ServiceUnavailable

COUNTS = ("clicks", "robotic", "purchases", "purchases_robotic", "heavy", "heavy_robotic")
WAIT = 10.0  # seconds for an answer

_LINE = re.compile(r'onlineguard_(\w+?)(?:\{(\w+)="((?:[^"\\]|\\.)*)"\})? (\S+)')


@dataclass
class Rates:
    """Counts of clicks, and the shares that follow from them; None of nothing."""

    clicks: int = 0
    robotic: int = 0
    purchases: int = 0
    purchases_robotic: int = 0
    heavy: int = 0
    heavy_robotic: int = 0

    @property
    def ivr(self) -> float | None:
        """Share of clicks that were called robotic."""
        return _share(self.robotic, self.clicks)

    @property
    def fpr(self) -> float | None:
        """Share of purchasing clicks that had been called robotic."""
        return _share(self.purchases_robotic, self.purchases)

    @property
    def coverage(self) -> float | None:
        """Share called robotic of the clicks of sessions that click as no human does."""
        return _share(self.heavy_robotic, self.heavy)

    def add(self, name: str, count: int) -> None:
        """Add to one of the counts."""
        setattr(self, name, getattr(self, name) + count)


@dataclass
class Process:
    """What one process tells."""

    url: str
    versions: list[str]  # of the models that decide in it
    trial: Mapping[str, float]  # the share of users of each candidate
    slices: Mapping[str, Rates]  # those of most clicks
    age: float | None  # of a replica: of its oldest snapshot, in seconds; None of any other process

    @property
    def replica(self) -> bool:
        """Whether others judge again what it judges."""
        return self.age is not None


@dataclass
class Fleet:
    """All processes that were asked."""

    processes: Sequence[Process]
    slices: dict[str, Rates] = field(default_factory=dict)
    overall: Rates = field(default_factory=Rates)

    def __post_init__(self) -> None:
        for process in self.processes:
            for name, rates in process.slices.items() if not process.replica else ():
                for count in COUNTS:
                    for of in (self.overall, self.slices.setdefault(name, Rates())):
                        of.add(count, getattr(rates, count))

    @property
    def versions(self) -> list[str]:
        """Of the models that decide; one, unless a roll-out is under way."""
        return sorted({version for process in self.processes for version in process.versions})


def status(urls: Sequence[str], api_key: str | None = None) -> Fleet:
    """Ask every process for its metrics. Raises ServiceUnavailable where one does not tell them."""
    return Fleet([told(url, _metrics(url, api_key)) for url in urls])


def told(url: str, metrics: str) -> Process:
    """What a process says in the text of its metrics."""
    versions, trial, slices, ages = list[str](), dict[str, float](), dict[str, Rates](), list[float]()
    for found in map(_LINE.fullmatch, metrics.splitlines()):
        if found is None:
            continue
        name, label, of, value = found.groups()
        if label == "slice" and (count := name.removeprefix("slice_").removesuffix("_total")) in COUNTS:
            slices.setdefault(_plain(of), Rates()).add(count, int(float(value)))
        elif name == "model":
            versions.append(_plain(of))
        elif name == "trial_share":
            trial[_plain(of)] = float(value)
        elif name == "replica_age_seconds":
            ages.append(float(value))
    return Process(url, versions, trial, slices, max(ages, default=None))


def shown(fleet: Fleet) -> str:
    """A fleet as text."""
    lines = ["process  model  age of snapshots"]
    for each in fleet.processes:
        trial = "".join(f", tries {version} on {share:.1%} of users" for version, share in each.trial.items())
        age = "" if each.age is None else f"  {each.age:.0f} s"
        lines.append(f"{each.url}  {', '.join(each.versions)}{trial}{age}")
    rows = [("all", fleet.overall), *sorted(fleet.slices.items())]
    width = max(len(name) for name, _ in rows)
    lines += ["", f"{'slice':{width}}  {'clicks':>12}  {'IVR':>7}  {'purchases':>9}  {'FPR':>7}  {'coverage':>8}"]
    lines += [
        f"{name:{width}}  {rates.clicks:>12,}  {_percent(rates.ivr):>7}  {rates.purchases:>9,}  "
        f"{_percent(rates.fpr):>7}  {_percent(rates.coverage):>8}"
        for name, rates in rows
    ]
    return "\n".join(lines)


def _metrics(url: str, api_key: str | None) -> str:
    try:
        headers = {} if api_key is None else {"x-api-key": api_key}
        with urlopen(Request(url.rstrip("/") + "/metrics", headers=headers), timeout=WAIT) as answer:
            return answer.read().decode()
    except (OSError, ValueError) as error:  # a URLError too
        raise ServiceUnavailable(url, f"does not tell its metrics: {error}") from error


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.3%}"


def _plain(label: str) -> str:
    r"""The text of a label.

    >>> _plain(r'a \"b\"')
    'a "b"'
    """
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], label)
