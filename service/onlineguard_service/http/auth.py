"""API keys, and the scopes that each was granted. The file holds only digests: reading it gives nobody a key.

    [dashboard]
    key_sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    scopes = ["score"]

A key of a tenant also has a namespace, `namespace = "acme"`: what it learns and asks is of this namespace alone. Its
scopes are score and update, since what needs admin changes the service for all; a key that has the scope admin, and no
namespace, may work inside any of them.

A key is 256 random bits, too many to guess from its SHA-256. Keys are looked up by digest, so the time of a look-up
tells an attacker nothing about the keys that exist.
"""

import re
import secrets
import tomllib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

from onlineguard.errors import InvalidArgument
from onlineguard.wire.operations import Scope
from onlineguard_service.config import nearest

SCOPES: tuple[Scope, ...] = get_args(Scope)
_FIELDS = ["key_sha256", "scopes", "namespace"]
_NAME = r"[A-Za-z0-9_-]{1,64}"  # of a key, and of a namespace
PREFIX = "og_"  # of a key, by which scanners for leaked secrets recognise it


@dataclass(frozen=True)
class Caller:
    """A client and the scopes it was granted."""

    name: str
    scopes: frozenset[str]
    namespace: str = ""  # that it is confined to, if any


class ApiKeys:
    """The callers that may use the service, each found by its key."""

    def __init__(self, callers: dict[str, Caller]):
        self._callers = callers  # by the digest of their key, in hex
        self.namespaces = frozenset(caller.namespace for caller in callers.values() if caller.namespace)

    def __len__(self) -> int:
        return len(self._callers)

    def find(self, key: bytes) -> Caller | None:
        """The caller that this key was issued to; None for an unknown key."""
        return self._callers.get(sha256(key).hexdigest())

    @staticmethod
    def load(path: Path) -> "ApiKeys":
        """The callers in a TOML file. Raises InvalidArgument, which names the file and the table that is wrong."""
        try:
            tables = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise InvalidArgument(f"--keys {path} cannot be read: {error.strerror or error}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"--keys {path} is no TOML: {error}") from error
        callers: dict[str, Caller] = {}
        for name, table in tables.items():
            digest, caller = _caller(f"{path}: [{name}]", name, table)
            if digest in callers:
                raise InvalidArgument(f"{path}: [{name}] has the key of [{callers[digest].name}]; each needs its own")
            callers[digest] = caller
        if not callers:
            raise InvalidArgument(
                f"--keys {path} holds no key, so nobody could use the service; make one with --new-key"
            )
        return ApiKeys(callers)


def new_key(name: str, scopes: list[str], namespace: str = "") -> tuple[str, str]:
    """A new key, and the table to add to the file of keys. Raises InvalidArgument for an unknown scope."""
    if not re.fullmatch(_NAME, name):
        raise InvalidArgument("--new-key", f"is {name!r}; it must be up to 64 letters, digits, - and _")
    _check_scopes("--scope", scopes)
    if namespace:
        _check_namespace("--namespace", namespace, scopes)
    key = PREFIX + secrets.token_urlsafe(32)
    listed = ", ".join(f'"{scope}"' for scope in dict.fromkeys(scopes))
    return key, f'[{name}]\nkey_sha256 = "{sha256(key.encode()).hexdigest()}"\nscopes = [{listed}]\n' + (
        f'namespace = "{namespace}"\n' if namespace else ""
    )


def _caller(where: str, name: str, table: Any) -> tuple[str, Caller]:
    if not isinstance(table, dict):
        raise InvalidArgument(f"{where} must be a table with key_sha256 and scopes")
    for field in table:
        if field not in _FIELDS:
            raise InvalidArgument(f"{where} has {field}, which is unknown; {nearest(field, _FIELDS)}")
    digest, scopes = table.get("key_sha256"), table.get("scopes")
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-fA-F]{64}", digest):
        raise InvalidArgument(f"{where} needs key_sha256, the SHA-256 of the key in 64 hexadecimal digits")
    if not isinstance(scopes, list):
        raise InvalidArgument(f"{where} needs scopes, a list of some of {', '.join(SCOPES)}")
    _check_scopes(f"{where} scopes", scopes)
    namespace = table.get("namespace", "")
    if "namespace" in table:
        _check_namespace(f"{where} namespace", namespace, scopes)
    return digest.lower(), Caller(name, frozenset(scopes), namespace)


def _check_namespace(where: str, namespace: Any, scopes: list[str]) -> None:
    if not isinstance(namespace, str) or not re.fullmatch(_NAME, namespace):
        raise InvalidArgument(where, f"is {namespace!r}; it must be up to 64 letters, digits, - and _")
    if "admin" in scopes:
        raise InvalidArgument(
            where, "goes with the scope admin, which changes the service for all; give the key score and update only"
        )


def _check_scopes(where: str, scopes: list[Any]) -> None:
    for scope in scopes:
        if scope not in SCOPES:
            raise InvalidArgument(where, f"is {scope!r}; it must be one of {', '.join(SCOPES)}")
    if not scopes:
        raise InvalidArgument(where, f"is empty; it must name at least one of {', '.join(SCOPES)}")
