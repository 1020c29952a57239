"""The registry as clients and the page see it: read beside the requests, kept, and changed by whoever may.

A registry may be slow, far away or gone, and nothing else shall suffer from that:

- Reading and changing are done aside. A request waits for `PATIENCE` at most and is then refused, while the reading
  goes on for the next one. A question that is being answered is not asked twice, and there is one change at a time.
- Versions and changes never change, so each is read once. What is listed is listed anew after `FRESH` seconds, which
  takes one look into each of two folders.
- The model that decides is known without the registry, and also where there is none.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from onlineguard.errors import Conflict, InvalidArgument
from onlineguard.records.versions import Change, Record
from onlineguard.slidr.model import Model
from onlineguard.slidr.pipeline import slice_name
from onlineguard.slidr.registry.diff import difference
from onlineguard.slidr.registry.registry import Registry
from onlineguard.wire.registry import (
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
from onlineguard_service.aside import aside
from onlineguard_service.config import masked
from onlineguard_service.errors import RegistryUnavailable
from onlineguard_service.following import Following
from onlineguard_service.guard import Guard

PATIENCE = 4.0  # seconds for which a request waits for the registry; the page gives up after six
CHANGE_PATIENCE = 30.0  # the same for a change, which must not be left in doubt without need
FRESH = 2.0  # seconds
KEPT = 64  # versions and comparisons that are kept whole
ASKED = 16  # questions that may be under way

NO_REGISTRY = (
    "is not set; start the service with --registry FOLDER|URL to keep versions of models, and to promote and roll back"
)

log = logging.getLogger("onlineguard.service")


class _Listed(NamedTuple):
    rows: list[VersionRow]  # the newest first
    changes: list[Change]  # the oldest first


class Versions:
    """See this module. `follow` has the service take what is current in the registry."""

    def __init__(self, guard: Guard, following: Following | None, follow: Callable[[], Awaitable[None]]):
        self._guard, self._following, self._follow = guard, following, follow
        self._under_way: dict[Hashable, asyncio.Future[Any]] = {}
        self._whole: OrderedDict[Hashable, Any] = OrderedDict()
        self._rows: dict[str, VersionRow] = {}
        self._changes: list[Change] = []
        self._listed: tuple[float, _Listed] | None = None
        self._change: asyncio.Future[Change] | None = None
        self._followed: asyncio.Future[None] | None = None  # kept, since asyncio itself does not

    async def state(self, limit: int, offset: int) -> RegistryState:
        """The versions, the newest first, and the live model before them if it is not among them.

        Raises RegistryUnavailable.
        """
        live, following = self._guard.model, self._following
        listed = _Listed([], []) if following is None else await self._list(following.registry)
        rows = listed.rows
        if all(row.version != live.version for row in rows):
            rows = [VersionRow(**_facts(live.version, None, live)), *rows]
        head = listed.changes[-1] if listed.changes else None
        return RegistryState(
            registry=None if following is None else masked(following.registry.url),
            generation=len(listed.changes),
            live=live.version,
            current=None if head is None else head.current,
            previous=None if head is None else head.previous,
            refused=None if following is None else following.refused,
            versions=rows[offset : offset + limit],
            total=len(rows),
        )

    async def version(self, version: str) -> VersionState:
        """One version whole. Raises InvalidArgument for one that is not there, RegistryUnavailable."""
        live = self._guard.model
        if self._following is None or (
            version == live.version and all(row.version != version for row in (await self._list(self._registry)).rows)
        ):
            if version != live.version:
                raise InvalidArgument("version", f"is {version!r}, but no registry is set; {live.version} decides")
            return _state(None, live)
        registry = self._registry
        return await self._once(("version", version), lambda: _state(registry.record(version), registry.load(version)))

    async def changes(self, limit: int, offset: int) -> ChangePage:
        """The audit log, the newest first. Raises RegistryUnavailable, InvalidArgument where there is no registry."""
        changes = (await self._list(self._registry)).changes[::-1]
        return ChangePage(changes[offset : offset + limit], len(changes))

    async def diff(self, a: str, b: str) -> VersionDiff:
        """Two versions side by side. Raises InvalidArgument for one that is not there, RegistryUnavailable."""
        registry = self._registry
        return await self._once(("diff", a, b), lambda: _diff(registry, a, b))

    async def promote(self, asked: Promotion, who: str) -> Changed:
        """Let a version be current, and decide at once. Raises as `Registry.promote`, and RegistryUnavailable."""
        registry = self._registry
        return await self._changed(
            lambda: registry.promote(asked.version, asked.why, who=who, generation=asked.generation, force=asked.force)
        )

    async def rollback(self, asked: Rollback, who: str) -> Changed:
        """Let the version before be current, and decide at once. Raises as `promote`."""
        registry = self._registry
        return await self._changed(lambda: registry.rollback(asked.why, who=who, generation=asked.generation))

    @property
    def _registry(self) -> Registry:
        if self._following is None:
            raise InvalidArgument("registry", NO_REGISTRY)
        return self._following.registry

    async def _list(self, registry: Registry) -> _Listed:
        if self._listed is not None and time.monotonic() - self._listed[0] < FRESH:
            return self._listed[1]
        listed: _Listed = await self._ask("list", lambda: self._look(registry))
        return listed

    def _look(self, registry: Registry) -> _Listed:
        """List the registry, and read what was not there before; aside, and never twice at once."""
        began = time.monotonic()
        names = registry.store.names("versions")
        for name in names:
            if name not in self._rows and (record := registry.found(name)) is not None:
                self._rows[name] = VersionRow(**_facts(name, record, None))
        rows = [self._rows[name] for name in names if name in self._rows]
        rows.sort(key=lambda row: -(row.made or 0))
        self._changes += registry.changes(after=len(self._changes))
        listed = _Listed(rows, list(self._changes))
        self._listed = began, listed
        return listed

    async def _once(self, question: Hashable, answer: Callable[[], Any]) -> Any:
        """The answer to a question whose answer never changes."""
        if question in self._whole:
            self._whole.move_to_end(question)
            return self._whole[question]
        self._whole[question] = found = await self._ask(question, answer)
        while len(self._whole) > KEPT:
            self._whole.popitem(last=False)
        return found

    async def _ask(self, question: Hashable, answer: Callable[[], Any]) -> Any:
        """The answer, if it comes within `PATIENCE`."""
        asked = self._under_way.get(question)
        if asked is None:
            if len(self._under_way) >= ASKED:
                raise RegistryUnavailable("the registry is slow, and many questions wait for it; ask again later")
            asked = aside(answer)
            self._under_way[question] = asked
            asked.add_done_callback(lambda _: self._under_way.pop(question))
        return await _waited(asked, PATIENCE, "has not answered; it is still being read, so ask again")

    async def _changed(self, change: Callable[[], Change]) -> Changed:
        if self._change is not None and not self._change.done():
            raise Conflict("another change of the registry is under way here; look again when it has ended")
        self._change = aside(change)
        doubt = "has not answered, so whether it was changed is not known yet; look at its changes before you try again"
        made: Change = await _waited(self._change, CHANGE_PATIENCE, doubt)
        self._listed = None
        self._followed = asyncio.ensure_future(self._follow())
        await asyncio.wait([self._followed], timeout=CHANGE_PATIENCE)
        live = self._guard.model.version
        if live == made.current:
            return Changed(made, live)
        assert self._following is not None
        refused = self._following.refused
        return Changed(made, live, refused or "the service takes it when it looks at the registry again")


async def _waited(answer: asyncio.Future[Any], seconds: float, otherwise: str) -> Any:
    """The answer. Raises RegistryUnavailable for anything but a caller's mistake and a conflict."""
    try:
        return await asyncio.wait_for(asyncio.shield(answer), seconds)
    except (InvalidArgument, Conflict):
        raise
    except TimeoutError as error:
        if not answer.done():
            raise RegistryUnavailable(f"the registry {otherwise}") from None
        raise RegistryUnavailable(f"the registry cannot be used now: {error or 'it took too long'}") from error
    except Exception as error:
        log.warning("the registry cannot be used now: %s", error, exc_info=error)
        raise RegistryUnavailable(f"the registry cannot be used now: {error or type(error).__name__}") from error


