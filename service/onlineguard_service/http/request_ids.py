"""The id of a request: the one that its client or a proxy gave it in X-Request-Id, else that of the trace that it is a
part of, else one that no other has."""

import itertools
import re
import secrets
from collections.abc import Iterable

_FIT = re.compile(rb"[\x21-\x7e]{1,128}").fullmatch
_PROCESS, _numbers = secrets.token_hex(6), itertools.count(1)


def request_name(headers: Iterable[tuple[bytes, bytes]], trace: str | None = None) -> str:
    """Text of 1 to 128 visible ASCII characters; an id that is none is replaced."""
    for name, value in headers:
        if name == b"x-request-id" and _FIT(value):
            return value.decode("ascii")
    return trace or f"{_PROCESS}-{next(_numbers):x}"
