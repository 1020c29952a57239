"""A registry of models: immutable versions, and a log of changes whose last entry says which version is live.

    registry = Registry("s3://bucket/models")
    registry.add(folder)                        versions/<version>/: what `save_model` wrote, and record.json
    registry.promote(version, why="daily")      changes/00000007.json
    registry.current()

**One file a change.** Pointers to `current` and `previous`, and an audit log beside them, could disagree after a crash.
Here the log is the pointer: a change is one small file, numbered by its generation, that says what is current from
now on, who wanted that, and why. It is created or it is not, so no change is without its entry, and no entry without
its change.

**One winner.** A change reads generation g and creates g + 1. Of two that do so at once, one finds its name taken and
raises `Conflict`; see `stores` for what that rests on.

**Back, and further back.** A rollback leads to the version that was live before the current one was promoted, and a
second one to the version before that. It never leads forward to the version that was just taken back.

**On trial.** A change may also let a candidate judge beside the current version, until the next change.
"""

import getpass
import hashlib
import os
import re
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from onlineguard.errors import CheckpointError, Conflict, InvalidArgument
from onlineguard.records.versions import FORMAT, Canary, Change, Outcome, Promises, Record
from onlineguard.slidr.model import MANIFEST, Model, load_model
from onlineguard.slidr.registry.stores import Folder, opened

RECORD = "record.json"
NAME = re.compile("[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")  # of a version: part of a path, and never another path


