"""Bodies of requests: decoded, or refused with the item that is wrong, its value and the rule."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import msgspec

from onlineguard.errors import MissingExtra
from onlineguard.records.click import LATEST, RFM
from onlineguard.wire.operations import Operation
from onlineguard.wire.requests import Event
from onlineguard_service.config import nearest
from onlineguard_service.http.cutting import MOST_ITEM, PART, Part, TooLong, parts
from onlineguard_service.http.problems import Refused, shown, too_many
from onlineguard_service.patience import give_way

JSON, NDJSON, ARROW = b"application/json", b"application/x-ndjson", b"application/vnd.apache.arrow.stream"
SECONDS = range(10**9, 4 * 10**9)  # 2001 to 2096 in seconds; in milliseconds some weeks of 1970, which nobody sends
EXPLAINED = 262_144  # bytes; of a body with more a wrong value is not shown: to find it took a tenth of a second
_PACKED = "the body is {0}; say so in the header Content-Encoding: {0}"
_BEGINNINGS = {
    b"\x1f\x8b": _PACKED.format("gzip"),
    b"\x28\xb5\x2f\xfd": _PACKED.format("zstd"),
    b"\xef\xbb\xbf": "the body begins with a byte order mark; send it without",
    b"\xff\xfe": "the body is UTF-16; send it in UTF-8",
    b"\xfe\xff": "the body is UTF-16; send it in UTF-8",
}


class Items:
    """Decodes bodies that hold one object of a kind, or many. `noun` is what errors call such an object."""

    def __init__(self, noun: str, kind: type[Any]):
        self.noun, self._kind = noun, kind
        self._one = msgspec.json.Decoder(kind)
        self._many = msgspec.json.Decoder(list[kind])
        self._events = kind is Event
        self._fields = list(kind.__struct_fields__)
        self._times = [name for name in ("ts", "purchase_ts") if name in self._fields]

    @classmethod
    def of(cls, operation: Operation) -> "Items":
        """Those that an operation takes."""
        return cls(operation.noun, operation.body[0])

    def decode(self, body: bytes, lines: bool) -> tuple[list[Any], bool]:
        """The items, and whether the body is one object rather than many.

        lines: whether the body is NDJSON. Raises Refused with the path, the value and the rule.
        """
        return self._decode(Part(body), lines, 0)

    async def decoded(self, body: bytes, lines: bool, most: int) -> tuple[list[Any], bool]:
        """As `decode`. A large body is decoded in parts, with turns for others in between.

        Raises Refused also for more than `most` items, and for an item of more than `MOST_ITEM` bytes.
        """
        items, single = list[Any](), False
        if len(body) > PART and not body[:PART].strip():
            raise Refused(400, f"the body begins with {PART:,} bytes of white space or more; send it without")
        try:
            for n, part in enumerate(parts(body, lines)):
                if n:
                    await give_way()
                found, single = self._decode(part, lines, len(items))
                if not found and not lines and len(part.body) < len(body):
                    raise Refused(400, "the body is no JSON in UTF-8: an item is missing beside a comma")
                items += found
                if len(items) > most:
                    raise too_many(len(items), self.noun, most, len(part.body) < len(body))
        except TooLong:
            raise Refused(
                413, f"{self.noun} {len(items)} or one soon after it has more than {MOST_ITEM:,} bytes"
            ) from None
        return items, single

    def _decode(self, part: Part, lines: bool, first: int) -> tuple[list[Any], bool]:
        single, body = False, part.body
        try:
            if lines:
                items = self._one.decode_lines(body)
            elif body.lstrip(b" \t\r\n")[:1] == b"[":
                items = self._many.decode(body)
            else:
                items, single = [self._one.decode(body)], True
        except msgspec.ValidationError as error:
            parsed = partial(_parsed, part, lines) if len(body) <= EXPLAINED else None
            raise Refused(422, self._explained(error, parsed, first)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _no_json(error, part, lines) from None
        self._check(items, single, first)
        return items, single

    def of_arrow(self, body: bytes, most: int) -> Iterator[list[Any]]:
        """The items in the rows of an Arrow stream, some at a time, so that others may be answered in between.

        Raises Refused as `decode`, and for more than so many rows.
        """
        try:
            from onlineguard.wire import arrow
        except MissingExtra as error:
            raise Refused(415, f"this service takes no Arrow: {error}") from None
        try:
            for part in arrow.columns(body, most):
                try:
                    items = arrow.structs(part, self._kind)
                except msgspec.ValidationError:
                    items = self._of_rows(arrow.rows(part, self._kind), part.start)
                self._check(items, False, part.start)
                yield items
        except arrow.NoTable as error:
            raise Refused(413 if error.large else 400, str(error)) from None

    def _of_rows(self, rows: list[dict[str, Any]], first: int) -> list[Any]:
        """The items of rows, of which the first has this place. Raises Refused for the first that is none."""
        try:
            return msgspec.convert(rows, list[self._kind])  # type: ignore[name-defined]
        except msgspec.ValidationError as error:
            raise Refused(422, self._explained(error, lambda: rows, first)) from None

    def _explained(self, error: Exception, value: Callable[[], Any] | None, first: int = 0) -> str:
        return _explained(str(error), value, self.noun, self._fields, first)

    def _check(self, items: list[Any], single: bool, first: int = 0) -> None:
        """The rules about several fields, or about what a number means; `first` is the place of the first item."""
        for name in self._times:
            for index, item in enumerate(items, first):
                if (time := getattr(item, name)) is not None and time in SECONDS:
                    where = self.noun if single else f"{self.noun} {index}"
                    raise Refused(422, f"{where} field {name} is {time}, which are seconds; {name} {_RULES[name]}")
        if self._events:
            for index, event in enumerate(items, first):
                if (event.x is None) == (event.features is None):
                    where = self.noun if single else f"{self.noun} {index}"
                    has = "neither x nor features" if event.x is None else "x and features"
                    raise Refused(422, f"{where} has {has}; it must have one of them: numbers in order, or by name")


Media = Literal["json", "lines", "arrow"]


def media(content_type: bytes) -> Media:
    """What a body is by its content type. Raises Refused for any other than JSON, NDJSON and Arrow.

    This protects a service on the user's own machine from the pages of other sites: before a browser sends a page's
    request with such a content type it asks the service for permission, which the service does not give.
    """
    if content_type == JSON:
        return "json"
    kind = content_type.partition(b";")[0].strip().lower()
    if kind == JSON:
        return "json"
    if kind in (NDJSON, b"application/ndjson", b"application/jsonl"):
        return "lines"
    if kind == ARROW:
        return "arrow"
    fault = f"is {kind.decode('latin-1')}" if kind else "is missing"
    raise Refused(
        415,
        f"the content type {fault}; it must be application/json, application/x-ndjson or {ARROW.decode()}",
    )


def plain_json(body: bytes) -> Any:
    """A body that is one JSON value of any kind. Raises Refused."""
    try:
        return msgspec.json.decode(body)
    except msgspec.ValidationError as error:
        raise Refused(422, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _no_json(error, Part(body), False) from None


def decoded[K: msgspec.Struct](body: bytes, kind: type[K]) -> K:
    """The one object of a kind that a body holds. Raises Refused."""
    plain_json(body)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        told, _, path = str(error).partition(" - at `$")
        fields = ", ".join(kind.__struct_fields__)
        if (unknown := re.search(r"unknown field `(.*?)`", told)) is not None:
            hint = nearest(unknown[1], list(kind.__struct_fields__))
            why = f"has a field {shown(unknown[1])}, which is unknown; {hint}"
        elif (field := path.removeprefix(".").removesuffix("`")) and not told.startswith("Object"):
            why = f"has a field {field} that is wrong: {told[:1].lower()}{told[1:]}"
        else:
            why = f"is wrong: {told[:1].lower()}{told[1:]}; it must be an object with the fields {fields}"
        raise Refused(422, f"the body {why}") from None


# The rules of fields for which msgspec's own words would not say everything.
_RULES = {
    "slice": "must be text, a whole number, or a list of one or more of those",
    "x": "must be a list of numbers, or of texts for categories, null where one is missing",
    "features": "must be an object of numbers by name, or of texts for categories, null where one is missing",
    **dict.fromkeys(("ts", "purchase_ts"), f"must be a whole number from 0 to {LATEST}: milliseconds since 1970 UTC"),
    "logged_in": "must be true or false",
    "rfm": f"must be a number from {RFM[0]:g} to {RFM[1]:g}",
}


def _parsed(part: Part, lines: bool) -> Any:
    """The values that a part holds, of whatever kind. Raises Refused where it stops being JSON."""
    try:
        return msgspec.json.Decoder().decode_lines(part.body) if lines else msgspec.json.decode(part.body)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _no_json(error, part, lines) from None


def _explained(error: str, parsed: Callable[[], Any] | None, noun: str, fields: list[str], first: int = 0) -> str:
    """The item, field and value that msgspec's message is about, and the rule in words; no value where none is given.

    first: the place of the item that the message counts as the first.

    >>> _explained("Expected `str`, got `int` - at `$[7].id`", None, "event", ["id"])
    'event 7 field id is wrong: expected `str`, got `int`; id must be text'
    """
    match = re.search(r" - at `\$([^`]*)`", error)
    path, told = match[1] if match else "", error.partition(" - at ")[0]
    where, field, value = noun, "", None
    item = re.match(r"\[(\d+)\]", path)
    of_item = noun if item is None else f"{noun} {first + int(item[1])}"
    place = path[item.end() if item is not None else 0 :].removeprefix(".")
    if parsed is None:
        where = of_item
        field = found[1] if (found := re.search(r"\.([^.\[]+)", path)) is not None else ""
        is_wrong = f"is wrong: {told[:1].lower()}{told[1:]}"
    else:
        try:
            value = parsed()
        except msgspec.ValidationError:  # a number that no float holds
            return f"{of_item} field {place} is a {told.lower()}; it must be one of up to 1.8e308, as a float holds"
        for index, name in re.findall(r"\[([^\]]*)\]|\.([^.\[]+)", path):
            if index.isdigit() and isinstance(value, list) and int(index) < len(value):
                where = where if field else f"{noun} {first + int(index)}"
                value = value[int(index)]
            elif name and isinstance(value, dict):
                field, value = field or name, value.get(name)
            elif index == "..." and isinstance(value, dict):
                # msgspec does not name the member: it is the first that is no number and no text
                name = next(
                    (name for name, each in value.items() if type(each) not in (int, float, str, type(None))), "..."
                )
                path, value = path.replace("[...]", f"[{shown(name)}]"), value.get(name)
        is_wrong = f"is {shown(value)}"
    if (unknown := re.search(r"unknown field `(.*?)`", error)) is not None:
        return f"{where} has a field {shown(unknown[1])}, which is unknown; {nearest(unknown[1], fields)}"
    if (missing := re.search(r"missing required field `(\w+)`", error)) is not None:
        return f"{where} has no field {missing[1]}; it {_RULES.get(missing[1], 'must be text')}"
    if not field:
        return f"{where} {is_wrong}; it must be a JSON object"
    if (long := re.search(r"length <= (\d+)", error)) is not None and isinstance(value, str | list):
        what = "characters" if isinstance(value, str) else "parts"
        return f"{where} field {field} has {len(value):,} {what}; it may have {int(long[1]):,}"
    place = re.sub(r"^\[\d+\]", "", path).removeprefix(".")  # with the name of a member
    return f"{where} field {place} {is_wrong}; {field} {_RULES.get(field, 'must be text')}"


def _no_json(error: Exception, part: Part, lines: bool) -> Refused:
    body = part.body
    rule = "one JSON object a line" if lines else "one JSON object, or an array of them"
    for beginning, whole in _BEGINNINGS.items():
        if body.startswith(beginning):
            return Refused(400, whole)
    if not body.strip():
        return Refused(400, f"the body is empty; it must be {rule}")
    what = f"line {part.lines + line} of the body" if lines and (line := _broken_line(body)) else "the body"
    if isinstance(error, RecursionError):
        return Refused(400, f"{what} is nested too deep; it must be {rule}")
    why = str(error).removeprefix("JSON is malformed: ")
    if isinstance(error, UnicodeDecodeError):
        why = f"the byte {error.object[error.start]:#04x} begins no character"
    elif "truncated" in why:
        why = "it ends too early"
    if part.start:
        why = re.sub(r"\(byte (\d+)\)", lambda found: f"(byte {part.start + int(found[1])})", why)
    told = f"{what} is no JSON in UTF-8: {why}; it must be {rule}"
    place = re.search(r"\(byte (\d+)\)", str(error))
    about = int(place[1]) if place else 0  # where, or a few bytes behind
    word = re.search(rb"-?\b(nan|inf(inity)?)\b", body[max(about - 9, 0) : about + 9], re.IGNORECASE)
    if word is not None:
        return Refused(400, f"{told}. {word[0].decode()} is no number of JSON: send null where a feature is missing")
    if not lines and "trailing characters" in why:
        return Refused(400, f"{told}. For one a line send the content type application/x-ndjson")
    return Refused(400, told)


def _broken_line(body: bytes) -> int | None:
    """The first line, from 1, that is no JSON; None where that is not looked for."""
    for number, line in enumerate(body.split(b"\n") if len(body) <= EXPLAINED else [], 1):
        try:
            if line.strip():
                msgspec.json.decode(line, type=msgspec.Raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return number
    return None
