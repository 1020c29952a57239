"""API keys: who may ask for what. The file holds only digests, so that who reads it cannot ask.

    [dashboard]
    key_sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    scopes = ["score"]

A key is 256 random bits, so that its plain SHA-256 cannot be guessed. It is looked up by its digest: the time that
takes tells an attacker about digests of keys that were tried, not about keys.
"""

import re
import secrets
import tomllib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from onlineguard.errors import InvalidArgument
from onlineguard_service.config import nearest

SCOPES = ("score", "update", "admin")
MARK = "og_"  # what a key begins with, so that scanners for leaked secrets can know it


@dataclass(frozen=True)
class Key:
    """Who asks, and what for they may."""

    name: str
    scopes: frozenset[str]


class Keys:
    """The keys that are known. Without any, all may do all."""

    def __init__(self, keys: dict[str, Key]):
        self._keys = keys  # by the digest in hex

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, key: bytes) -> Key | None:
        """Whose key it is; None if nobody's."""
        return self._keys.get(sha256(key).hexdigest())

    @staticmethod
    def load(path: Path) -> "Keys":
        """The keys of a TOML file. Raises InvalidArgument with the file and the name of what is wrong."""
        try:
            tables = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise InvalidArgument(f"--keys {path} cannot be read: {error.strerror or error}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"--keys {path} is no TOML: {error}") from error
        keys: dict[str, Key] = {}
        for name, table in tables.items():
            digest, key = _key(f"{path}: [{name}]", name, table)
            if digest in keys:
                raise InvalidArgument(f"{path}: [{name}] has the key of [{keys[digest].name}]; each needs its own")
            keys[digest] = key
        if not keys:
            raise InvalidArgument(f"--keys {path} holds no key, and nobody could ask; make one with --new-key NAME")
        return Keys(keys)


def new_key(name: str, scopes: list[str]) -> tuple[str, str]:
    """A new key, and what to add to the file of keys. Raises InvalidArgument for a scope that there is not."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise InvalidArgument(f"--new-key is {name!r}; it must be up to 64 letters, digits, - and _")
    _check_scopes("--scope", scopes)
    key = MARK + secrets.token_urlsafe(32)
    listed = ", ".join(f'"{scope}"' for scope in dict.fromkeys(scopes))
    return key, f'[{name}]\nkey_sha256 = "{sha256(key.encode()).hexdigest()}"\nscopes = [{listed}]\n'


def _key(where: str, name: str, table: Any) -> tuple[str, Key]:
    if not isinstance(table, dict):
        raise InvalidArgument(f"{where} must be a table with key_sha256 and scopes")
    for field in table:
        if field not in ("key_sha256", "scopes"):
            raise InvalidArgument(f"{where} has {field}, which is unknown; {nearest(field, ['key_sha256', 'scopes'])}")
    digest, scopes = table.get("key_sha256"), table.get("scopes")
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-fA-F]{64}", digest):
        raise InvalidArgument(f"{where} needs key_sha256, the SHA-256 of the key in 64 hexadecimal digits")
    if not isinstance(scopes, list):
        raise InvalidArgument(f"{where} needs scopes, a list of some of {', '.join(SCOPES)}")
    _check_scopes(f"{where} scopes", scopes)
    return digest.lower(), Key(name, frozenset(scopes))


def _check_scopes(where: str, scopes: list[Any]) -> None:
    for scope in scopes:
        if scope not in SCOPES:
            raise InvalidArgument(f"{where} is {scope!r}; it must be one of {', '.join(SCOPES)}")
    if not scopes:
        raise InvalidArgument(f"{where} is empty; it must name at least one of {', '.join(SCOPES)}")
