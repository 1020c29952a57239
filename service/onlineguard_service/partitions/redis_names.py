"""How a log is laid out in Redis: names of keys, offsets of entries, and the number of partitions."""

from typing import Any

from onlineguard.errors import InvalidArgument, OnlineguardError
from onlineguard_service.partitions.log import NOTHING

BITS = 21  # of an offset, for the number of an entry within its millisecond


def key(stream: str, partition: int, name: str = "events") -> str:
    """A key of a partition. All of them lie in one slot of a cluster."""
    return f"{{{stream}:{partition}}}:{name}"


def key_of_all(stream: str, name: str) -> str:
    """A key of the whole log."""
    return f"{{{stream}}}:{name}"


def offset_of(id: bytes) -> int:
    """The offset of a stream's entry, by its id.

    >>> offset_of(b"1-2"), id_of(2097154)
    (2097154, '1-2')
    """
    ms, _, number = id.partition(b"-")
    if int(number) >> BITS:
        raise OnlineguardError(
            f"entry {id.decode()} is one of more than {1 << BITS:,} in a millisecond, so that it has no offset; "
            "the clock of Redis was set back, or ids were given by hand. Begin the log anew, with ids of Redis"
        )
    return int(ms) << BITS | int(number)


def id_of(offset: int) -> str:
    """The id of the entry at an offset; that before all others for `NOTHING`."""
    return f"{offset >> BITS}-{offset & (1 << BITS) - 1}" if offset > NOTHING else "0-0"


def digits(offset: int) -> str:
    """Of one length, so that texts compare as the offsets do: numbers of Lua have 53 bits."""
    return f"{max(offset, 0):020d}"


def checked(replicas: int) -> int:
    """How many replicas must have what is written. Raises InvalidArgument for less than none."""
    if replicas < 0:
        raise InvalidArgument("replicas", f"is {replicas}; it must be 0, or as many as each primary has, e.g. 1")
    return replicas


def count(client: Any, stream: str, partitions: int | None) -> int:
    """How many partitions a log has; so many, if it is new. Raises InvalidArgument where it has others."""
    if not stream or set(stream) & set("{}"):
        raise InvalidArgument("stream", f"is {stream!r}; it must be text without braces, e.g. clicks")
    if partitions is not None and partitions < 1:
        raise InvalidArgument("partitions", f"is {partitions}; it must be at least 1, e.g. 8")
    name = key_of_all(stream, "partitions")
    if partitions is not None:
        client.set(name, partitions, nx=True)
    if (found := client.get(name)) is None:
        raise InvalidArgument(
            "partitions", f"is not given, and Redis has no log {stream!r} yet; begin it with partitions=8, for example"
        )
    if partitions not in (None, int(found)):
        raise InvalidArgument(
            "partitions",
            f"is {partitions}, but the log {stream!r} has {int(found)}, and keys would move if it changed; leave it "
            "out, or begin a log under another name",
        )
    return int(found)