class Registry:
    """See this module. `url` is a folder or a URL of fsspec; it need not exist yet."""

    def __init__(self, url: str | os.PathLike[str]):
        self.url = os.fspath(url)
        self.store = opened(url)

    def add(
        self,
        folder: str | os.PathLike[str],
        *,
        metrics: dict[str, Any] | None = None,
        guardrails: Sequence[Outcome] = (),
        promises: Promises | None = None,
        canaries: Sequence[Canary] = (),
        who: str | None = None,
    ) -> Record:
        """Keep a copy of a calibrated model's folder, and what is known of it. Nothing goes live by that.

        A version that is there already stays as it is, and its record is returned. Raises CheckpointError if the
        folder holds no whole model, or one without thresholds.
        """
        path = Path(folder)
        model = load_model(path)
        if model.thresholds is None or model.calibrated is None:
            raise CheckpointError(
                f"{path} has no thresholds yet; run onlineguard slidr calibrate CLICKS --model {path}"
            )
        if model.version in self.versions():
            return self.record(model.version)
        manifest: dict[str, Any] = msgspec.json.decode((path / MANIFEST).read_bytes())
        hashes: dict[str, str] = {}
        for name in sorted([*manifest["files"], MANIFEST]):
            contents = (path / name).read_bytes()
            hashes[name] = hashlib.sha256(contents).hexdigest()
            place = f"versions/{model.version}/{name}"
            if not self.store.create(place, contents) and self.store.read(place) != contents:
                raise CheckpointError(
                    f"{self.url}/{place} was left by an add that did not end, with other contents; remove "
                    f"versions/{model.version}, which is in no use, and add again"
                )
        head = self.head()
        record = Record(
            version=model.version,
            files=hashes,
            parent=None if head is None else head.current,
            made=_now(),
            who=who or whoami(),
            trained=vars(model.trained),
            calibrated=vars(model.calibrated),
            metrics=metrics or {},
            guardrails=list(guardrails),
            promises=promises,
            canaries=list(canaries),
        )
        self.store.create(f"versions/{model.version}/{RECORD}", _json(record))
        return self.record(model.version)  # another process may have been first

    def versions(self) -> list[str]:
        """All versions, by name."""
        return [name for name in self.store.names("versions") if RECORD in self.store.names(f"versions/{name}")]

    def record(self, version: str) -> Record:
        """What is known of a version. Raises InvalidArgument, naming those that are there, for one that is not."""
        found = self.found(version)
        if found is None:
            known = ", ".join(self.versions()) or "none yet"
            raise InvalidArgument("version", f"is {version!r}; {self.url} has {known}")
        return found

    def found(self, version: str) -> Record | None:
        """What is known of a version; None for one that is not there, or not yet. Raises CheckpointError."""
        if NAME.fullmatch(version) is None:
            return None
        try:
            contents = self.store.read(f"versions/{version}/{RECORD}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        return self._decoded(contents, Record, f"versions/{version}/{RECORD}")

    def load(self, version: str) -> Model:
        """The model of a version. Raises CheckpointError if a file differs from its record, or is missing."""
        with tempfile.TemporaryDirectory(prefix="onlineguard-") as folder:
            return load_model(self.checkout(version, Path(folder)))

    def checkout(self, version: str, folder: Path) -> Path:
        """Write the files of a version into a folder, checked against the record, and return the folder."""
        record = self.record(version)
        folder.mkdir(parents=True, exist_ok=True)
        for name, expected in record.files.items():
            place = f"versions/{version}/{name}"
            try:
                contents = self.store.read(place)
            except FileNotFoundError as error:
                raise CheckpointError(f"{self.url}/{place} is missing, though its record lists it") from error
            if hashlib.sha256(contents).hexdigest() != expected:
                raise CheckpointError(f"{self.url}/{place} was changed since it was added (SHA-256 differs)")
            (folder / name).write_bytes(contents)
        return folder

    def changes(self, after: int = 0) -> list[Change]:
        """The audit log after a generation, the oldest change first.

        Raises CheckpointError if an entry is missing or unreadable.
        """
        names = self.store.names("changes")
        if names != [_entry(generation) for generation in range(1, max(len(names), after) + 1)]:
            raise CheckpointError(f"{self.url}/changes lacks entries, or holds other files; restore it from a backup")
        return [self._decoded(self.store.read(f"changes/{name}"), Change, f"changes/{name}") for name in names[after:]]

    def head(self) -> Change | None:
        """The last change; None before the first."""
        names = self.store.names("changes")
        if not names:
            return None
        return self._decoded(self.store.read(f"changes/{names[-1]}"), Change, f"changes/{names[-1]}")

    def current(self) -> str | None:
        """The version that is live; None before the first promotion."""
        head = self.head()
        return None if head is None else head.current

    def promote(
        self, version: str, why: str, *, who: str | None = None, generation: int | None = None, force: bool = False
    ) -> Change:
        """Let a version be current, and what was current be previous.

        generation: that on which the decision rests; by default the one there is now.
        force: promote although guardrails failed; the entry names them.

        Raises Conflict if another change came between, and InvalidArgument if guardrails failed, the version is not
        there, or is current already.
        """
        record, head = self.record(version), self.head()
        _check_guardrails(record, force)
        if head is not None and head.current == version:
            raise InvalidArgument("version", f"is {version}, which is current already")
        replaced = None if head is None else head.current
        return self._change(head, generation, "promote", version, replaced, why, who, record.failed if force else [])

    def rollback(self, why: str, *, who: str | None = None, generation: int | None = None) -> Change:
        """Let the version be current that was so before; see this module. Raises as `promote` does."""
        changes = self.changes()
        live = _stack(changes)
        if len(live) < 2:
            raise InvalidArgument("rollback", f"leads nowhere: {self.url} has no previous version")
        before = live[-3] if len(live) > 2 else None
        return self._change(changes[-1], generation, "rollback", live[-2], before, why, who, [])

    def trial(
        self,
        version: str,
        why: str,
        *,
        share: float = 0.0,
        who: str | None = None,
        generation: int | None = None,
        force: bool = False,
    ) -> Change:
        """Let a version judge beside the current one until the next change, and decide the clicks of a share of the
        users.

        force: let it decide although guardrails failed; what decides nothing may have failed any.

        Raises as `promote` does, and InvalidArgument where no version is current, or the share is none.
        """
        record, changes = self.record(version), self.changes()
        if not 0.0 <= share <= 1.0:
            raise InvalidArgument("share", f"is {share}; it must lie between 0, which decides nothing, and 1")
        if not changes or changes[-1].current == version:
            wrong = "which is current already" if changes else "and nothing is current that it could be compared with"
            raise InvalidArgument("version", f"is {version}, {wrong}")
        if share > 0.0:
            _check_guardrails(record, force)
        forced = record.failed if share > 0.0 else []
        head = changes[-1]
        return self._change(
            head, generation, "trial", head.current, head.previous, why, who, forced, trial=version, share=share
        )

    def end_trial(self, why: str, *, who: str | None = None, generation: int | None = None) -> Change:
        """Let the candidate judge no more. Raises Conflict as `promote`, InvalidArgument where none is on trial."""
        head = self.head()
        if head is None or head.trial is None:
            raise InvalidArgument("trial", f"is none that could end: {self.url} has no version on trial")
        return self._change(head, generation, "end trial", head.current, head.previous, why, who, [])

    def _change(
        self,
        head: Change | None,
        expected: int | None,
        action: str,
        current: str,
        previous: str | None,
        why: str,
        who: str | None,
        forced: list[str],
        trial: str | None = None,
        share: float = 0.0,
    ) -> Change:
        if not why.strip():
            raise InvalidArgument("why", "is empty; say why, for whoever reads the log in a year")
        generation = 0 if head is None else head.generation
        change = Change(
            generation=generation + 1,
            action=action,
            current=current,
            previous=previous,
            replaced=None if head is None else head.current,
            who=who or whoami(),
            why=why,
            when=_now(),
            forced=forced,
            trial=trial,
            share=share,
        )
        stale = expected is not None and expected != generation
        if stale or not self.store.create(f"changes/{_entry(change.generation)}", _json(change)):
            other = self.head()
            assert other is not None
            trials = {"trial": f"put {other.trial} on trial", "end trial": "ended a trial"}
            did = trials.get(other.action, f"made {other.current} current")
            raise Conflict(
                f"{self.url} was changed meanwhile: {other.who} {did} ({other.why}); look again, and "
                f"{action} anew if it is still right"
            )
        return change

    def _decoded[T](self, contents: bytes, kind: Callable[..., T], name: str) -> T:
        try:
            found: Any = msgspec.json.decode(contents, type=kind)
        except msgspec.MsgspecError as error:
            raise CheckpointError(f"{self.url}/{name} is damaged: {error}; restore it from a backup") from error
        if getattr(found, "format", FORMAT) > FORMAT:
            raise CheckpointError(f"{self.url}/{name} has format {found.format}, this onlineguard reads up to {FORMAT}")
        return found


def whoami() -> str:
    """user@host of this process."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container may have no name for its user
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def local_folder(registry: Registry) -> Path | None:
    """The folder of a registry that is one."""
    return registry.store.path if isinstance(registry.store, Folder) else None


def _stack(changes: Sequence[Change]) -> list[str]:
    """The versions that were live and were not taken back, the current one last."""
    live: list[str] = []
    for change in changes:
        if change.action == "rollback":
            live.pop()
        elif change.action == "promote":
            live.append(change.current)
    return live


def _check_guardrails(record: Record, force: bool) -> None:
    if record.failed and not force:
        raise InvalidArgument(
            "version", f"is {record.version}, which failed {', '.join(record.failed)}; name another, or use force"
        )


def _entry(generation: int) -> str:
    return f"{generation:08}.json"


def _json(struct: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(struct), indent=1) + b"\n"


def _now() -> int:
    return time.time_ns() // 1_000_000
