"""Numerals: how a file writes its numbers, told from some of its cells, and texts of that style as float64.

A style is a decimal mark and a mark between thousands. Whatever the style, a number may have a sign before or behind it
(SAP writes 12-), stand in brackets where it is negative, or have a currency or a percent sign: 12 % is 0.12. Behind it
may be a unit, as dashboards export them: 12 ms is 0.012, and 1.5 kB is 1500.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

from onlineguard.sources.units import UNIT, without_units

_GROUPS = {" ": " \u00a0\u202f\u2009", "'": "'\u2019"}  # signs that are put between thousands as the same
_MONEY = r"(?:[$€£¥₹]|EUR|USD|GBP|CHF|JPY)"
_BEFORE = rf"^(?:\(\s*)?[-+\u2212]?\s*{_MONEY}?\s*[-+\u2212]?"
_BEHIND = rf"\s*(?:{_MONEY}|{UNIT})?\s*%?\s*[-\u2212]?(?:\s*\))?$"
_ADDRESS = r"^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)$"  # of the internet, no number
_NOISE = r"[()\s+%$€£¥₹]|EUR|USD|GBP|CHF|JPY"


@dataclass(frozen=True)
class Numerals:
    """How numbers are written: the decimal mark, and the mark between thousands, "" where there is none."""

    decimal: str = "."
    thousands: str = ""

    @property
    def pattern(self) -> str:
        """A regular expression that a whole number of this style fits."""
        decimal = f"[{self.decimal}]"
        if self.thousands:
            group = f"[{_GROUPS.get(self.thousands, self.thousands)}]"
            smaller = "{2,3}" if self.thousands == "," else "{3}"  # in India, 12,34,567
            grouped = rf"[1-9]\d{{0,2}}(?:{group}\d{smaller})*{group}\d{{3}}"
        else:
            grouped = r"\d+"
        return rf"{_BEFORE}(?:(?:{grouped}|\d+)(?:{decimal}\d*)?|{decimal}\d+)(?:[eE][-+]?\d+)?{_BEHIND}"

    def describe(self) -> str:
        """In words."""
        decimal = {".": "decimal point", ",": "decimal comma"}.get(self.decimal, f"decimal {self.decimal}")
        return decimal + (f" and {self.thousands!r} between thousands" if self.thousands else "")


PLAIN, DECIMAL_COMMA = Numerals(), Numerals(",")
_STYLES = (PLAIN, Numerals(".", ","), DECIMAL_COMMA, Numerals(",", "."), Numerals(",", " "), Numerals(".", " "))
STYLES = (*_STYLES, Numerals(".", "'"), Numerals(",", "'"))


def told_numerals(cells: pl.Series, delimiter: str = ",", decimal: str | None = None) -> Numerals:
    """The style that most of the cells fit; of several the first one of `STYLES`, so the plain one if it will do.

    Of 1,234 one cannot tell whether the comma is decimal. It is taken to be where the fields are not divided by commas
    but by semicolons, as programs do it where the comma is decimal. `decimal`: the decimal mark, if it is known.
    """
    cells = cells.filter(cells.str.contains(r"\d") & ~cells.str.contains(_ADDRESS))
    styles = [style for style in STYLES if decimal in (None, style.decimal)]
    if delimiter == ";":
        styles.sort(key=lambda style: (style != PLAIN, style.decimal != ","))
    if not styles:
        return Numerals(decimal or ".")
    fits = {style: int(cells.str.contains(style.pattern).sum()) for style in styles}
    return max(styles, key=lambda style: fits[style])  # the first of those that fit most


def parsed(texts: pl.Series, style: Numerals) -> Float[np.ndarray, " n"]:
    """The numbers of texts that fit the style, NaN for those that do not."""
    texts = texts.str.strip_chars()
    fits = texts.str.contains(style.pattern).fill_null(False)
    percent = texts.str.contains("%", literal=True).fill_null(False).to_numpy()
    digits, sizes = without_units(texts)
    digits = digits.str.replace_all("\u2212", "-", literal=True)
    digits = digits.str.replace(r"^\((.*)\)$", "-$1").str.replace_all(_NOISE, "")
    digits = digits.str.replace(r"^(.*)-$", "-$1")
    if style.thousands:
        digits = digits.str.replace_all(f"[{_GROUPS.get(style.thousands, style.thousands)}]", "")
    if style.decimal != ".":
        digits = digits.str.replace(style.decimal, ".", literal=True)
    values = digits.cast(pl.Float64, strict=False).set(~fits, None)
    numbers = np.array(values.to_numpy(), np.float64)
    if sizes is not None:
        numbers *= sizes.to_numpy()
    return np.where(percent, numbers / 100.0, numbers)


def look_like_numbers(cells: Sequence[str], style: Numerals) -> np.ndarray:
    """Which of the cells are numbers of the style."""
    return pl.Series(cells, dtype=pl.String).str.strip_chars().str.contains(style.pattern).fill_null(False).to_numpy()
