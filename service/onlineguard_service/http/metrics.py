"""The metrics at `/metrics`. A request only increments integers here; a scrape turns them into Prometheus' families.

The counters of the core (events, anomalies, journal, ...) are read from its `status()` at the moment of the scrape.
"""

import itertools
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

import onlineguard

SECONDS = (
    *(0.0001, 0.00015, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005),
    *(0.0075, 0.01, 0.02, 0.05, 0.1, 0.5, 2.5),
)  # upper ends of the latency buckets, closest together where most requests lie
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 4_096, 16_384)  # of the batch sizes
RECENT = 5  # seconds that `latency` looks back, without the current one
STEP = 1.05  # the ratio of its buckets, from 10 us on; a latency is shown at most this factor too long
PREFIX = "onlineguard_"

_FINE = tuple(1e-5 * STEP**i for i in range(320))  # upper ends of the buckets of `latency`, to 57 s


class Metrics(Collector):
    """Counts requests, and shows Prometheus these counts and the core's status.

    status: gives the core's status; None before there is a core.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, status: Callable[[], Mapping[str, Any] | None]):
        self._status = status
        self.requests: dict[tuple[str, int], int] = {}
        self._callers: dict[str, int] = {}
        self._latency: dict[str, _Histogram] = {}
        self._items: dict[str, _Histogram] = {}
        self._recent: deque[tuple[int, _Histogram]] = deque(maxlen=RECENT + 1)  # by second, the newest last
        self.under_way = 0
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def count(self, route: str, status: int, began: float, items: int = 0) -> None:
        """Count a request that was answered.

        route: the name of one of our routes, never a path that a client chose, so that labels stay few.
        began: the time.perf_counter() when it arrived.
        items: the events, clicks or labels in it.
        """
        now = time.perf_counter()
        seconds = now - began
        key = (route, status)
        self.requests[key] = self.requests.get(key, 0) + 1
        latency = self._latency.get(route)
        if latency is None:
            latency = self._latency[route] = _Histogram(SECONDS)
        latency.add(seconds)
        if items:
            sizes = self._items.get(route)
            if sizes is None:
                sizes = self._items[route] = _Histogram(ITEMS)
            sizes.add(items)
            if not self._recent or self._recent[-1][0] != int(now):
                self._recent.append((int(now), _Histogram(_FINE)))
            self._recent[-1][1].add(seconds)

    def called(self, key: str) -> None:
        """Count a request by the name of the key that it came with."""
        self._callers[key] = self._callers.get(key, 0) + 1

    def latency(self) -> dict[str, float] | None:
        """p50 and p99 of the latest requests that were learned or scored, in ms; None if there were none.

        The work does not grow with the number of requests, since this runs once a second beside them.
        """
        after = int(time.perf_counter()) - RECENT
        histograms = [histogram.counts for second, histogram in self._recent if second >= after]
        rising = list(itertools.accumulate(map(sum, zip(*histograms, strict=True))))
        if not rising:
            return None
        return {
            name: _FINE[min(bisect_right(rising, rising[-1] * share), len(_FINE) - 1)] * 1e3
            for name, share in (("p50", 0.5), ("p99", 0.99))
        }

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """The metrics of this process, and those of the core."""
        requests = CounterMetricFamily(PREFIX + "requests", "Requests by route and status.", labels=["route", "status"])
        for (route, status), count in list(self.requests.items()):
            requests.add_metric([route, str(status)], count)
        yield requests
        callers = CounterMetricFamily(PREFIX + "key_requests", "Requests by the name of their API key.", labels=["key"])
        for key, count in list(self._callers.items()):
            callers.add_metric([key], count)
        yield callers
        yield _family("request_seconds", "Seconds from a request's headers to its answer, by route.", self._latency)
        yield _family("batch_items", "Events, clicks or labels in a request, by route.", self._items)
        yield _gauge("requests_under_way", "Requests that are being answered.", self.under_way)
        info = GaugeMetricFamily(PREFIX + "build", "The version; always 1.", labels=["version"])
        info.add_metric([onlineguard.__version__], 1)
        yield info
        status = self._status()
        yield _gauge("ready", "1 when requests are answered.", float(bool(status and status.get("ready"))))
        if status is not None:
            yield from _core(status)


class _Histogram:
    def __init__(self, ends: tuple[float, ...]):
        self.ends, self.counts, self.sum = ends, [0] * (len(ends) + 1), 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.ends, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Upper end and cumulative count of each bucket, as Prometheus wants them."""
        total, ends = 0, list[tuple[str, float]]()
        for end, count in zip((*map(float, self.ends), float("inf")), self.counts, strict=True):
            total += count
            ends.append(("+Inf" if end == float("inf") else repr(end), total))
        return ends


