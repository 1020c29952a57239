"""What is judged and labelled, kept as blocks until a process of its own has made files of them.

**Nothing is lost or doubled by a crash**, since the history follows the snapshots. A snapshot of the journal's state is
written only once the history of all entries before it is in files that are synced (`before`). A start from a snapshot
removes the files of later entries, and gets them again from the replay of the journal: the same, since the guard
answers a replay as it answered before. Files of entries that the journal has lost are set aside, not removed.

**A standby** comes to the same blocks as the service that it follows, and keeps those that no snapshot of that service
holds yet (`covered`). Once it has taken over (`take_over`) it is as after a start from the newest snapshot, with the
blocks in place of a replay. It writes files as soon as the other process has let go of the lock. One that hangs holds
it until it ends; blocks then wait, as they do where files cannot be made.

**Requests do not wait.** A block is packed in some microseconds. A file is made when a snapshot is written, or when
`FULL` bytes wait. Where files cannot be made, blocks wait up to `MOST` bytes; then they are let go, and no snapshot
is written any more: the journal keeps all, and the next start makes the history of it.
"""

import logging
import os
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from onlineguard import locks
from onlineguard.errors import CheckpointError
from onlineguard.records.click import Click
from onlineguard.slidr.history.layout import KINDS
from onlineguard.slidr.history.pseudonyms import Pseudonyms, made_key
from onlineguard.slidr.judge import JudgedClicks
from onlineguard.wire.requests import Decision, Label
from onlineguard_service.errors import JournalUnavailable
from onlineguard_service.history.blocks import Block, Header, Judged, Labelled, Replaced, encode
from onlineguard_service.history.feeding import Sealed, feed
from onlineguard_service.history.holding import forget
from onlineguard_service.journal.packing import pack, unpack

FULL = 32 << 20  # bytes of blocks that become files without waiting for a snapshot: some 60,000 clicks
MOST = 8 * FULL  # that wait where files cannot be made
PATIENCE = 60.0  # seconds to wait for the process that a killed service was feeding
SOON = 2.0  # the same after a takeover, at each attempt to write: the process that was taken over may only hang
PART = "history"  # of a snapshot

_log = logging.getLogger("onlineguard.history")


class Options(NamedTuple):
    """What the operator chose."""

    root: Path
    keep_days: int  # 0: for ever
    key: Path | None  # of the pseudonyms; None: what was sent is kept


