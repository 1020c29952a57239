"""User agent, ip prefix and ad of a click as numbers, for networks with embeddings.

The number of a value is 32 bits of the BLAKE2b hash of its UTF-8 bytes, read little-endian. It is the same in every
process, on every machine and with every version of the libraries. A value that was never seen has a number too.
"""

import hashlib

import numpy as np
import polars as pl

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.clicks.clicks import prefix

COLUMNS = ("user_agent", "ip", "ad_id")


def categories(frame: pl.DataFrame) -> np.ndarray:
    """The numbers (n, 3) uint32 of user_agent, the prefix of ip, and ad_id. A null counts as empty text.

    Every distinct value is hashed once.
    """
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise InvalidArgument(f"clicks lack {', '.join(missing)}; they need text columns {', '.join(COLUMNS)}")
    out = np.empty((frame.height, len(COLUMNS)), np.uint32)
    for i, name in enumerate(COLUMNS):
        values = frame[name].cast(pl.String).fill_null("")
        distinct = values.unique()
        numbers = [category(prefix(value) if name == "ip" else value) for value in distinct]
        out[:, i] = values.replace_strict(distinct, numbers, return_dtype=pl.UInt32).to_numpy()
    return out


def category(value: str) -> int:
    """The number of one value.

    >>> category("192.0.2.0/24")
    3766589198
    """
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=4).digest(), "little")
