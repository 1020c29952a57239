"""Fields of a column as numbers or as slice keys, and the fields that are neither."""

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from onlineguard.engine.categories import as_codes
from onlineguard.sources.numerals import PLAIN, Numerals, parsed
from onlineguard.sources.rejects import shortened

FLOAT32_MAX = float(np.finfo(np.float32).max)
MISSING = {"", "null", "none", "na", "n/a"}  # besides nan and inf, in any case
_TRUTHS = {"true": 1.0, "false": 0.0}
_NANS = ("nan", "+nan", "-nan")


@dataclass(frozen=True)
class Style:
    """How numbers stand in a source: their numerals, words for a missing one, and numbers that mean a missing one."""

    numerals: Numerals = PLAIN
    words: frozenset[str] = frozenset(MISSING)  # in small letters
    named: frozenset[str] = frozenset()  # those of them that the user named, which hold for categories, too
    numbers: tuple[float, ...] = ()


_USUAL = Style()


def to_numbers(column: pl.Series | list[Any], style: Style = _USUAL) -> tuple[Float[np.ndarray, " n"], dict[int, str]]:
    """Float64 with NaN where a number is missing, and the texts that are no numbers, by position."""
    values, wrong = _to_numbers(column, style)
    if style.numbers:
        values[np.isin(values, style.numbers)] = np.nan
    return values, wrong


def _to_numbers(column: pl.Series | list[Any], style: Style) -> tuple[Float[np.ndarray, " n"], dict[int, str]]:
    if isinstance(column, list):
        if set(map(type, column)) <= {float, int, type(None)}:
            with suppress(OverflowError):  # an integer beyond float64
                values = np.array(column, np.float64)  # None becomes NaN
                return np.where(np.isinf(values), np.copysign(FLOAT32_MAX, values), values), {}  # JSON has no infinity
        column = to_texts(column)
    if column.dtype != pl.String:
        numbers = np.array(column.cast(pl.Float64, strict=False).to_numpy(), np.float64)
        return np.where(np.isinf(numbers), np.nan, numbers), {}
    numbers = np.full(len(column), np.nan)
    left = np.flatnonzero((column.fill_null("") != "").to_numpy())
    first, *others = _cast, _stripped_cast, lambda texts: parsed(texts, style.numerals)
    if style.numerals.decimal != ".":  # 1.5 is no 15, though nobody meant it so; 1.500 is 1500 where points group
        first, *others = others[1], _words_cast if style.numerals.thousands == "." else _stripped_cast
    for reading in (first, *others, _truths):
        texts = column.gather(left) if len(left) < len(column) else column
        found = reading(texts)
        numbers[left] = found
        left = left[np.isnan(found)]
        if not len(left):
            break
    infinite = np.flatnonzero(np.isinf(numbers))
    if len(infinite):  # 1e999 is a number, however absurd; inf is none
        overflow = column.gather(infinite).str.contains(r"\d").to_numpy()
        numbers[infinite] = np.where(overflow, np.copysign(FLOAT32_MAX, numbers[infinite]), np.nan)
    words = column.gather(left).str.strip_chars().str.to_lowercase()
    bad = left[~words.is_in([*style.words, *_NANS]).to_numpy()]
    return numbers, dict(zip(bad.tolist(), map(_short, column.gather(bad).to_list()), strict=True))


def _cast(texts: pl.Series) -> Float[np.ndarray, " n"]:
    return np.array(texts.cast(pl.Float64, strict=False).to_numpy(), np.float64)


def _stripped_cast(texts: pl.Series) -> Float[np.ndarray, " n"]:
    return _cast(texts.str.strip_chars())


def _words_cast(texts: pl.Series) -> Float[np.ndarray, " n"]:
    """Infinity only, which the caller takes for a missing number."""
    texts = texts.str.strip_chars()
    return _cast(texts.set(texts.str.contains(r"\d"), None))


def _truths(texts: pl.Series) -> Float[np.ndarray, " n"]:
    texts = texts.str.strip_chars().str.to_lowercase()
    return texts.replace_strict(_TRUTHS, default=None, return_dtype=pl.Float64).to_numpy().astype(np.float64)


def _short(text: str) -> str:
    return shortened(text, 100)


def to_codes(column: pl.Series | list[Any], style: Style = _USUAL) -> tuple[Float[np.ndarray, " n"], dict[int, str]]:
    """The codes of categories, NaN where one is missing, and the values that are no categories, by position."""
    wrong: dict[int, str] = {}
    if isinstance(column, list):
        wrong = {i: shortened(json.dumps(v), 100) for i, v in enumerate(column) if isinstance(v, list | dict)}
        column = [None if i in wrong else value for i, value in enumerate(column)] if wrong else column
    values = pl.Series(column, strict=False) if isinstance(column, list) and _are_texts(column) else column
    codes = as_codes(values, "category")
    if isinstance(values, pl.Series) and values.dtype == pl.String:
        missing = (
            values.str.strip_chars().str.to_lowercase().is_in(list(MISSING | {"nan"} | style.named)).fill_null(True)
        )
        codes = np.where(missing.to_numpy(), np.nan, codes)
    return codes, wrong


def count_texts(column: pl.Series | list[Any], style: Style = _USUAL) -> tuple[int, int]:
    """How many fields are texts that are no numbers, and how many fields are neither missing nor such a word."""
    texts = to_texts(column) if isinstance(column, list) else column
    if not isinstance(texts.dtype, pl.String | pl.Categorical | pl.Enum):
        return 0, len(texts) - texts.null_count()
    texts = texts.cast(pl.String)
    _, wrong = to_numbers(texts, style)
    empty = (texts == "") | texts.str.strip_chars().str.to_lowercase().is_in(list(style.words - MISSING))
    return len(wrong), len(texts) - texts.null_count() - int(empty.sum())


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
