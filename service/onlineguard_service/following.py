"""Following: the version that a registry says is current, fetched beside the live model; everything here may wait.

A change of the registry is dealt with once: the version is taken, or it is refused and not tried again until the
registry changes. A registry that cannot be reached is asked again at the next look.

A version that the live watch took back is taken back in the registry too. That may have been prevented by a crash, so
it is looked up in the registry's log whether it was done. So is the trial of a candidate that its watch ended.
"""

import shutil
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from onlineguard.errors import CheckpointError
from onlineguard.records.versions import Change
from onlineguard.slidr.model import Model
from onlineguard.slidr.registry.registry import Registry
from onlineguard_service.models import Models

WHO = "live watch"


class Fetched(NamedTuple):
    """A model that is kept in the state, and its promises as JSON; empty if it has none."""

    model: Model
    promises: bytes


class Following:
    """See this module. `url` is a folder, or a URL of fsspec."""

    def __init__(self, url: str, models: Models, folder: Path):
        self.registry, self._models, self._folder = Registry(url), models, folder
        self.dealt_with = 0  # the generation of the registry's change that was dealt with last
        self.reached: float | None = None  # time.time() of the last look that succeeded
        self.refused: str | None = None  # why the current version was refused, if it was
        self.n_refused = 0

    def first(self) -> Model:
        """The current version, for a service that begins. Raises CheckpointError where there is none."""
        version = self.registry.current()
        if version is None:
            raise CheckpointError(
                f"registry {self.registry.url} has no current version; promote one, e.g. with onlineguard slidr "
                "promote, or start the service with --model"
            )
        return self.fetch(version).model

    def look(self) -> Change | None:
        """The last change, if it was not dealt with yet."""
        head = self.registry.head()
        self.reached = time.time()
        return None if head is None or head.generation == self.dealt_with else head

    def fetch(self, version: str) -> Fetched:
        """Raises InvalidArgument for a version that is not there, CheckpointError for one that is not whole."""
        self._folder.mkdir(parents=True, exist_ok=True)
        record = self.registry.record(version)
        temporary = Path(tempfile.mkdtemp(".tmp", ".registry.", self._folder))
        try:
            model = self._models.put(self.registry.checkout(version, temporary))
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return Fetched(model, b"" if record.promises is None else msgspec.json.encode(record.promises))

    def take_back(self, head: Change, since: int, why: str) -> Change:
        """The last change, after the current version was taken back unless that was done before.

        since: ms since 1970 at which the service took it back. Raises Conflict if another change came between.
        """
        done = any(
            each.action == "rollback" and each.replaced == head.current and each.when >= since
            for each in self.registry.changes()
        )
        return head if done else self.registry.rollback(why, who=WHO, generation=head.generation)

    def end_trial(self, head: Change, why: str) -> None:
        """End the trial in the registry too. Raises Conflict if another change came between."""
        self.registry.end_trial(why, who=WHO, generation=head.generation)

    def refuse(self, why: str) -> None:
        """The current version does not fit."""
        self.refused = why
        self.n_refused += 1
