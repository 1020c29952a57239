"""What a request's path and query ask for, or why they are refused."""

import re
from typing import Any

import msgspec
from starlette.requests import Request

from onlineguard_service.config import nearest
from onlineguard_service.http.problems import Refused, shown


def query(request: Request, known: set[str]) -> dict[str, str]:
    """What the query gives, each name once and known."""
    asked: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise Refused(422, f"the query has {shown(name)}, which is unknown; {nearest(name, sorted(known))}")
        if name in asked:
            raise Refused(422, f"the query has {name} twice; it must have it once")
        asked[name] = value
    return asked


def choice(asked: dict[str, str], name: str, choices: tuple[str, ...], default: str | None) -> str | None:
    """The value of a name, one of the choices."""
    value = asked.get(name, default)
    if value is not None and value not in choices:
        raise Refused(422, f"{name} is {shown(value)}; it must be one of {', '.join(choices)}")
    return value


def whole(asked: dict[str, str], name: str, least: int, most: int, default: int) -> int:
    """The value of a name, a whole number between two."""
    text = asked.get(name, str(default))
    if not re.fullmatch("[0-9]{1,10}", text) or not least <= int(text) <= most:
        raise Refused(422, f"{name} is {shown(text)}; it must be a whole number from {least} to {most}")
    return int(text)


def keys_of(text: str, of: str) -> list[Any]:
    """The keys that a path may mean: the text itself, or for events the number, list or text whose JSON it is."""
    keys: list[Any] = [text]
    if of == "events":
        try:
            key = msgspec.json.decode(text, type=str | int | list[str | int])
        except (msgspec.DecodeError, UnicodeError):
            return keys
        keys.append(tuple(key) if isinstance(key, list) else key)
    return keys
