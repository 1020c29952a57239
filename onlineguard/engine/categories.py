"""Categories as codes: whole numbers below 2^24, the same for a text in every process and on every machine."""

import functools
import math
import numbers
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from onlineguard.engine.keys import CodedKeys, as_keys
from onlineguard.errors import InvalidArgument
from onlineguard.models.categories import CODES


def as_codes(values: Any, where: str) -> np.ndarray:
    """The codes of n categories in a column or a list, float64 (n,); NaN where one is absent, null or NaN.

    A category is a text, a boolean or a number; 404, 404.0 and "404" are the same one. Raises InvalidArgument, with
    `where` as the argument, for anything else.
    """
    keys = as_keys(values, len(values))
    if isinstance(keys, np.ndarray) and keys.dtype.kind in "iuf":
        unique, codes = np.unique(keys, return_inverse=True)
        keys = CodedKeys(unique.tolist(), codes)
    if isinstance(keys, CodedKeys):
        return _codes(keys.unique, where)[keys.codes]
    return _codes(keys, where)


def code(value: Any, where: str) -> float:
    """The code of one category; see `as_codes`."""
    if isinstance(value, str):
        return _code_of_text(value)
    if isinstance(value, (bool, np.bool)):
        return _code_of_text(str(bool(value)))
    if isinstance(value, numbers.Real):
        number = float(value)
        if math.isfinite(number):
            return _code_of_text(str(int(number)) if number.is_integer() else repr(number))
        return math.nan
    if value is None or str(value) == "<NA>":  # pandas' own missing value
        return math.nan
    raise InvalidArgument(where, f"holds {value!r}; a category must be a text, a number or a boolean, or be absent")


def _codes(values: Iterable[Any], where: str) -> np.ndarray:
    return np.array([code(value, where) for value in values], np.float64)


@functools.lru_cache(1 << 16)
def _code_of_text(text: str) -> float:
    return float(zlib.crc32(text.encode("utf-8", "surrogatepass")) % CODES)
