"""What a worker says of itself over HTTP: /metrics for Prometheus, /livez and /readyz for Kubernetes."""

import json
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import onlineguard
from onlineguard.errors import InvalidArgument
from onlineguard_service.guard import Guard
from onlineguard_service.http import core_metrics, process_metrics
from onlineguard_service.http.exposition import MEDIA, Exposition
from onlineguard_service.partitions.log import OUTPUTS
from onlineguard_service.shards.owner import Owner

SHOWN = 100  # slices whose rates the metrics show, of each shard those of most clicks


@contextmanager
def serving(owner: Owner, host: str, port: int) -> Generator[int]:
    """Answer until the block ends; gives the port, a free one for 0. Raises InvalidArgument where it is taken."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, MEDIA, metrics(owner))
            elif self.path == "/livez":
                self._say(owner.stuck())
            elif self.path == "/readyz":
                self._say("; ".join(owner.reasons()) or None)
            else:
                self._answer(404, "text/plain", b"there are /metrics, /livez and /readyz\n")

        def _say(self, reason: str | None) -> None:
            body = {"status": "ok"} if reason is None else {"status": "unavailable", "reason": reason}
            self._answer(200 if reason is None else 503, "application/json", json.dumps(body).encode())

        def _answer(self, status: int, media: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", media)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Scrapes are not logged."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        problem = (
            f"is {port}, where nothing can be served on {host}: {error.strerror}; take another one, or 0 for a free one"
        )
        raise InvalidArgument("metrics_port", problem) from error
    with server:
        thread = Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def metrics(owner: Owner) -> bytes:
    """The families of a scrape."""
    told, progress = Exposition(), owner.progress
    told.counter("worker_records", "Records that were applied.", progress.records)
    outputs = dict.fromkeys(OUTPUTS, 0) | progress.outputs  # a counter must be seen at 0 for Prometheus to see it rise
    told.counters("worker_outputs", "Outputs that were published, by topic.", "topic", outputs)
    told.counter("worker_partitions_gained", "Partitions that came to this process.", progress.gained)
    told.counter("worker_partitions_lost", "Partitions that went from it.", progress.lost)
    told.counter("worker_partitions_fenced", "Those of them that another process took unnoticed.", progress.fenced)
    told.counter("worker_partitions_undone", "Partitions whose log lost what was published last.", progress.undone)
    told.counter("worker_snapshots", "Snapshots that were kept.", progress.snapshots)
    told.counter("worker_snapshot_failures", "Snapshots that could not be kept.", progress.failures)
    told.gauge("worker_ready", "Whether all shards of this process go on.", float(not owner.reasons()))
    told.gauge("worker_silent_seconds", "Since the last turn ended.", owner.silent)
    told.gauge("worker_snapshot_every_seconds", "Seconds between a shard's snapshots, as was set.", owner.keeping.every)
    told.gauge("worker_log_partitions", "Partitions that the log has, whoever owns them.", owner.partitions)
    shards = {str(partition): held.shard for partition, held in sorted(owner.held.copy().items()) if held.shard}
    told.gauges(
        "shard_lag_seconds",
        "Since when there are records that the shard has not applied; 0: it has applied all.",
        "partition",
        {str(partition): lag for partition, lag in owner.behind.lags.items()},
    )
    told.gauges(
        "shard_snapshot_behind_seconds",
        "Since when the shard has applied records that no snapshot holds; 0: the newest holds all.",
        "partition",
        {str(partition): age for partition, age in owner.keeping.behind(owner.held.copy()).items()},
    )
    told.gauges(
        "shard_offset",
        "Of the record that was applied last.",
        "partition",
        {at: float(shard.offset) for at, shard in shards.items()},
    )
    for of in ("events", "clicks"):
        told.gauges(
            f"shard_{of}",
            f"{of.capitalize()} that the shard has learned.",
            "partition",
            {at: float(shard.guard.n_learned(of)) for at, shard in shards.items()},
        )
    _tell_rates(told, [held.shard.guard for held in owner.held.copy().values() if held.shard])
    told.gauges("build", "The version; always 1.", "version", {onlineguard.__version__: 1})
    process_metrics.tell(told)
    return told.text()


def _tell_rates(told: Exposition, guards: Sequence[Guard]) -> None:
    """What IVR, FPR and coverage of clicks are made of, of all shards of this process together."""
    rates: dict[str, Counter[Any]] = {}
    for guard in guards:
        for name, counts in guard.click_figures.rates(SHOWN).items():
            rates.setdefault(name, Counter()).update(counts)
    core_metrics.tell_rates(told, rates)
    told.gauges("model", "The models in use; always 1.", "version", {guard.model.version: 1 for guard in guards})
