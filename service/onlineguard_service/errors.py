"""The exceptions of the service, beside those of `onlineguard.errors`."""

from onlineguard.errors import OnlineguardError


class JournalUnavailable(OnlineguardError):
    """The journal cannot take an entry now: the disk is full, or Redis is gone. Nothing was learned; send it again."""
