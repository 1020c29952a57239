"""Condition: what a service says of itself: whether it answers, what does not work as it should, and its counts.

Whatever is asked here takes no time, however many slices there are: totals are kept, not summed.
"""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax

from onlineguard import programs
from onlineguard_service import entries
from onlineguard_service.answering import Shared
from onlineguard_service.guard import Guard
from onlineguard_service.histogram import Histogram
from onlineguard_service.journal.journal import Journal
from onlineguard_service.recovery import in_redis
from onlineguard_service.snapshotting import Snapshotting
from onlineguard_service.webhook import Webhook

if TYPE_CHECKING:
    from onlineguard_service.journal.redis_journal import RedisJournal
    from onlineguard_service.redis.counting import Counting

SHOWN = 100  # slices whose IVR the metrics show, those of most clicks: more would burden Prometheus
MINUTE = 60  # seconds that the page's IVR is taken over


class Condition:
    """See this module. Made once the state is recovered: what came again before does not count."""

    def __init__(
        self, guard: Guard, journal: Journal, snapshotting: Snapshotting, shared: Shared, webhook: Webhook | None
    ):
        self._guard, self._journal, self._snapshotting = guard, journal, snapshotting
        self._shared, self._webhook = shared, webhook
        self._again_before = self._again()
        self._ticks: deque[tuple[float, int, int, int]] = deque(maxlen=MINUTE + 1)  # when, events, clicks, robotic

    def degraded(self) -> list[str]:
        """What does not work as it should although requests are answered, a sentence a part."""
        counting, history = self._shared.counting, self._history()
        troubles = {
            "journal": self._journal.trouble,
            "counters": None if counting is None else counting.trouble,
            "snapshot": self._snapshotting.trouble,
            "webhook": None if self._webhook is None else self._webhook.trouble,
            "history": "a restart completes it once there is room" if history and history["behind"] else None,
        }
        return [f"{part}: {trouble}" for part, trouble in troubles.items() if trouble is not None]

    def live(self, degraded: list[str]) -> dict[str, Any]:
        """What the page shows of this moment but for latencies; rates are since the call before."""
        events, clicks = (figures.totals() for figures in (self._guard.event_figures, self._guard.click_figures))
        self._ticks.append((time.monotonic(), events["events"], clicks["events"], clicks["robotic"]))
        oldest, (now, n_events, n_clicks, robotic) = self._ticks[0], self._ticks[-1]
        before = self._ticks[-2] if len(self._ticks) > 1 else self._ticks[-1]
        passed = max(now - before[0], 1e-3)
        return {
            "t": entries.now(),
            "model_version": self._guard.model.version,
            "marks": [{"t": t, "model_version": version} for t, version in self._guard.marks],
            "rates": {"events": (n_events - before[1]) / passed, "clicks": (n_clicks - before[2]) / passed},
            "ivr": (robotic - oldest[3]) / (n_clicks - oldest[2]) if n_clicks > oldest[2] else None,
            "alarms": {"change": self._guard.alarms.change, "open": self._guard.alarms.n_open},
            "parts": {**self._shown_parts(), "degraded": degraded},
        }

    def _shown_parts(self) -> dict[str, Any]:
        """The parts of the service as the page shows them."""
        parts, redis = self._parts(), self._redis()
        syncs = parts["journal"].pop("syncs")
        return {
            **parts,
            "slices": {"events": len(self._guard.event_figures), "clicks": len(self._guard.click_figures)},
            "syncs": None if syncs is None else _took(syncs),
            "redis": redis and {of: _took(seconds) for of, seconds in redis["seconds"].items()},
            "failures": redis and redis["failures"],
        }

    def status(self) -> dict[str, Any]:
        """What the metrics show."""
        spaces = {"": self._guard, **self._guard.namespaces}
        by_space = {name: (one.event_figures.totals(), one.click_figures.totals()) for name, one in spaces.items()}
        events, clicks = (_summed(totals) for totals in zip(*by_space.values(), strict=True))
        duplicates, conflicts = (n - before for n, before in zip(self._again(), self._again_before, strict=True))
        stores = [one.store for one in spaces.values() if one.store is not None]
        return {
            "events": events["events"],
            "clicks": clicks["events"],
            "anomalies": events["anomalies"] + clicks["anomalies"],
            "robotic": clicks["robotic"],
            "degraded": self._shared.degraded,
            "duplicates": duplicates,
            "conflicts": conflicts,
            "slices": {
                "events": _summed([one.event_figures.tables() for one in spaces.values()]),
                "clicks": _summed([one.click_figures.tables() for one in spaces.values()]),
            },
            "entities": _summed([store.sizes() for store in stores]) if stores else None,
            "namespaces": {
                name: {
                    "events": events["events"],
                    "clicks": clicks["events"],
                    "slices": sum(each.tables()["held"] for each in (one.event_figures, one.click_figures)),
                }
                for (name, (events, clicks)), one in zip(by_space.items(), spaces.values(), strict=True)
                if name
            },
            **self._parts(),
            "redis": self._redis(),
            "history": self._history(),
            "queue": self._shared.queue,
            "compilations": Compilations.seen,
            "labels": {"last_ts": self._guard.label_t},
            "model_version": self._guard.model.version,
            "ivr": self._guard.click_figures.ivr(SHOWN),
            "rates": self._guard.click_figures.rates(SHOWN),
            "purchases": clicks["purchases"],
            "purchases_robotic": clicks["purchases_robotic"],
            "evicted": _summed([store.evicted for store in stores]) if stores else {},
            "delayed": self._shared.delayed,
            "alarms": {"begun": self._guard.alarms.begun, "open": self._guard.alarms.n_open},
            "webhook": None if self._webhook is None else self._webhook.status(),
            "watch": {**self._guard.watching.shown(), "n_alarms": self._guard.watching.n_alarms},
            "trial": {**self._guard.trying.shown(), "ended_by_itself": self._guard.trying.n_ended_by_itself},
            "registry": self._shared.deciding.registry(),
            "lookups": self._looked_up(),
        }

    def _parts(self) -> dict[str, Any]:
        """Where the journal and its snapshots stand."""
        snapshots = self._snapshotting
        return {
            "journal": {
                "sequence": self._journal.sequence,
                "age": None if snapshots.newest is None else time.monotonic() - snapshots.newest,
                "lag": self._journal.lag,
                "bytes": self._journal.size,
                "waiting": self._journal.waiting,
                "slow": self._journal.trouble is not None,
                "syncs": None if in_redis(self._journal) else self._journal.seconds,
            },
            "snapshot": {
                "sequence": snapshots.sequence,
                "t": snapshots.t,
                "behind": snapshots.behind,
                "every": snapshots.every,
                "failures": snapshots.failures,
            },
        }

    def _looked_up(self) -> dict[str, Any] | None:
        lookups = self._shared.lookups
        if lookups is None:
            return None
        version = lookups.in_force(entries.now())
        return {
            "version": version and version.name,
            "as_of": version and version.about.as_of,
            "damaged": len(lookups.damaged),
        }

    def _redis(self) -> dict[str, Any] | None:
        """How Redis answers, by what it is asked for; None where it is not used."""
        counting = self._shared.counting
        found: dict[str, Counting | RedisJournal] = {} if counting is None else {"counters": counting}
        if in_redis(self._journal):
            found["journal"] = self._journal
        if not found:
            return None
        return {
            "seconds": {of: part.seconds for of, part in found.items()},
            "failures": {of: part.failures for of, part in found.items()},
        }

    def _history(self) -> dict[str, Any] | None:
        recorder = self._guard.recorder
        if recorder is None:
            return None
        return {"sequence": recorder.closed, "waiting": recorder.waiting, "behind": recorder.behind}

    def _again(self) -> list[int]:
        """How many duplicates came, and how many conflicts, since the state began."""
        spaces = (self._guard, *self._guard.namespaces.values())
        return [sum(counts) for counts in zip(*(one.again for one in spaces), strict=True)]


def _took(measured: Histogram) -> dict[str, float]:
    """How often something was done, and the seconds that it took in all."""
    return {"count": len(measured), "seconds": measured.sum}


def _summed(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The sum of each count; all have the same."""
    return {name: sum(each[name] for each in counts) for name in counts[0]}


class Compilations:
    """How many programs XLA has compiled since `listen` was called, but for those that are only to be kept."""

    seen = 0
    _listening = False

    @classmethod
    def listen(cls) -> None:
        """Begin to count."""
        if not cls._listening:
            cls._listening = True
            jax.monitoring.register_event_duration_secs_listener(cls._heard)

    @classmethod
    def _heard(cls, event: str, duration_secs: float, **kwargs: str | int) -> None:
        cls.seen += event.endswith("backend_compile_duration") and not programs.keeping()
