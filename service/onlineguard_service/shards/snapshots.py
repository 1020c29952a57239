"""Snapshots of shards in a folder or on an object store, fenced: an owner that was replaced changes nothing any more.

| file | |
|---|---|
| `begin` | what the deployment was begun with, once: the operator's choices, the first model, how many partitions |
| `models/<version>/...` | models, so that every process has them; complete with `models/<version>.complete` |
| `shards/<partition>/claims/<generation>` | which process began to own the partition, and from which snapshot |
| `shards/<partition>/snapshots/<generation>-<offset>` | a shard as that owner had it, after the record of that offset |
| `shards/<partition>/current/<generation>-<time>` | an offset: at that time no record came after it |

Every file is made once and never changed, see `registry.stores`. A new owner looks for the newest snapshot that is
whole, and claims its generation, which says so. Who comes next goes by the newest claim: the snapshots of that
generation, then the one that it began from and those before, and so on. A snapshot that an older owner wrote after it
was replaced is in none of them.

Two Redises that do not hear of each other may both give a partition away, and the store has claims of both sides. So
where the log says whom an owner follows, the owner goes by the newest claim up to that one, and passes later ones over.

The two newest snapshots that count are kept, with the claims that lead to them, and where the log says whom an owner
follows also the one that it began from.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from uuid import uuid4

from onlineguard.errors import CheckpointError
from onlineguard.slidr.registry.stores import Store
from onlineguard_service.journal.snapshots import DamagedSnapshot, pieces, whole
from onlineguard_service.partitions.log import NOTHING, Fenced, Owned

KEPT = 2

log = logging.getLogger("onlineguard.worker")


class At(NamedTuple):
    """Which snapshot of a partition."""

    generation: int  # of the owner that wrote it
    offset: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.generation:020}-{self.offset:020}"


class Snapshots:
    """See this module. `by`: tells this process from all others; None: a name that nobody else has."""

    def __init__(self, store: Store, by: str | None = None):
        self._store, self._by = store, by or uuid4().hex
        self._begun: dict[int, int] = {}  # the generation that this process began in, by partition

    def begin(self, owned: Owned) -> tuple[int, dict[str, bytes]] | None:
        """Claim a partition, and what its shard goes on from: an offset and the parts of a state; None: nothing yet.

        A snapshot that is ahead of what the log says was published is of a log that went back since, and is passed
        over. (A log that says nothing has forgotten the group; then the newest is as good as any.)

        So is one of an owner that the log does not know, which came after the one that this owner follows: it was given
        the partition by a Redis that was cut off, and what it read there is lost.

        Raises Fenced where this owner was replaced already, CheckpointError for a snapshot of a newer version or where
        all of them are passed over, and what the store raises; it may be called again then, since a claim says whose
        it is.
        """
        partition, generation = owned.partition, owned.generation
        claims = self._claims(partition)
        claimed = bool(claims) and claims[-1] == generation and self._is_mine(owned)  # and was not told so
        if claims and claims[-1] >= generation and not claimed:
            log.error(
                "partition %d is owned in generation %d, but was claimed for generation %d: another process has taken "
                "it over, or the group of the log was made anew; then name another folder of snapshots",
                partition,
                generation,
                claims[-1],
            )
            raise Fenced(partition)
        if not claimed:
            claims = self._known(owned, claims)
        found, at, ahead = None, None, NOTHING
        for at in self._counting(partition, claims, self._snapshots(partition)):
            if NOTHING < owned.published < at.offset:
                ahead = at.offset
                log.warning("the log lost records: the snapshot of partition %d at %d is passed over", partition, ahead)
                continue
            try:
                found = whole([self._store.read(_snapshot(partition, at))], _snapshot(partition, at))
                break
            except (DamagedSnapshot, FileNotFoundError) as error:
                log.warning("a snapshot of partition %d is passed over: %s", partition, error)
        if found is None and ahead > NOTHING:
            raise CheckpointError(
                f"every snapshot of partition {partition} is ahead of the log, which was published up to "
                f"{owned.published} while the oldest snapshot is at {ahead}: the log lost records, e.g. in a failover. "
                f"Remove the files in {_folder(partition)}/snapshots to learn this partition anew from its log"
            )
        if not claimed:
            began = None if found is None or at is None else [at.generation, at.offset]
            claim = json.dumps([self._by, began]).encode()
            if not self._store.create(_claim(partition, generation), claim) and not self._is_mine(owned):
                raise Fenced(partition)
        self._prune(owned)
        self._begun[partition] = generation
        return found

    def write(self, owned: Owned, offset: int, parts: Mapping[str, bytes | memoryview]) -> None:
        """Keep a snapshot of the shard as it is after a record. Raises Fenced where this owner was replaced."""
        partition, at = owned.partition, At(owned.generation, offset)
        self._check(owned)
        self._store.create(_snapshot(partition, at), b"".join(pieces(offset, parts)))
        self._prune(owned)

    def say_current(self, owned: Owned, offset: int, t: int) -> None:
        """Have readers know that a shard had applied all records at a time, ms since 1970; raises Fenced as `write`."""
        partition, now = owned.partition, f"{owned.generation:020}-{t:020}"
        self._check(owned)
        self._store.create(f"{_folder(partition)}/current/{now}", str(offset).encode())
        for name in self._store.names(f"{_folder(partition)}/current"):
            if name < now:
                self._store.remove(f"{_folder(partition)}/current/{name}")

    def current(self, partition: int) -> tuple[int, int]:
        """Of the newest owner: an offset, and when it said last that no record came after it; `NOTHING` and 0 if never.

        Raises FileNotFoundError where that changes right now.
        """
        claims, names = self._claims(partition), self._store.names(f"{_folder(partition)}/current")
        generation, _, t = names[-1].partition("-") if names else ("", "", "")
        if not names or not claims or int(generation) != claims[-1]:
            return NOTHING, 0
        return int(self._store.read(f"{_folder(partition)}/current/{names[-1]}")), int(t)

    def newest(self, partition: int) -> At | None:
        """The newest snapshot that counts, whether it is whole or not."""
        return next(self._counting(partition, self._claims(partition), self._snapshots(partition)), None)

    def read(self, partition: int, at: At) -> tuple[int, dict[str, bytes]]:
        """Its offset and its parts. Raises DamagedSnapshot, FileNotFoundError, CheckpointError."""
        return whole([self._store.read(_snapshot(partition, at))], _snapshot(partition, at))

    def _known(self, owned: Owned, claims: list[int]) -> list[int]:
        """The claims of owners that the log knows. Raises CheckpointError where there are others alone."""
        if owned.follows is None or not claims or claims[-1] <= owned.follows:
            return claims
        known = [generation for generation in claims if generation <= owned.follows]
        told = f"partition {owned.partition} was claimed for generation {claims[-1]}, which the log does not know"
        if not known:
            raise CheckpointError(
                f"{told}, and no older snapshot is left: a Redis that was cut off had given it to a process beside it. "
                f"Remove the files in {_folder(owned.partition)} to learn this partition anew from its log"
            )
        log.warning("%s: what was learned beside a Redis that was cut off is passed over", told)
        return known

    def _is_mine(self, owned: Owned) -> bool:
        """Whether this process is just making the claim: it is there where only the store's answer was lost."""
        if self._begun.get(owned.partition) == owned.generation:  # the group was made anew, and counts from 1 again
            return False
        try:
            return json.loads(self._store.read(_claim(owned.partition, owned.generation)))[0] == self._by
        except FileNotFoundError:  # a later owner removed it
            return False

    def _check(self, owned: Owned) -> list[int]:
        claims = self._claims(owned.partition)
        if not claims or claims[-1] != owned.generation:
            raise Fenced(owned.partition)
        return claims

    def _prune(self, owned: Owned) -> None:
        """Remove all but the snapshots that are kept, and the claims that lead to them.

        Where the log says whom this owner follows, that one's claim is kept, and the snapshot that this owner began
        from, and what was left in a generation between is not touched: if it was a Redis that was cut off that gave it
        the partition, the owner beside the other Redis goes on from there.

        An owner that was replaced removes nothing that its successor began from: that is one of the two newest as this
        owner knew them, and what came later it does not know.
        """
        partition, claims, snapshots = owned.partition, self._check(owned), self._snapshots(owned.partition)
        walked, kept = list[int](), list[At]()
        for at in self._counting(partition, claims, snapshots, walked):
            if len(kept) < KEPT or at.generation < owned.generation:
                kept.append(at)
            if len(kept) >= KEPT and (owned.follows is None or at.generation < owned.generation):
                break
        for at in snapshots:
            if at not in kept and self._is_over(at.generation, owned):
                self._store.remove(_snapshot(partition, at))
        for generation in claims:
            if generation not in (*walked, owned.follows) and self._is_over(generation, owned):
                self._store.remove(_claim(partition, generation))

    def _is_over(self, generation: int, owned: Owned) -> bool:
        """Whether this owner knows that nobody goes on from what was left in a generation, unless itself."""
        follows = owned.generation if owned.follows is None else owned.follows
        return generation == owned.generation or generation <= follows

    def _counting(
        self, partition: int, claims: list[int], snapshots: list[At], walked: list[int] | None = None
    ) -> Iterator[At]:
        """The snapshots that count, the newest first. `walked` gets the generations that are looked at."""
        generation, most = (claims[-1], None) if claims else (None, None)
        while generation is not None:
            if walked is not None:
                walked.append(generation)
            for at in reversed(snapshots):
                if at.generation == generation and (most is None or at.offset <= most):
                    yield at
            try:
                _, began = json.loads(self._store.read(_claim(partition, generation)))
            except FileNotFoundError:  # nothing before it is kept
                return
            generation, most = began or (None, None)

    def _claims(self, partition: int) -> list[int]:
        return sorted(int(name) for name in self._store.names(f"{_folder(partition)}/claims") if name.isdecimal())

    def _snapshots(self, partition: int) -> list[At]:
        """All of them, in order."""
        names = self._store.names(f"{_folder(partition)}/snapshots")
        return sorted(
            At(int(generation), int(offset))
            for generation, _, offset in (name.partition("-") for name in names)
            if generation.isdecimal() and offset.isdecimal()
        )


def _folder(partition: int) -> str:
    return f"shards/{partition:06}"


def _claim(partition: int, generation: int) -> str:
    return f"{_folder(partition)}/claims/{generation:020}"


def _snapshot(partition: int, at: At) -> str:
    return f"{_folder(partition)}/snapshots/{at.name}"
