"""Units that may stand behind a number, as dashboards export them, and what one of each is in the plain unit.

Only units that are hardly anything else: 5 m, 3 A and 12 C could be names or times.
"""

import polars as pl

_SMALL = {"n": 1e-9, "u": 1e-6, "\u00b5": 1e-6, "\u03bc": 1e-6, "m": 1e-3, "": 1.0}
_LARGE = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_PREFIXES = {
    "s": _SMALL,
    "B": _LARGE | _BINARY,
    "B/s": _LARGE | _BINARY,
    "bps": _LARGE,
    "b/s": _LARGE,
    "Hz": _LARGE,
    "W": {"m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6},
    "V": {"m": 1e-3, "": 1.0, "k": 1e3},
    "Pa": {"": 1.0, "h": 1e2, "k": 1e3},
    "bar": {"m": 1e-3, "": 1.0},
}
_OTHERS = {"sec": 1.0, "min": 60.0, "h": 3600.0, "\u00b0C": 1.0, "\u00b0F": 1.0, "rpm": 1.0, "req/s": 1.0, "ops/s": 1.0}
UNITS = {prefix + unit: size for unit, sizes in _PREFIXES.items() for prefix, size in sizes.items()} | _OTHERS
_APART = "[ \u00a0\u202f]+"  # stands before a unit of one letter, or 12B and 3W would be no names
UNIT = "(?:" + "|".join(_APART + unit if len(unit) == 1 and unit != "s" else unit for unit in UNITS) + ")"
_BEHIND = rf"(\d[.,]?)\s*({UNIT})(\s*[-\u2212)]?)$"


def without_units(texts: pl.Series) -> tuple[pl.Series, pl.Series | None]:
    """The texts of numbers without their units, and the size of each one's unit; None where no text has one."""
    units = texts.str.extract(_BEHIND, 2).str.strip_chars()
    if units.null_count() == len(units):
        return texts, None
    return texts.str.replace(_BEHIND, "$1$3"), units.replace_strict(UNITS, default=1.0, return_dtype=pl.Float64)


def unit_among(texts: pl.Series) -> str | None:
    """The first unit that stands behind one of the texts; None where there is none."""
    found = texts.str.strip_chars().str.extract(_BEHIND, 2).drop_nulls()
    return found[0].strip() if len(found) else None
