"""Queries and keys in paths: decoded by the contract, or refused."""

import re
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from starlette.requests import Request

from onlineguard.wire.requests import Of, SliceKey
from onlineguard_service.config import nearest
from onlineguard_service.http.problems import Refused, shown


def query[Q: msgspec.Struct](request: Request, kind: type[Q]) -> Q:
    """The query as a struct of the contract. Raises Refused for a wrong value, or a wrong, missing or second name."""
    kinds = {field.name: field.type for field in msgspec.structs.fields(kind)}
    texts: dict[str, str] = {}
    for name, text in request.query_params.multi_items():
        if name not in kinds:
            raise Refused(422, f"the query has {shown(name)}, which is unknown; {nearest(name, sorted(kinds))}")
        if name in texts:
            raise Refused(422, f"the query has {name} twice; it must have it once")
        texts[name] = text
    for field in msgspec.structs.fields(kind):
        if field.required and field.name not in texts:
            raise Refused(422, f"the query has no {field.name}; it must have {', '.join(sorted(kinds))}")
    return kind(**{name: _value(name, text, kinds[name]) for name, text in texts.items()})


def who(request: Request) -> str:
    """The name of the key, or whence somebody without one came; of routes that need the scope admin."""
    address = request.client.host if request.client else "an unknown address"
    return request.scope["caller"] or f"without a key, from {address}"


def _value(name: str, text: str, kind: Any) -> str | int | float:
    """The value of a field, written as text: one of its choices, a number, a whole one within limits, or any text."""
    for part in _parts(kind):
        if get_origin(part) is Literal:
            if text not in get_args(part):
                raise Refused(422, f"{name} is {shown(text)}; it must be one of {', '.join(get_args(part))}")
            return text
        if part is float:
            if not re.fullmatch(r"-?[0-9]{1,30}(\.[0-9]{1,30})?(e-?[0-9]{1,2})?", text):
                raise Refused(422, f"{name} is {shown(text)}; it must be a number")
            return float(text)
        if isinstance(part, msgspec.Meta) and part.ge is not None and part.le is not None:
            if not re.fullmatch("[0-9]{1,16}", text) or not part.ge <= int(text) <= part.le:
                raise Refused(422, f"{name} is {shown(text)}; it must be a whole number from {part.ge} to {part.le}")
            return int(text)
    return text


def _parts(kind: Any) -> Iterator[Any]:
    """The annotation, the members of its unions, and what it is annotated with."""
    yield kind
    if get_origin(kind) in (Annotated, Union, UnionType):
        for part in get_args(kind):
            yield from _parts(part)


def keys_of(text: str, of: Of) -> list[SliceKey]:
    """The keys that a path may mean: the text itself and, for events, the key whose JSON it is."""
    keys: list[SliceKey] = [text]
    if of == "events":
        try:
            keys.append(msgspec.json.decode(text, type=SliceKey))
        except (msgspec.DecodeError, UnicodeError):
            return keys
    return keys