def _core(status: Mapping[str, Any]) -> Iterable[Metric]:
    for name, about in (
        ("events", "Events learned."),
        ("clicks", "Clicks learned."),
        ("anomalies", "Events flagged."),
        ("robotic", "Clicks decided robotic."),
        ("purchases", "Purchases that became known of clicks."),
        ("degraded", "Clicks not judged because a part had failed."),
        ("compilations", "Programs compiled; after the start only for new models and larger tables."),
    ):
        if status.get(name) is not None:
            yield CounterMetricFamily(PREFIX + name, about, value=float(status[name]))
    journal, snapshot = status.get("journal") or {}, status.get("snapshot") or {}
    history = status.get("history") or {}
    gauges = {
        "queue": ("Requests that wait for the core.", status.get("queue")),
        "journal_sequence": ("Number of the newest entry of the journal.", journal.get("sequence")),
        "journal_lag_seconds": ("How long the oldest entry that is not yet durable has waited.", journal.get("lag")),
        "journal_bytes": ("Size of the journal.", journal.get("bytes")),
        "snapshot_sequence": ("Number of the last entry in the newest snapshot.", snapshot.get("sequence")),
        "snapshot_age_seconds": ("Time since the newest snapshot.", _age(snapshot.get("t"))),
        "history_sequence": ("Number of the last entry whose clicks and labels are in files.", history.get("sequence")),
        "history_waiting_bytes": ("What waits to become a file of the history.", history.get("waiting")),
        "history_behind": (
            "1 when the history could not be written for so long that only a restart completes it.",
            history.get("behind"),
        ),
        "labels_age_seconds": (
            "Time since the newest purchase or RFM score became known.",
            _age((status.get("labels") or {}).get("last_ts")),
        ),
    }
    for name, (about, value) in gauges.items():
        if value is not None:
            yield _gauge(name, about, float(value))
    model = GaugeMetricFamily(PREFIX + "model", "The model in use; always 1.", labels=["version"])
    model.add_metric([str(status.get("model_version"))], 1)
    yield model
    ivr = GaugeMetricFamily(PREFIX + "ivr", "Share of clicks called robotic, of the busiest slices.", labels=["slice"])
    for slice_, rate in (status.get("ivr") or {}).items():
        if rate is not None:
            ivr.add_metric([str(slice_)], float(rate))
    yield ivr
    yield from _watch(status.get("watch") or {}, status.get("registry"))
    lookups = status.get("lookups")
    if lookups is not None:
        age = _age(lookups["as_of"])
        if age is not None:
            yield _gauge("lookups_age_seconds", "Time since the day ended that clicks are looked up as of.", age)
        yield _gauge("lookups_damaged", "Versions of the lookups that are passed over.", lookups["damaged"])


def _watch(watch: Mapping[str, Any], registry: Mapping[str, Any] | None) -> Iterable[Metric]:
    """How the model compares with what it promised, and the registry that it comes from."""
    if not watch:
        return
    for name, about, value in (
        ("model_age_seconds", "Time since the model went live.", _age(watch["since"])),
        ("model_watched", "1 when it is known what the model promised.", float(watch["watched"])),
    ):
        if value is not None:
            yield _gauge(name, about, value)
    alarms = CounterMetricFamily(PREFIX + "alarms", "Alarms of the live watch, by figure.", labels=["figure"])
    for figure, n in watch["n_alarms"].items():
        alarms.add_metric([figure], n)
    yield alarms
    yield CounterMetricFamily(PREFIX + "rollbacks", "Models that were taken back by themselves.", watch["rollbacks"])
    for name, about in (("promised", "The rate that the model promised."), ("seen", "The rate since it went live.")):
        family = GaugeMetricFamily(PREFIX + f"rate_{name}", about, labels=["figure", "slice"])
        for rate in watch["rates"]:
            if rate[name] is not None:
                family.add_metric([rate["figure"], rate["of"]], rate[name])
        yield family
    psi = GaugeMetricFamily(PREFIX + "psi", "Stability index of the last day against the promise.", labels=["of"])
    for name, index in watch["psi"].items():
        if index is not None:
            psi.add_metric([name], index)
    yield psi
    if registry is not None:
        yield _gauge("registry_refused", "1 when the registry's current version is not used.", registry["refused"])
        reached = registry["reached"]
        if reached is not None:
            yield _gauge("registry_age_seconds", "Time since the registry was read.", time.time() - reached)


def _family(name: str, about: str, histograms: dict[str, _Histogram]) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, about, labels=["route"])
    for route, histogram in list(histograms.items()):
        family.add_metric([route], histogram.buckets(), histogram.sum)
    return family


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, about, value=value)


def _age(ms: float | None) -> float | None:
    """Seconds since a time in ms since 1970."""
    return None if ms is None else max(0.0, time.time() - ms / 1_000)
