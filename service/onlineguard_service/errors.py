"""The exceptions of the service, beside those of `onlineguard.errors`."""

from onlineguard.errors import InvalidArgument, OnlineguardError


class JournalUnavailable(OnlineguardError):
    """The journal cannot take an entry now: the disk is full, or Redis is gone. Nothing was learned; send it again."""


class RegistryUnavailable(OnlineguardError):
    """The registry of models cannot be read or changed now. Everything else goes on."""


class IdTaken(InvalidArgument):
    """An id came before with other content. `place` is that of the item in its request, counted from 0."""

    def __init__(self, place: int):
        super().__init__(
            f"the id of item {place} was given to another one before; nothing of the request was learned. Give each "
            "event and click an id of its own, and send it again under that id only as it was"
        )
        self.place = place


class OnTrial(InvalidArgument):
    """A candidate was to be tried while another one is."""

    def __init__(self, version: str):
        super().__init__("version", f"cannot be tried now: model {version} is on trial; end that trial first")


class LearnsElsewhere(OnlineguardError):
    """A replica was asked for what only the shards do. The message says where to send it."""


class StaleSnapshots(OnlineguardError):
    """The snapshots that a replica answers from are older than they may be."""
