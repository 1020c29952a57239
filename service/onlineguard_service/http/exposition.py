"""Prometheus' text format, made by hand. https://prometheus.io/docs/instrumenting/exposition_formats/

A scrape is answered in the loop that answers requests. A general library checks every name and sorts every label anew
for each of some five hundred lines, for 3 to 5 ms; this takes a tenth of it.
"""

from collections.abc import Iterable, Mapping

from onlineguard_service.histogram import Histogram

MEDIA = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "onlineguard_"


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
        self.labelled(name, "gauge", about, (label,), (((at,), value) for at, value in values.items()))

    def counters(self, name: str, about: str, label: str, values: Mapping[str, float]) -> None:
        """A total for each of a label."""
        self.labelled(name + "_total", "counter", about, (label,), (((at,), value) for at, value in values.items()))

    def labelled(
        self,
        name: str,
        kind: str,
        about: str,
        labels: tuple[str, ...],
        values: Iterable[tuple[tuple[str, ...], float]],
        prefix: str = PREFIX,
    ) -> None:
        """A value for each combination of what the labels say."""
        self._family(prefix + name, kind, about)
        for told, value in values:
            pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in zip(labels, told, strict=True))
            self._lines.append(f"{prefix}{name}{{{pairs}}} {_number(value)}")

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

    def _buckets(self, name: str, label: str, found: Histogram) -> None:
        before = label and label + ","
        count = 0
        for end, count in found.rising():
            self._lines.append(f'{name}_bucket{{{before}le="{_number(end)}"}} {count}')
        labels = label and f"{{{label}}}"
        self._lines.append(f"{name}_sum{labels} {_number(found.sum)}\n{name}_count{labels} {count}")


def _number(value: float) -> str:
    """A number as Prometheus reads it.

    >>> _number(3), _number(0.5), _number(True), _number(float("inf")), _number(float("nan"))
    ('3.0', '0.5', '1.0', '+Inf', 'NaN')
    """
    text = repr(float(value))
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text, text)


def _escaped(text: str) -> str:
    r"""What a label says, which clients may have chosen.

    >>> print(_escaped('a "b"' + chr(10)))
    a \"b\"\n
    """
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
