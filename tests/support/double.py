"""A core in memory, deterministic, for tests of what stands in front of it; and its server in a thread."""

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from onlineguard_service.answering import Inferred
from onlineguard_service.config import Settings
from onlineguard_service.errors import JournalUnavailable, OnTrial
from onlineguard_service.fleet import COUNTS
from onlineguard_service.histogram import Histogram
from onlineguard_service.http.app import Application, application
from onlineguard_service.http.server import _listen, _Server  # pyright: ignore[reportPrivateUsage]

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.history.keeping import Erased
from onlineguard.wire.alarms import Acknowledged, AlarmNote, AlarmPage, AlarmsQuery, AlarmState
from onlineguard.wire.answers import ClickAnswer, DecisionAnswer, EventAnswer, LabelAnswer, VerdictAnswer
from onlineguard.wire.registry import (
    Change,
    Changed,
    ChangePage,
    Distance,
    Measured,
    Pair,
    Period,
    Promotion,
    RegistryState,
    Rollback,
    VersionDiff,
    VersionRow,
    VersionState,
)
from onlineguard.wire.requests import Click, Decision, Event, Label, Of


class Versions:
    """A registry in memory with one version. It remembers who wanted what, and fails when it is told to."""

    def __init__(self) -> None:
        self.wanted: list[tuple[Promotion | Rollback, str]] = []
        self.fails: Exception | None = None

    async def state(self, limit: int, offset: int) -> RegistryState:
        if self.fails is not None:
            raise self.fails
        facts = {"registry": "models", "generation": 1, "live": "v1", "current": "v1", "previous": None}
        return RegistryState(**facts, refused=None, versions=[VersionRow(**ROW)][offset : offset + limit], total=1)

    async def version(self, version: str) -> VersionState:
        if version != "v1":
            raise InvalidArgument("version", f"is {version!r}; models has v1")
        return VersionState(**ROW, kind="mlp", columns=["device"], guardrails=[], slices=[])

    async def changes(self, limit: int, offset: int) -> ChangePage:
        return ChangePage([CHANGE][offset : offset + limit], 1)

    async def diff(self, a: str, b: str) -> VersionDiff:
        return VersionDiff(a, b, [Pair("kind", "mlp", None)], [], [], [Distance("hour", 0.5)])

    async def promote(self, asked: Promotion, who: str) -> Changed:
        self.wanted.append((asked, who))
        if self.fails is not None:
            raise self.fails
        return Changed(CHANGE, "v1")

    async def rollback(self, asked: Rollback, who: str) -> Changed:
        self.wanted.append((asked, who))
        return Changed(CHANGE, "v1")


CHANGE = Change(generation=1, action="promote", current="v1", previous=None, replaced=None, who="me", why="a", when=5)
ROW: dict[str, Any] = {
    "version": "v1",
    "made": 5,
    "who": "me",
    "parent": None,
    "trained": Period(0, 1, 1, 10, 2),
    "calibrated": None,
    "measured": Measured(of="", threshold=None),
    "passed": 0,
    "failed": [],
    "skipped": [],
}


class Alarms:
    """Two alarms in memory; each note changes the newest."""

    def __init__(self) -> None:
        self.change = 2
        self.noted: list[tuple[str, AlarmNote, str]] = []
        self.states = {name: AlarmState(**{**ALARM, "id": name}) for name in ("ab-2", "ab-1")}
        self.changes = {1: "ab-1", 2: "ab-2"}

    async def page(self, asked: AlarmsQuery) -> AlarmPage:
        if asked.cursor == "none":
            raise InvalidArgument("cursor", "is 'none'; the double refuses it")
        listed = list(self.states.values())[asked.cursor == "ab-2" :][: asked.limit]
        return AlarmPage(listed, "ab-2" if asked.limit == 1 and asked.cursor != "ab-2" else None, 2, 2)

    def alarm(self, name: str) -> AlarmState:
        return self.states[name]

    async def note(self, name: str, note: AlarmNote, who: str) -> AlarmState:
        if name not in self.states:
            raise KeyError(name)
        self.noted.append((name, note, who))
        self.states[name] = msgspec.structs.replace(
            self.states[name], state="acknowledged", acknowledged=Acknowledged(who, 9, note.note), usual=note.usual
        )
        self.touch(name)
        return self.states[name]

    def touch(self, name: str) -> None:
        """An alarm changes."""
        self.change += 1
        self.changes = {at: each for at, each in self.changes.items() if each != name} | {self.change: name}

    def since(self, change: int, upto: int, most: int) -> list[tuple[int, AlarmState]]:
        return [(at, self.states[name]) for at, name in self.changes.items() if change < at <= upto][:most]

    def latest(self, change: int, upto: int, most: int) -> int:
        found = [at for at, _ in self.since(change, upto, len(self.changes))]
        return found[-most - 1] if len(found) > most else change