class Recorder:
    """See this module.

    source: the journal whose entries these are.
    after: the entry of the snapshot that the service starts from; 0 without one.
    newest: the newest entry of the journal; while following what `take_over` is given.
    kept: what the snapshot kept of an earlier recorder; None where there was none.
    features: their names; version: that of the features.
    following: whether another process writes the history, until `take_over`.

    Raises JournalUnavailable where the folder cannot be used, and CheckpointError where the process that is followed
    keeps its history in another one.
    """

    def __init__(
        self,
        options: Options,
        source: str,
        after: int,
        newest: int,
        kept: bytes | None,
        features: Sequence[str],
        version: int,
        following: bool = False,
    ):
        self._options, self._source, self._features = options, source, tuple(features)
        self._sealed: deque[Sealed] = deque()
        self._blocks: list[bytes] = []
        self._size = 0
        self._kinds: set[str] = set()
        self._writing = threading.Lock()
        self._first: dict[str, int] = dict.fromkeys(KINDS, after + 1)
        if kept is not None:
            self._first |= unpack(kept)
        self._snapshots = [0, after]  # the two newest
        self.behind = False  # whether blocks had to be let go
        self.closed = after  # the last entry that is in files
        self._following, self._newest = following, newest
        self._marks: list[tuple[int, str]] = []  # entry and kind of each block, while following
        self._dropped = 0  # the last entry of which blocks were let go while following
        self._lock_path = options.root / f".{source or 'service'}.lock"
        self._lock, self._left = -1, False
        if following:
            self._check_shared(kept)
        try:
            for kind in KINDS:
                (options.root / kind).mkdir(parents=True, exist_ok=True)
            self._key = None if options.key is None else made_key(options.key)
            if not following:
                self._begin(PATIENCE)
        except OSError as error:
            self.close()
            raise JournalUnavailable(
                f"the history in {options.root} cannot be written: {error.strerror or error}; name another "
                "--history-folder, or set --history off"
            ) from error
        names = "no" if self._key is None else Pseudonyms(self._key).mark
        self._about = {"features": str(version), "pseudonyms": names}

    def clicks(
        self,
        sequence: int,
        t: int,
        places: list[int],
        clicks: list[Click],
        judged: JudgedClicks,
        limits: list[float],
        robotic: list[bool],
        p_values: list[float | None],
        slices: list[str],
        models: list[str],
    ) -> None:
        """Keep what was judged of some clicks of an entry, `places` in it, by the model that decided each."""
        self._keep(
            "clicks",
            Judged(
                sequence,
                t,
                places,
                clicks,
                judged.features.tobytes(),
                judged.p_robot.tobytes(),
                limits,
                robotic,
                p_values,
                slices,
                models,
            ),
        )

    def labels(self, sequence: int, t: int, labels: list[Label]) -> None:
        """Keep the labels of an entry."""
        self._keep("labels", Labelled(sequence, t, labels))

    def decisions(self, sequence: int, t: int, places: list[int], decisions: list[Decision]) -> None:
        """Keep delayed decisions that are in force, `places` in their entry."""
        self._keep("decisions", Replaced(sequence, t, places, decisions))

    @property
    def full(self) -> bool:
        """Whether so much waits that it should be sealed and written."""
        return self._size >= FULL and not self._following

    @property
    def waiting(self) -> int:
        """Bytes that wait to be written."""
        return self._size + sum(sealed.size for sealed in self._sealed)

    def covered(self, sequence: int, kept: bytes | None) -> None:
        """While following: the other process has written a snapshot after that entry, with this of its history.

        Raises CheckpointError where that history is in another folder.
        """
        self._check_shared(kept)
        n = bisect_right(self._marks, sequence, key=lambda mark: mark[0])
        self._size -= sum(map(len, self._blocks[:n]))
        del self._blocks[:n], self._marks[:n]
        self._kinds = {kind for _, kind in self._marks}
        self._first = dict.fromkeys(KINDS, sequence + 1) | ({} if kept is None else unpack(kept))
        self._snapshots, self.closed = [0, sequence], sequence

    def take_over(self, newest: int) -> None:
        """Keep the history from now on. newest: the newest entry of the journal that was taken over."""
        self._following, self._newest = False, newest
        self._marks.clear()
        if self._dropped > self._snapshots[1]:
            self._fall_behind()

    def seal(self, sequence: int) -> None:
        """What came of all entries up to this one, the last applied, becomes files with the next `write`."""
        if self._blocks:
            header = Header(
                str(self._options.root),
                self._source,
                dict(self._first),
                sequence,
                self._features,
                self._about,
                None if self._key is None else self._key.hex(),
                self._options.keep_days,
                self._snapshots[0],
            )
            self._sealed.append(Sealed(header, self._blocks, self._size))
            self._first |= dict.fromkeys(self._kinds, sequence + 1)
            self._blocks, self._size, self._kinds = [], 0, set()

    def write(self) -> None:
        """Make files of what is sealed; waits, so call it in a thread. Raises JournalUnavailable if that fails."""
        with self._writing:
            if self._sealed and self._lock < 0:
                self._begin_late()
            while self._sealed:
                sealed = self._sealed[0]
                feed(sealed, self._lock)
                self.closed = sealed.header.last
                self._sealed.popleft()

    def before(self, state: Mapping[str, bytes | memoryview], sequence: int) -> Mapping[str, bytes | memoryview]:
        """The parts of a snapshot after that entry. The first look at them waits until its history is in files."""
        self.check()
        self.seal(sequence)
        return _After(state, {PART: pack(self._first)}, self)

    def taken(self, sequence: int) -> None:
        """A snapshot after that entry has been written: the state never goes back before the one before it."""
        self._snapshots = [self._snapshots[1], sequence]

    def check(self) -> None:
        """Raises JournalUnavailable where blocks were let go, so that no snapshot may be written."""
        if self.behind:
            raise JournalUnavailable(
                f"the history in {self._options.root} could not be written for too long; the journal keeps all that "
                "it lacks: make room on its disk and restart the service"
            )

    def close(self) -> None:
        """Let another process write the history of this journal, now and for ever. What waits is not written."""
        with self._writing:
            self._left = True
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    def _check_shared(self, kept: bytes | None) -> None:
        """Raises CheckpointError where the process that is followed has a history that is not in this folder."""
        if kept is None:
            return
        root, key = self._options.root, self._options.key
        if not self._lock_path.exists():
            raise CheckpointError(
                f"the service that is followed keeps its history elsewhere than in {root}; name the folder in "
                "--history-folder, which both must see"
            )
        if key is not None and not key.exists():
            raise CheckpointError(
                f"there is no key of pseudonyms in {key}; copy it from the state of the service that is followed"
            )

    def _begin(self, patience: float) -> None:
        """Have the folder from whoever wrote this history before. Raises OSError."""
        self._lock = locks.hold(self._lock_path, patience)
        forget(self._options.root, self._source, self._snapshots[1], self._newest)

    def _begin_late(self) -> None:
        """The same after a takeover, or JournalUnavailable."""
        if self._left:
            raise JournalUnavailable(f"the history in {self._options.root} is written by another process now")
        try:
            self._begin(SOON)
        except OSError as error:
            raise JournalUnavailable(
                f"the history in {self._options.root} cannot be written yet: {error.strerror or error}; the service "
                "that was taken over holds it until it has ended"
            ) from error

    def _fall_behind(self) -> None:
        """Let go of what waits: the journal has it until the next start."""
        self.behind = True
        self._blocks, self._size = [], 0
        self._sealed.clear()
        _log.error("the history in %s cannot be written, and too much of it waits", self._options.root)

    def _keep(self, kind: str, block: Block) -> None:
        if self.behind or block.sequence <= self._snapshots[1]:  # a snapshot was there before its last entry was read
            return
        packed = encode(block)
        self._blocks.append(packed)
        self._size += len(packed)
        self._kinds.add(kind)
        if self._following:
            self._marks.append((block.sequence, kind))
        if self._size >= FULL and self.waiting > MOST:
            if not self._following:
                self._fall_behind()
                return
            self._blocks, self._marks, self._size, self._dropped = [], [], 0, block.sequence


class _After(Mapping[str, bytes | memoryview]):
    """The parts of a state and some more, to be had once what a recorder has sealed is in files."""

    def __init__(self, state: Mapping[str, bytes | memoryview], more: Mapping[str, bytes], recorder: Recorder):
        self._state, self._more, self._recorder = state, more, recorder

    def __getitem__(self, name: str) -> bytes | memoryview:
        return self._more[name] if name in self._more else self._state[name]

    def __iter__(self) -> Iterator[str]:
        self._recorder.write()
        self._recorder.check()
        yield from self._state
        yield from self._more

    def __len__(self) -> int:
        return len(self._state) + len(self._more)
