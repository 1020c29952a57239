"""Prometheus' text format, made by hand. https://prometheus.io/docs/instrumenting/exposition_formats/

A scrape is answered in the loop that answers requests. A general library checks every name and every label anew for
each of some five hundred lines, which takes it six times as long.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import accumulate
from math import inf

from onlineguard_service.histogram import Histogram

MEDIA = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "onlineguard_"

_NO_NUMBERS = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}


class Exposition:
    """The families of one scrape, in the order in which they are told; all but the process's names get the prefix."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def gauge(self, name: str, about: str, value: float | None, prefix: str = PREFIX) -> None:
        """One value; None: there is none now."""
        if value is not None:
            self._family(prefix + name, "gauge", about)
            self._lines.append(f"{prefix}{name} {_number(value)}")

    def counter(self, name: str, about: str, value: float | None, prefix: str = PREFIX) -> None:
        """One total, whose name gets the end `_total`; None: there is none."""
        if value is not None:
            self._family(f"{prefix}{name}_total", "counter", about)
            self._lines.append(f"{prefix}{name}_total {_number(value)}")

    def gauges(self, name: str, about: str, label: str, values: Mapping[str, float]) -> None:
        """A value for each of a label."""
        self._family(PREFIX + name, "gauge", about)
        self._each(PREFIX + name, label, values)

    def counters(self, name: str, about: str, label: str, values: Mapping[str, float], prefix: str = PREFIX) -> None:
        """A total for each of a label."""
        self._family(f"{prefix}{name}_total", "counter", about)
        self._each(f"{prefix}{name}_total", label, values)

    def labelled(
        self,
        name: str,
        kind: str,
        about: str,
        labels: tuple[str, str],
        values: Iterable[tuple[tuple[str, str], float]],
    ) -> None:
        """A value for each pair of what two labels say."""
        self._family(PREFIX + name, kind, about)
        one, other = labels
        for (first, second), value in values:
            pair = f'{one}="{_escaped(first)}",{other}="{_escaped(second)}"'
            self._lines.append(f"{PREFIX}{name}{{{pair}}} {_number(value)}")

    def histogram(self, name: str, about: str, found: Histogram | None) -> None:
        """One histogram; None: there is none."""
        if found is not None:
            self._family(PREFIX + name, "histogram", about)
            self._buckets(PREFIX + name, "", found)

    def histograms(self, name: str, about: str, label: str, found: Mapping[str, Histogram]) -> None:
        """A histogram for each of a label."""
        self._family(PREFIX + name, "histogram", about)
        for at, histogram in found.items():
            self._buckets(PREFIX + name, f'{label}="{_escaped(at)}"', histogram)

    def text(self) -> bytes:
        """All of it, as it is sent."""
        return ("\n".join(self._lines) + "\n").encode()

    def _family(self, name: str, kind: str, about: str) -> None:
        self._lines.append(f"# HELP {name} {about}\n# TYPE {name} {kind}")

    def _each(self, name: str, label: str, values: Mapping[str, float]) -> None:
        begin = f'{name}{{{label}="'
        self._lines += [f'{begin}{_escaped(at)}"}} {_number(value)}' for at, value in values.items()]

    def _buckets(self, name: str, label: str, found: Histogram) -> None:
        rising = list(accumulate(found.counts))
        self._lines += [
            begin + str(count) for begin, count in zip(_begun(name, label, found.ends), rising, strict=True)
        ]
        labels = label and f"{{{label}}}"
        self._lines.append(f"{name}_sum{labels} {_number(found.sum)}\n{name}_count{labels} {rising[-1]}")


@lru_cache(256)
def _begun(name: str, label: str, ends: tuple[float, ...]) -> list[str]:
    """How the lines of a histogram's buckets begin: of few labels, which are not those that clients choose."""
    before = label and label + ","
    return [f'{name}_bucket{{{before}le="{_number(end)}"}} ' for end in (*ends, inf)]


def _number(value: float) -> str:
    """A number as Prometheus reads it.

    >>> _number(3), _number(0.5), _number(True), _number(float("inf")), _number(float("nan"))
    ('3.0', '0.5', '1.0', '+Inf', 'NaN')
    """
    text = repr(float(value))
    return text if value - value == 0.0 else _NO_NUMBERS[text]


def _escaped(text: str) -> str:
    r"""What a label says, which clients may have chosen.

    >>> print(_escaped('a "b"' + chr(10)))
    a \"b\"\n
    """
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