ALARM: dict[str, Any] = {
    **{"id": "ab-1", "kind": "anomaly", "of": "events", "slice": "web", "state": "open", "began": 5, "last": 6},
    **{"ended": None, "events": 2, "score": 9.0, "threshold": 2.0, "p_value": 0.001, "event_id": "e1", "event_ts": 4},
    **{"x": {"a": 9.0, "b": "text"}, "drivers": {"a": 1.0}, "reasons": {"expected": {"a": 1.0}}, "usual": False},
    **{"acknowledged": None, "watch": None},
}


class Double:
    """Scores an event with its first number, remembers what it was told, and fails when it is told to."""

    def __init__(self) -> None:
        self.learned: list[Event | Click | Label | Decision] = []
        self.version, self.sequence, self.closed = "v1", 0, False
        self.tried: str | None = None
        self.share = 0.0
        self.fails: Exception | None = None
        self.erased: list[str] = []
        self.slow = asyncio.Event()  # requests to the slice "slow" wait for it
        self.versions = Versions()
        self.alarms = Alarms()

    @staticmethod
    async def open(settings: Settings) -> "Double":
        return Double()

    async def update(self, events: list[Event]) -> list[EventAnswer]:
        if self.fails is not None:
            raise self.fails
        if any(event.slice == "slow" for event in events):
            await self.slow.wait()
        answers = await self.score(events)
        self.learned += events
        return answers

    async def score(self, events: list[Event]) -> list[EventAnswer]:
        return [self._judged(index, event) for index, event in enumerate(events)]

    def _judged(self, index: int, event: Event) -> EventAnswer:
        if event.slice == "wrong":
            raise InvalidArgument(f"event {index}: slice is 'wrong'; the double refuses it")
        numbers = event.x if event.x is not None else list((event.features or {}).values())
        score = numbers[0] if numbers else None
        return EventAnswer(event.slice, score, 2.0, 0.5, bool(score and score > 2.0), True, event.id)

    async def clicks(self, clicks: list[Click]) -> list[ClickAnswer]:
        self.learned += clicks
        verdict = VerdictAnswer(1.0, 2.0, 0.5, False, True)
        return [
            ClickAnswer(click.click_id, "valid", 0.25, 0.9, click.device, self.version, verdict) for click in clicks
        ]

    async def labels(self, labels: list[Label]) -> list[LabelAnswer]:
        self.learned += labels
        return [LabelAnswer(label.click_id, False) for label in labels]

    async def decisions(self, decisions: list[Decision]) -> list[DecisionAnswer]:
        self.learned += decisions
        return [DecisionAnswer(each.click_id, "applied", True, each.standing) for each in decisions]

    async def infer(self, X: np.ndarray, codes: np.ndarray | None, slices: list[str] | None) -> Inferred:
        if isinstance(self.fails, InvalidArgument):
            raise self.fails
        return Inferred(self.version, X[:, 0], None if slices is None else np.full(len(X), 0.5))

    async def switch(self, folder: Path, force: bool = False) -> str:
        if folder.name != "model-2":
            raise InvalidArgument(f"model {folder} is not there")
        self.version = "v2"
        return self.version

    async def switch_to(self, version: str, force: bool = False) -> str:
        return await self.switch(Path(version), force)

    async def try_folder(self, folder: Path, share: float, force: bool = False) -> dict[str, Any]:
        if folder.name != "model-2":
            raise InvalidArgument(f"model {folder} is not there")
        return await self.try_version("v2", share)

    async def try_version(self, version: str, share: float, force: bool = False) -> dict[str, Any]:
        if self.tried not in (None, version):
            raise OnTrial(self.tried)
        self.tried, self.share = version, share
        return self.trial()

    async def end_trial(self) -> dict[str, Any]:
        self.tried = None
        return self.trial()

    def trial(self) -> dict[str, Any]:
        arm = {"clicks": 9, "robotic": 2, "purchases": 1, "robotic_purchases": 0}
        counts = {"clicks": 10, "live": 2, "candidate": 3, "only_live": 1, "only_candidate": 2}
        counts |= {"purchases": 1, "purchases_live": 0, "purchases_candidate": 0}
        counts |= {"heavy": 4, "heavy_live": 2, "heavy_candidate": 3}
        both = {"of": "", **counts, "by_live": arm, "by_candidate": {**arm, "clicks": 1}}
        running = self.tried is not None
        return {
            "running": running,
            "version": self.tried,
            "live": self.version,
            "share": self.share,
            "since": 1_000 if running else None,
            "ended": None,
            "why": "",
            "overall": both if running else None,
            "slices": [{**both, "of": "phone / US / true"}] if running else [],
            "watched": False,
            "rates": [],
            "alarms": [],
        }

    def model_version(self) -> str:
        return self.version

    def watch(self) -> dict[str, Any]:
        rate = {"figure": "fpr", "of": "", "promised": 0.01, "seen": 0.02, "n": 100}
        alarm = {"t": 5, "model_version": "v1", "figure": "fpr", "of": "", "promised": 0.01, "seen": 0.02}
        return {
            "model_version": self.version,
            "since": 1_000,
            "watched": True,
            "clicks": 2,
            "within": 512,
            "rates": [rate],
            "psi": {"scores": 0.1, "features": None},
            "alarms": [{**alarm, "limit": 0.015, "clicks": 2}],
            "rollbacks": 1,
        }

    async def snapshot(self) -> int:
        if isinstance(self.fails, JournalUnavailable):
            raise self.fails
        self.sequence += 1
        return self.sequence

    async def erase(self, user_id: str) -> Erased:
        if isinstance(self.fails, JournalUnavailable):
            raise self.fails
        self.erased.append(user_id)
        return Erased(2, 1)

    def explain(self, event: Event | Click) -> dict[str, Any]:
        slice_ = event.device if isinstance(event, Click) else event.slice
        verdict = msgspec.to_builtins(VerdictAnswer(1.0, 2.0, 0.5, False, True))
        return {
            "slice": slice_,
            **verdict,
            "drivers": {"a": 0.75, "b": 0.25},
            "reasons": {"nearest": {"a": 1.0, "b": None}, "pair": ["a", "b"]},
        }

    async def slices(
        self, of: Of | None, sort: str, descending: bool, limit: int, offset: int, contains: str
    ) -> dict[str, Any]:
        rows = [self._row(key) for key in ("web", 7, ["a", 1])][offset : offset + limit]
        return {"slices": rows[::-1] if descending else rows, "total": 3, "found": 3, "asked": [of, sort, contains]}

    def slice(self, of: Of, key: Any) -> dict[str, Any]:
        if key not in ("phone / US / true", "web", 7, ("a", 1)):
            raise KeyError(key)
        history = {"ts": [1], "score": [0.5], "threshold": [2.0], "anomalous": [False]}
        return {**self._row(key), "history": history, "drivers": None}

    def _row(self, key: Any) -> dict[str, Any]:
        return {"of": "events", "slice": key, "events": 3, "anomalies": 1, "last_ts": None, "score": 0.5} | {
            "threshold": 2.0, "drift": 0.0, "ivr": None, "fpr": None, "p_robot": None, "robot_threshold": None
        }  # fmt: skip

    def live(self) -> dict[str, Any]:
        return {"t": 1, "model_version": self.version, "marks": [], "rates": {"events": 1, "clicks": 0}, "ivr": None}

    def reasons(self) -> list[str]:
        return []

    def degraded(self) -> list[str]:
        return []

    def status(self) -> dict[str, Any]:
        return {
            "ready": True,
            "reasons": [],
            "events": len(self.learned),
            "clicks": 2,
            "anomalies": 1,
            "robotic": 1,
            "degraded": 0,
            "duplicates": 7,
            "conflicts": 1,
            "purchases_robotic": 1,
            "slices": {of: {"held": 2, "born": 3, "evicted": 1} for of in ("events", "clicks")},
            "lookups": {"version": "2026-03-09", "as_of": 0, "damaged": 0},
            "entities": {"users": 4},
            "namespaces": {"acme": {"events": 1, "clicks": 2, "slices": 3}},
            "evicted": {"users": 1},
            "journal": {"sequence": 5, "age": 2.0, "lag": 0.25, "bytes": 1_000, "waiting": 3, "slow": True}
            | {"syncs": Histogram()},
            "snapshot": {"sequence": 4, "t": 1_000, "behind": 9.0, "every": 60.0, "failures": 2},
            "redis": {"seconds": {"counters": Histogram()}, "failures": {"counters": 5}},
            "history": {"sequence": 1, "waiting": 0, "behind": False},
            "queue": 0,
            "compilations": 9,
            "labels": {"last_ts": None},
            "model_version": self.version,
            "ivr": {f"slice {n}": 0.5 for n in range(150)},
            "rates": {name: {"slice 0": 1} for name in COUNTS},
            "replica": {"loaded": 1, "seconds": 0.1, "ages": {"0": 4.0}},
            "purchases": 3,
            "delayed": {"applied": 4, "repeated": 0, "conflict": 1},
            "alarms": {"begun": {"anomaly": 2, "watch": 0, "trial": 0}, "open": 2},
            "webhook": {"sent": 3, "failures": 2, "dropped": 1, "waiting": 4, "age": 5.0, "gone": False},
            "watch": {**self.watch(), "n_alarms": {"fpr": 1}},
            "trial": {**self.trial(), "ended_by_itself": 1},
            "registry": {"reached": 1_000.0, "refused": False, "refusals": 0},
        }

    async def close(self) -> None:
        self.closed = True


