"""Names in place of users, sessions and addresses, which only who has the key can tell from a known one.

A name is BLAKE2b of the text under the key. It says nothing by itself, and the same text always has the same one, so
that everything which counts or joins works on names as on the texts.

An address becomes one of IPv6: 48 bits for its network, as `clicks.prefix` tells it, and 80 for itself. So addresses of
one network stay in one network, and features that are counted of names are those of the texts.
"""

import hashlib
import os
import secrets
from ipaddress import IPv6Address
from pathlib import Path

import polars as pl

from onlineguard import atomic
from onlineguard.errors import SourceError
from onlineguard.slidr.clicks.clicks import prefix

BYTES = 32  # of a key


class Pseudonyms:
    """Of one key."""

    def __init__(self, key: bytes):
        self._key = key

    @property
    def mark(self) -> str:
        """Tells keys apart, and nothing about them."""
        return self._hash("mark", "", 8).hex()

    def user(self, user_id: str) -> str:
        """The name of a user."""
        return self._hash("user", user_id, 16).hex()

    def session(self, session_id: str) -> str:
        """The name of a session."""
        return self._hash("session", session_id, 16).hex()

    def address(self, ip: str) -> str:
        """The address that stands for an address, or for any other text in its place."""
        return str(IPv6Address(self._hash("network", prefix(ip), 6) + self._hash("ip", ip, 10)))

    def replaced(self, clicks: pl.DataFrame) -> pl.DataFrame:
        """Clicks with names in place of their users, sessions and addresses."""
        for column, name in (("user_id", self.user), ("session_id", self.session), ("ip", self.address)):
            known = clicks[column].drop_nulls().unique()
            names = pl.DataFrame({column: known, "name_": [name(text) for text in known]}, schema_overrides=_TEXT)
            clicks = clicks.join(names, on=column, how="left", maintain_order="left").with_columns(
                pl.col("name_").alias(column)
            )
            clicks = clicks.drop("name_")
        return clicks

    def _hash(self, what: str, text: str, size: int) -> bytes:
        return hashlib.blake2b(text.encode(), key=self._key, person=what.encode(), digest_size=size).digest()


_TEXT = {"name_": pl.String()}


def read_key(path: Path) -> bytes:
    """The key in a file. Raises SourceError."""
    try:
        key = bytes.fromhex(path.read_text("ascii").strip())
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{path} holds no key: {error}; name the file that the service made, history.key in its state"
        ) from error
    if len(key) != BYTES:
        raise SourceError(f"{path} holds a key of {len(key)} bytes; it must be {BYTES}, as the service made it")
    return key


def made_key(path: Path) -> bytes:
    """The key in a file, made where it is missing, for its owner alone to read. Raises OSError, SourceError."""
    if not path.exists():
        with atomic.replacing(path) as temporary:
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(file, "w", encoding="ascii") as out:
                out.write(secrets.token_hex(BYTES) + "\n")
    return read_key(path)
