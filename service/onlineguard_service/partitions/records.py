"""What the value of a record is, and what becomes of one that is nothing.

| kind | value | belongs to the partition of |
|---|---|---|
| `events` | one event, or several | its slice: `wire.placement` |
| `clicks` | one click, or several | its user; without one its session, else itself |
| `counted` | clicks with what the counters say of them, as `counted` makes it | as `clicks` |
| `labels` | one label, or several | the user of its click, which only the producer knows |
| `control` | an entry of the operator, encoded by `controlled`: a switch, a tuning, an erasure | every partition |

Events, clicks and labels are what a request to the service holds: one JSON object, an array of them, or a stream of
Arrow, which is told by its first bytes. The same checks and limits hold, and messages are the same too. A record's
items stand or fall together. All items of a record belong to one partition; `parted` divides a batch so.

A record becomes an entry of `entries`, whose time is the record's, so that a shard that reads its log again does the
same again.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from onlineguard.slidr.counting.windows import COLUMNS
from onlineguard.wire.placement import key_of, partition_of
from onlineguard.wire.requests import Click, Event, Label
from onlineguard_service import entries
from onlineguard_service.entries import Clicks, Entry, Events, Labels
from onlineguard_service.http.bodies import Items
from onlineguard_service.http.problems import Refused
from onlineguard_service.partitions.log import Output, Record

MOST = 10_000  # items of a record
MOST_VALUE = 64 << 10  # bytes of a value that a dead letter repeats
Item = Event | Click | Label

_ARROW = b"\xff\xff\xff\xff"  # what a message of Arrow begins with; no JSON does
_ITEMS = {"events": Items("event", Event), "clicks": Items("click", Click), "labels": Items("label", Label)}
_ENTRIES = {"events": Events, "clicks": Clicks, "labels": Labels}
_DATA = (entries.Begin, Events, Clicks, Labels, entries.Decisions)


class Poison(Exception):
    """A record that nothing can be done with; the message says why."""


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the topic of dead letters tells of a record. The value is text where it is UTF-8, else in base 64."""

    reason: str
    partition: int
    offset: int
    kind: str
    t: int  # ms since 1970, of the record
    size: int  # bytes of the value, of which at most `MOST_VALUE` follow
    value: str = ""
    base64: str = ""


def decoded(record: Record) -> Entry:
    """The entry of a record. Raises Poison with the item, its field, its value and the rule."""
    if record.kind == "control":
        return _of_operator(record)
    if record.kind == "counted":
        return _counted(record)
    if (items := _ITEMS.get(record.kind)) is None:
        raise Poison(f"kind is {record.kind!r}; it must be one of {', '.join(_ITEMS)}, counted, control")
    try:
        if record.value.startswith(_ARROW):
            found = [each for part in items.of_arrow(record.value, MOST) for each in part]
        else:
            found, _ = items.decode(record.value, False)
    except Refused as error:
        raise Poison(str(error)) from None
    if len(found) > MOST:
        raise Poison(f"the record holds {len(found):,} {record.kind}; it may hold {MOST:,}. Send it in parts")
    return _ENTRIES[record.kind](found, record.t)


def controlled(entry: Entry) -> bytes:
    """The value of a record of kind `control`. Its time is given by the log."""
    return entries.encode(entry)


def counted(clicks: Sequence[Click], counts: bytes) -> bytes:
    """The value of a record of kind `counted`. counts: int32 (n, 34), as the counters gave them."""
    return entries.encode(Clicks(list(clicks), 0, counts))


def dead_letter(partition: int, record: Record, reason: str) -> Output:
    """What is published of a record that is poison."""
    kept = record.value[:MOST_VALUE]
    try:
        text, coded = kept.decode(), ""
    except UnicodeDecodeError:
        text, coded = "", base64.b64encode(kept).decode()
    letter = DeadLetter(reason, partition, record.offset, record.kind, record.t, len(record.value), text, coded)
    return Output(record.offset, 0, "dead", f"{partition}:{record.offset}".encode(), msgspec.json.encode(letter))


def parted(items: Iterable[Event | Click], partitions: int) -> Mapping[int, Sequence[Event | Click]]:
    """Items by the partition they belong to, each in the order in which they came."""
    found: dict[int, list[Event | Click]] = {}
    for item in items:
        found.setdefault(partition_of(key_of(item), partitions), []).append(item)
    return found


def _counted(record: Record) -> Clicks:
    try:
        entry = entries.decode(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Poison(f"the record holds no counted clicks: {error}; make it with `counted`") from None
    if not isinstance(entry, Clicks) or entry.looked_up or len(entry.counts) != 4 * len(COLUMNS) * len(entry.clicks):
        raise Poison(f"the record does not hold clicks with {len(COLUMNS)} counts each; make it with `counted`")
    if len(entry.clicks) > MOST:
        raise Poison(f"the record holds {len(entry.clicks):,} clicks; it may hold {MOST:,}. Send it in parts")
    return msgspec.structs.replace(entry, t=record.t)


def _of_operator(record: Record) -> Entry:
    try:
        entry = entries.decode(record.value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Poison(f"the record is no entry of the operator: {error}; make it with `controlled`") from None
    if isinstance(entry, _DATA):
        raise Poison(f"the record holds {type(entry).__name__}, which no operator sends; send it by its own kind")
    return msgspec.structs.replace(entry, t=record.t) if hasattr(entry, "t") else entry