def _facts(version: str, record: Record | None, model: Model | None) -> dict[str, Any]:
    """The fields of a row: from the record or, of a model that has none, from the model."""
    outcomes = [] if record is None else record.guardrails
    if record is not None:
        trained, calibrated, overall = record.trained, record.calibrated, record.metrics.get("overall") or {}
    else:
        assert model is not None
        trained, overall = vars(model.trained), cast("dict[str, Any]", {})
        calibrated = None if model.calibrated is None else vars(model.calibrated)
    return {
        "version": version,
        "made": None if record is None else record.made,
        "who": None if record is None else record.who,
        "parent": None if record is None else record.parent,
        "trained": Period(**trained),
        "calibrated": None if calibrated is None else Period(**calibrated),
        "measured": _measured("", overall, None),
        "passed": sum(each.outcome == "passed" for each in outcomes),
        "failed": [each.name for each in outcomes if each.outcome == "failed"],
        "skipped": [each.name for each in outcomes if each.outcome == "skipped"],
    }


def _state(record: Record | None, model: Model) -> VersionState:
    groups: Sequence[dict[str, Any]] = [] if record is None else record.metrics.get("slices") or []
    measured = {group["name"]: group for group in groups}
    thresholds: dict[str, float] = {}
    if model.thresholds is not None:
        calibration = model.thresholds.calibration
        names = map(slice_name, model.thresholds.keys)
        thresholds = dict(zip(names, calibration.thresholds.tolist(), strict=True))
        thresholds["any other slice"] = calibration.default
    slices = [_measured(name, measured.get(name, {}), threshold) for name, threshold in thresholds.items()]
    slices.sort(key=lambda each: -(each.clicks or 0))
    return VersionState(
        **_facts(model.version, record, model),
        kind=model.config.kind,
        columns=list(model.config.slices),
        guardrails=[] if record is None else record.guardrails,
        slices=slices,
    )


def _measured(of: str, group: dict[str, Any], threshold: float | None) -> Measured:
    shares = {name: (group.get(name) or {}).get("value") for name in ("ivr", "fpr", "coverage")}
    counts = {name: group.get(name) for name in ("clicks", "purchases", "auc")}
    return Measured(of=of, threshold=threshold, **counts, **shares)


def _diff(registry: Registry, a: str, b: str) -> VersionDiff:
    found = difference(registry, a, b)
    pairs = {
        part: [Pair(row["name"], _plain(row["a"]), _plain(row["b"])) for row in found[part]]
        for part in ("facts", "metrics", "thresholds")
    }
    return VersionDiff(a, b, **pairs, features=[Distance(**row) for row in found["features"]])


def _plain(value: Any) -> float | str | bool | None:
    """A fact as it is or, where it is a list or the like, as its JSON."""
    return value if value is None or isinstance(value, float | int | str) else msgspec.json.encode(value).decode()
