"""Fields of a column as numbers or as slice keys, and the fields that are neither."""

import json
from contextlib import suppress
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from onlineguard.engine.categories import as_codes
from onlineguard.sources.rejects import shortened

FLOAT32_MAX = float(np.finfo(np.float32).max)
MISSING = {"", "null", "none", "na", "n/a"}  # besides nan and inf, in any case
_WORDS = dict.fromkeys(MISSING, np.nan) | {"true": 1.0, "false": 0.0}


def to_numbers(column: pl.Series | list[Any]) -> tuple[Float[np.ndarray, " n"], dict[int, str]]:
    """Float64 with NaN where a number is missing, and the texts that are no numbers, by position."""
    if isinstance(column, list):
        if set(map(type, column)) <= {float, int, type(None)}:
            with suppress(OverflowError):  # an integer beyond float64
                values = np.array(column, np.float64)  # None becomes NaN
                return np.where(np.isinf(values), np.copysign(FLOAT32_MAX, values), values), {}  # JSON has no infinity
        column = to_texts(column)
    values = column.cast(pl.Float64, strict=False)
    numbers = np.array(values.to_numpy(), np.float64)
    infinite = np.isinf(numbers)
    if column.dtype != pl.String:
        numbers[infinite] = np.nan
        return numbers, {}
    wrong: dict[int, str] = {}
    if values.null_count() > column.null_count():
        unread = np.flatnonzero((values.is_null() & (column.fill_null("") != "")).to_numpy())
        texts = column.gather(unread).str.strip_chars()
        values = texts.cast(pl.Float64, strict=False)
        numbers[unread] = values.to_numpy()
        for i in np.flatnonzero(values.is_null().to_numpy()):
            number = _WORDS.get(texts[int(i)].lower())
            if number is None:
                wrong[int(unread[i])] = shortened(column[int(unread[i])], 100)
            else:
                numbers[unread[i]] = number
        infinite = np.isinf(numbers)
    for i in np.flatnonzero(infinite):  # 1e999 is a number, however absurd; inf is none
        overflow = any(character.isdigit() for character in column[int(i)])
        numbers[i] = np.copysign(FLOAT32_MAX, numbers[i]) if overflow else np.nan
    return numbers, wrong


def to_codes(column: pl.Series | list[Any]) -> tuple[Float[np.ndarray, " n"], dict[int, str]]:
    """The codes of categories, NaN where one is missing, and the values that are no categories, by position."""
    wrong: dict[int, str] = {}
    if isinstance(column, list):
        wrong = {i: shortened(json.dumps(v), 100) for i, v in enumerate(column) if isinstance(v, list | dict)}
        column = [None if i in wrong else value for i, value in enumerate(column)] if wrong else column
    values = pl.Series(column, strict=False) if isinstance(column, list) and _are_texts(column) else column
    codes = as_codes(values, "category")
    if isinstance(values, pl.Series) and values.dtype == pl.String:
        missing = values.str.strip_chars().str.to_lowercase().is_in(list(MISSING | {"nan"})).fill_null(True)
        codes = np.where(missing.to_numpy(), np.nan, codes)
    return codes, wrong


def count_texts(column: pl.Series | list[Any]) -> tuple[int, int]:
    """How many fields are texts that are no numbers, and how many fields are not missing."""
    texts = to_texts(column) if isinstance(column, list) else column
    if not isinstance(texts.dtype, pl.String | pl.Categorical | pl.Enum):
        return 0, len(texts) - texts.null_count()
    texts = texts.cast(pl.String)
    _, wrong = to_numbers(texts)
    return len(wrong), len(texts) - texts.null_count() - int((texts == "").sum())


def to_keys(column: pl.Series | list[Any]) -> tuple[pl.Series, dict[int, str]]:
    """Strings, "" where a key is missing, or integers; and the values that are no keys, by position."""
    wrong: dict[int, str] = {}
    if isinstance(column, list):
        if not set(map(type, column)) <= {str, int, float, bool, type(None)}:
            wrong = {i: "a list or an object" for i, value in enumerate(column) if isinstance(value, list | dict)}
        column = to_texts(column)
    if column.dtype.is_integer():
        wrong = {int(i): "null" for i in np.flatnonzero(column.is_null().to_numpy())}
        return column.cast(pl.Int64, strict=False) if column.dtype != pl.UInt64 else column, wrong
    return column.cast(pl.String).fill_null(""), wrong


def _are_texts(column: list[Any]) -> bool:
    return set(map(type, column)) <= {str, type(None)}


def to_texts(values: list[Any]) -> pl.Series:
    """JSON values as text, None where null."""
    return pl.Series([v if v is None or type(v) is str else _text(v) for v in values], dtype=pl.String)


def _text(value: Any) -> str:
    return "1e999" if value == float("inf") else "-1e999" if value == -float("inf") else json.dumps(value)