def ask(
    app: Application,
    method: str,
    path: str,
    body: bytes = b"",
    kind: str | None = "application/json",
    headers: dict[str, str] | None = None,
    parts: int = 1,
    client: str = "192.0.2.1",
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one request, called as ASGI, the body in so many parts."""
    target, _, query = path.partition("?")
    size = -(-len(body) // parts) or 1
    pieces = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
    sent = [
        {"type": "http.request", "body": piece, "more_body": index < len(pieces) - 1}
        for index, piece in enumerate(pieces)
    ]
    got: list[dict[str, Any]] = []
    named = ({} if kind is None else {"content-type": kind}) | (headers or {})
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": target,
        "raw_path": target.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in named.items()],
        "client": (client, 1234),
        "server": ("127.0.0.1", 80),
    }

    async def receive() -> Any:
        return sent.pop(0) if sent else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        got.append(message)

    asyncio.run(app(scope, receive, send))
    if not got:
        return 0, {}, b""
    received = {name.decode(): value.decode() for name, value in got[0]["headers"]}
    return got[0]["status"], received, b"".join(message.get("body", b"") for message in got[1:])


@contextmanager
def served(settings: Settings | None = None, core: Double | None = None, opening: Any = Double.open) -> Generator[str]:
    """The address of a real server in a thread, gone with the block; in front of a core, or of one that it opens."""
    settings = settings or Settings(port=0, grace=1.0)
    listening = _listen(settings)
    port = listening.getsockname()[1]
    app = application(None, settings)
    server = _Server(app, settings)
    server.capture_signals = _no_signals  # type: ignore[method-assign]  # only a main thread has them

    began = threading.Event()

    async def main() -> None:
        opened = core or await opening(settings)
        app.begin(opened)
        began.set()
        await server.serve([listening])
        await opened.close()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        while thread.is_alive() and not began.wait(0.1):
            pass
        yield f"{'https' if settings.tls_cert else 'http'}://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@contextmanager
def _no_signals() -> Generator[None]:
    yield
