"""A store of files that is slow, that fails before or after it has done what was asked, and that damages snapshots."""

from collections import defaultdict

from tests.simulation.faults import Faults
from tests.simulation.world import Process

SECONDS = 0.01  # that a call takes


class Files:
    """What a store holds, for all processes."""

    def __init__(self):
        self.folders: dict[str, dict[str, bytes]] = defaultdict(dict)
        self.away = 0.0  # until when nobody reaches it


class SimulatedStore:
    """A `Store` as one process sees it.

    A call may fail with nothing done, or be done while its answer is lost. Both are an OSError, and nobody can tell
    which it was. A file is there whole or not at all, and whoever lists after that finds it: object stores promise so.
    Yet snapshots may be damaged later, by whatever else goes wrong.
    """

    def __init__(self, files: Files, process: Process, faults: Faults):
        self._files, self._process, self._faults, self._world = files, process, faults, process.world

    def create(self, name: str, contents: bytes) -> bool:
        """See Store."""
        self._arrives(name)
        folder, _, own = name.rpartition("/")
        there = own in self._files.folders[folder]
        if not there:
            if "/snapshots/" in name and self._world.happens(self._faults.damage):
                self._world.tell(f"{name} is damaged")
                contents = _damaged(contents, self._world.chance.randrange(len(contents)), self._world.happens(0.5))
            self._files.folders[folder][own] = contents
        self._answers(name)
        return not there

    def read(self, name: str) -> bytes:
        """See Store."""
        self._arrives(name)
        folder, _, own = name.rpartition("/")
        found = self._files.folders[folder].get(own)
        if found is None:
            raise FileNotFoundError(name)
        return found

    def names(self, folder: str) -> list[str]:
        """See Store."""
        self._arrives(folder)
        return sorted(self._files.folders[folder])

    def remove(self, name: str) -> None:
        """See Store."""
        self._arrives(name)
        folder, _, own = name.rpartition("/")
        self._files.folders[folder].pop(own, None)
        self._answers(name)

    def _arrives(self, name: str) -> None:
        self._process.wait(self._world.delay(SECONDS))
        if self._world.now < self._files.away or self._world.happens(self._faults.store):
            self._world.tell(f"{self._process.name}: the store fails at {name}")
            raise OSError(f"the store is away, at {name}")

    def _answers(self, name: str) -> None:
        self._process.wait(self._world.delay(SECONDS))
        if self._world.happens(self._faults.store):
            self._world.tell(f"{self._process.name}: the answer of the store is lost, at {name}")
            raise OSError(f"the answer of the store is lost, at {name}")


def _damaged(contents: bytes, at: int, torn: bool) -> bytes:
    """Cut off, or with one byte changed."""
    return contents[:at] if torn else contents[:at] + bytes([contents[at] ^ 1]) + contents[at + 1 :]
