"""The metrics at `/metrics`. A request only increments integers here; a scrape turns them into Prometheus' text.

The counters of the core (events, anomalies, journal, ...) are read from its `status()` at the moment of the scrape.
"""

import itertools
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import onlineguard
from onlineguard_service.histogram import Histogram
from onlineguard_service.http import core_metrics, process_metrics
from onlineguard_service.http.exposition import MEDIA, Exposition
from onlineguard_service.standing import Standing

ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 4_096, 16_384)  # of the batch sizes
LAGS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # of the loop, in seconds
FRESH = 1.0  # seconds for which a text is given to all who ask, so that asking without end costs others little
RECENT = 5  # seconds that `latency` looks back, without the current one
STEP = 1.05  # the ratio of its buckets, from 10 us on; a latency is shown at most this factor too long

_FINE = tuple(1e-5 * STEP**i for i in range(320))  # upper ends of the buckets of `latency`, to 57 s


class Metrics:
    """Counts requests, and shows Prometheus these counts and the core's status.

    status: gives the core's status; None before there is a core.
    connections, bodies: how many are open, and the bytes of large bodies under way.
    standing: how a standby stands; None of a service that is none.
    """

    content_type = MEDIA

    def __init__(
        self,
        status: Callable[[], Mapping[str, Any] | None],
        connections: Callable[[], int] = lambda: 0,
        bodies: Callable[[], int] = lambda: 0,
        standing: Standing | None = None,
    ):
        self._status, self._standing = status, standing
        self.connections, self._bodies = connections, bodies
        self.requests: dict[tuple[str, int], int] = {}
        self._callers: dict[str, int] = {}
        self._latency: dict[str, Histogram] = {}
        self._items: dict[str, Histogram] = {}
        self._recent: deque[tuple[int, Histogram]] = deque(maxlen=RECENT + 1)  # by second, the newest last
        self.under_way = 0
        self.lag = Histogram(LAGS)  # seconds by which the event loop was late
        self._text, self._made = b"", -FRESH

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
            latency = self._latency[route] = Histogram()
        latency.add(seconds)
        if items:
            sizes = self._items.get(route)
            if sizes is None:
                sizes = self._items[route] = Histogram(ITEMS)
            sizes.add(items)
            if not self._recent or self._recent[-1][0] != int(now):
                self._recent.append((int(now), Histogram(_FINE)))
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
        """All metrics in Prometheus' text format, at most `FRESH` seconds old."""
        now = time.monotonic()
        if now - self._made >= FRESH:
            self._text, self._made = self._told(), now
        return self._text

    def _told(self) -> bytes:
        into = Exposition()
        requests = (((route, str(status)), count) for (route, status), count in self.requests.items())
        into.labelled("requests_total", "counter", "Requests by route and status.", ("route", "status"), requests)
        into.counters("key_requests", "Requests by the name of their API key.", "key", self._callers)
        seconds = "Seconds from a request's headers to its answer, by route."
        into.histograms("request_seconds", seconds, "route", self._latency)
        into.histograms("batch_items", "Events, clicks or labels in a request, by route.", "route", self._items)
        into.gauge("requests_under_way", "Requests that are being answered.", self.under_way)
        into.gauge("connections", "Connections that are open.", self.connections())
        into.gauge("bodies_bytes", "Bytes of the large requests that are read or answered.", self._bodies())
        into.histogram("loop_lag_seconds", "Seconds by which the event loop was late.", self.lag)
        into.gauges("build", "The version; always 1.", "version", {onlineguard.__version__: 1})
        status = self._status()
        into.gauge("ready", "1 when requests are answered.", bool(status and status.get("ready")))
        standing = self._standing
        into.gauge("standby", "1 while it follows another service.", standing is not None and standing.follows)
        if standing is not None and standing.follows:
            into.gauge("standby_sequence", "The newest entry that the standby has applied.", standing.sequence)
            into.gauge("standby_lag_seconds", "Seconds by which the standby is behind.", standing.lag)
        if status is not None:
            core_metrics.tell(into, status)
        process_metrics.tell(into)
        return into.text()
