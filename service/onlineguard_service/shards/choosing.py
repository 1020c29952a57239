"""What operators choose anew, said in the log: which model decides, and the choices that may change.

Every shard reads it there, at a place that never changes. The owner of the first partition says it, when its shard has
applied all that is in the log:

- a process that is started with other choices, or with the folder of another model, says so once;
- while a registry is followed, its current version is said whenever that is another one, and so is the candidate that
  it has on trial, with its share of the users.
"""

import logging
import math
import time
from collections.abc import Callable

from onlineguard.records.versions import Change
from onlineguard.slidr.model import Model
from onlineguard_service import entries
from onlineguard_service.entries import CHANGEABLE, Entry, Options, Switch, Trial, Tune
from onlineguard_service.following import Fetched, Following
from onlineguard_service.partitions.records import controlled
from onlineguard_service.shards.pooling import Append
from onlineguard_service.shards.shard import Shard

log = logging.getLogger("onlineguard.worker")


class Choosing:
    """See this module.

    options, model: those that this process was started with; no model: that of the deployment stays.
    share: has every process find a model.
    every: seconds between looks at the registry.
    """

    def __init__(
        self,
        options: Options,
        model: Model | None = None,
        following: Following | None = None,
        share: Callable[[Model], None] = lambda model: None,
        every: float = 30.0,
    ):
        self._options, self._model, self._following, self._share, self._every = options, model, following, share, every
        self._tuned = False
        # When the registry is looked at next, by the monotonic clock; never where none is followed.
        self._again = math.inf if following is None else 0.0

    def is_due(self) -> bool:
        """Whether there may be something to say. If not, nobody need ask the log how far it goes."""
        return not self._tuned or self._model is not None or time.monotonic() >= self._again

    def look(self, shard: Shard) -> list[Append]:
        """The records that say it, for every partition. What prevents that is logged, and tried again."""
        found = [*self._tune(shard), *self._decide(shard)]
        return [Append(shard.offset, None, "control", controlled(entry)) for entry in found]

    def _tune(self, shard: Shard) -> list[Entry]:
        if self._tuned:
            return []
        self._tuned, kept = True, shard.guard.options
        changed = [name for name in CHANGEABLE if getattr(kept, name) != getattr(self._options, name)]
        if not changed:
            return []
        log.info("other choices are said in the log: %s", ", ".join(changed))
        return [Tune(self._options, entries.now())]

    def _decide(self, shard: Shard) -> list[Entry]:
        """The model that decides from now on, and the candidate that is tried, where either is another one."""
        (model, self._model), found = (self._model, None), list[Entry]()
        if model is not None:
            found += self._switch(shard, Fetched(model, b""))
        if self._following is None or time.monotonic() < self._again:
            return found
        self._again = time.monotonic() + self._every
        try:
            known = self._following.dealt_with
            head = self._following.look()
            if head is not None:
                found += self._switch(shard, self._following.fetch(head.current))
                found += self._try(shard, head, known != 0, bool(found))
                self._following.dealt_with = head.generation
        except Exception as error:
            log.warning("the registry cannot be followed now: %s", error)
        return found

    def _switch(self, shard: Shard, fetched: Fetched) -> list[Entry]:
        model, promises = fetched
        if (model.version, promises) == (shard.guard.model.version, shard.guard.watching.promises):
            return []
        if not self._can_decide(model):
            return []
        log.info("from here on model %s decides, the log says", model.version)
        return [Switch(model.version, entries.now(), promises)]

    def _try(self, shard: Shard, head: Change, news: bool, switched: bool) -> list[Entry]:
        """news: whether the registry has changed since this process began; else what the log says may be newer."""
        trying, found = shard.guard.trying, list[Entry]()
        runs = trying.running and not switched  # a switch ends a trial
        if head.trial is None:
            return (
                [Trial("", 0.0, entries.now(), why=head.why)] if runs and (news or trying.changed < head.when) else []
            )
        assert self._following is not None
        model, promises = self._following.fetch(head.trial)
        if runs and (trying.version, trying.share, trying.promises) == (model.version, head.share, promises):
            return []
        if not self._can_decide(model):
            return []
        if runs and trying.version != model.version:
            found.append(Trial("", 0.0, entries.now(), why=f"the registry has {model.version} on trial"))
        log.info("from here on model %s is tried with a share of %g, the log says", model.version, head.share)
        return [*found, Trial(model.version, head.share, entries.now(), promises)]

    def _can_decide(self, model: Model) -> bool:
        """Whether shards can use a model; then all of them find it."""
        if model.looks_up:
            log.error("model %s is not used: it was trained with lookups, and shards have none", model.version)
            return False
        self._share(model)
        return True
