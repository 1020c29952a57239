"""What all processes of a deployment share: what it was begun with, and the models of its versions.

Both stand in the store of the snapshots. Whoever comes first begins; all others find the same there.
"""

import shutil
import tempfile
from pathlib import Path

import msgspec

from onlineguard.errors import CheckpointError, InvalidArgument
from onlineguard.slidr.model import Model
from onlineguard.slidr.registry.stores import Store
from onlineguard_service.entries import Options
from onlineguard_service.following import Following
from onlineguard_service.models import Models
from onlineguard_service.recovery import check

BEGIN = "begin"
ANEW = "another --snapshots folder and another group=... in the URL of --from"


class Beginning(msgspec.Struct, frozen=True):
    """The operator's choices, the first model, and how many partitions the log has."""

    options: Options
    version: str
    partitions: int


class SharedModels:
    """Models by version: those in a folder of this process, in the store, and in the registry that is followed."""

    def __init__(self, store: Store, models: Models, folder: Path, following: Following | None = None):
        self._store, self._models, self._folder, self._following = store, models, folder, following

    def get(self, version: str) -> Model:
        """The model of a version. Raises CheckpointError where it cannot be had now."""
        try:
            if (self._folder / version).is_dir():
                return self._models.get(version)
            if f"{version}.complete" in self._store.names("models"):
                return self._fetched(version)
            if self._following is not None:
                return self._following.fetch(version).model
        except (OSError, InvalidArgument) as error:
            raise CheckpointError(f"model {version} cannot be fetched now: {error}") from error
        raise CheckpointError(
            f"model {version} is neither with the snapshots nor in a registry; start a worker with --model FOLDER of "
            "that version, or with the --registry that has it"
        )

    def put(self, model: Model) -> None:
        """Have every process find a model that this one has."""
        if f"{model.version}.complete" not in self._store.names("models"):
            for file in sorted((self._folder / model.version).iterdir()):
                self._store.create(f"models/{model.version}/{file.name}", file.read_bytes())
            self._store.create(f"models/{model.version}.complete", b"")

    def _fetched(self, version: str) -> Model:
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(".tmp", ".shared.", self._folder))
        try:
            for name in self._store.names(f"models/{version}"):
                (temporary / Path(name).name).write_bytes(self._store.read(f"models/{version}/{name}"))
            return self._models.put(temporary)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def begun(store: Store, options: Options, partitions: int, first: Model | None) -> Beginning | None:
    """What the deployment was begun with; with a model, it is begun here if nobody has done so. None: not yet.

    Raises CheckpointError where that is something that this process cannot go on with.
    """
    if first is not None:
        mine = Beginning(options, first.version, partitions)
        store.create(BEGIN, msgspec.json.encode(mine))
    found = beginning(store)
    if found is None:
        return None
    check(found.options, options, anew=ANEW)
    if found.partitions != partitions:
        raise CheckpointError(
            f"the log has {partitions} partitions, and was begun with {found.partitions}: what belongs together would "
            f"be apart. Name {ANEW} to begin anew"
        )
    return found


def beginning(store: Store) -> Beginning | None:
    """What the deployment was begun with; None: not yet."""
    try:
        return msgspec.json.decode(store.read(BEGIN), type=Beginning)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise CheckpointError(f"the file {BEGIN} of the snapshots cannot be read: {error}") from error
