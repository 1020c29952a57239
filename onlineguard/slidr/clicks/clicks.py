"""Clicks: their fields, how they are checked at the edge, and how a log with other columns becomes a frame of clicks.

A frame of clicks has the columns of `SCHEMA`, one row for each click, in order of arrival:

| column | |
|---|---|
| click_id | text; a click whose id was seen in the last 24 h is a duplicate, which is answered but not counted |
| ts | time of the click, milliseconds since 1970 UTC |
| user_id, session_id | text; null where unknown |
| ip | IPv4 or IPv6; any other text is allowed, and is its own prefix |
| user_agent, device, marketplace, ad_id | text |
| logged_in | true or false |
| purchase_ts | time of the purchase that the click led to, in ms since 1970, and not known earlier; null without one |
| rfm | RFM score of the account as known at the click, 3 to 15; null where unknown |
"""

import ipaddress
import json
import math
import re
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from onlineguard.errors import InvalidArgument, SourceError
from onlineguard.records.click import LATEST, RFM, Click
from onlineguard.slidr.clicks.files import read_table

SCHEMA: dict[str, pl.DataType] = {
    "click_id": pl.String(),
    "ts": pl.Int64(),
    "user_id": pl.String(),
    "session_id": pl.String(),
    "ip": pl.String(),
    "user_agent": pl.String(),
    "device": pl.String(),
    "marketplace": pl.String(),
    "ad_id": pl.String(),
    "logged_in": pl.Boolean(),
    "purchase_ts": pl.Int64(),
    "rfm": pl.Float64(),
}
NULLABLE = frozenset({"user_id", "session_id", "purchase_ts", "rfm"})
TIMES = ("ts", "purchase_ts")
IDS = ("click_id", "user_id", "session_id")

_UNITS = {"s": (1_000, 1), "ms": (1, 1), "us": (1, 1_000), "ns": (1, 1_000_000)}  # factor and divisor that give ms
_WORDS = {"true": True, "false": False, "1": True, "0": False}
_YEAR_1990 = 631_152_000_000  # ms
_RULES: dict[pl.DataType, str] = {  # the rule for the values of a field, as errors say it
    pl.String(): "must be text",
    pl.Int64(): f"must be a whole number from 0 to {LATEST}: milliseconds since 1970 UTC",
    pl.Boolean(): "must be true or false",
    pl.Float64(): "must be a number from 3 to 15",
}

_decoder = msgspec.json.Decoder(Click)


def decode_click(body: bytes) -> Click:
    """A click from a JSON object. Raises InvalidArgument with the path, the value and the rule.

    >>> decode_click(b'{"click_id": "a", "ts": "now"}')
    Traceback (most recent call last):
    onlineguard.errors.InvalidArgument: click field $.ts is "now"; it must be a whole number from 0 to \
21474490880000: milliseconds since 1970 UTC
    """
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidArgument(_explained(str(error), body)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"click is {_shown(body)}; it must be a JSON object in UTF-8 ({error})") from error


_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = re.compile(rf"({_OCTET}\.{_OCTET}\.{_OCTET})\.{_OCTET}").fullmatch


@lru_cache(1 << 16)
def prefix(ip: str) -> str:
    """The network that an address belongs to: /24 of IPv4, /48 of IPv6. Any other text is its own network.

    An IPv4 address written as IPv6 (::ffff:192.0.2.1) belongs to its IPv4 network.

    >>> prefix("192.0.2.77"), prefix("2001:db8:1:2::3"), prefix("87540")
    ('192.0.2.0/24', '2001:db8:1::/48', '87540')
    """
    if (usual := _IPV4(ip)) is not None:
        return f"{usual[1]}.0/24"
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return f"{ipaddress.IPv6Address(int(address) >> 80 << 80)}/48"
        address = address.ipv4_mapped
    return f"{ipaddress.IPv4Address(int(address) >> 8 << 8)}/24"


class Mapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a log has the fields of a click.

    columns: for each field the log's column, or several columns whose texts are joined by "|". A field without a column
        takes its constant. Without either, `click_id` is the row's number, and a field that may be null is null.
    constants: the value of a field in every row.
    time: how the log writes `ts` and `purchase_ts`: as a `unit` "s", "ms", "us" or "ns" since 1970, by default "ms"; or
        in a `format` as of Python's strptime and a `zone`, by default UTC.
    purchases: for a log that marks purchases but does not time them: a row was one, made at its `ts`, if one of these
        columns matches its regular expression.
    pattern: for a log of text lines: a regular expression whose named groups are the columns.
    """

    columns: dict[str, str | list[str]]
    constants: dict[str, str | bool | int | float] = {}
    time: "TimeRule" = msgspec.field(default_factory=lambda: TimeRule())
    purchases: dict[str, str] = {}
    pattern: str | None = None

    @staticmethod
    def load(path: str | Path) -> "Mapping":
        """The mapping in a TOML file.

        Raises SourceError if the file cannot be read, and InvalidArgument if it is not a mapping.
        """
        try:
            text = Path(path).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"mapping {path} cannot be read: {error}") from error
        try:
            mapping = msgspec.convert(tomllib.loads(text), Mapping)
        except (msgspec.ValidationError, tomllib.TOMLDecodeError) as error:
            raise InvalidArgument(f"mapping {path}: {error}") from error
        mapping.check(f"mapping {path}")
        return mapping

    def check(self, name: str = "mapping") -> None:
        """Raises InvalidArgument, whose text begins with the name, unless the fields are those of a click."""
        for part, fields in (("columns", self.columns), ("constants", self.constants)):
            for field in fields:
                if field not in SCHEMA:
                    raise InvalidArgument(
                        f"{name}: {part}.{field} is no field of a click; the fields are {', '.join(SCHEMA)}"
                    )
        if both := sorted(self.columns.keys() & self.constants.keys()):
            raise InvalidArgument(f"{name}: {both[0]} has a column and a constant; give it one of them")
        for field in SCHEMA:
            if field not in self.columns.keys() | self.constants.keys() | NULLABLE | {"click_id"}:
                raise InvalidArgument(f'{name}: {field} is missing; name its column, e.g. columns.{field} = "{field}"')
        if self.purchases and "purchase_ts" in self.columns.keys() | self.constants.keys():
            raise InvalidArgument(
                f"{name}: purchases and purchase_ts both say which rows are purchases; give one of them"
            )
        for part, text in (
            ("pattern", self.pattern),
            *((f"purchases.{c}", rule) for c, rule in self.purchases.items()),
        ):
            try:
                groups = pl.Series([""]).str.extract_groups(text or "").struct.fields
            except pl.exceptions.PolarsError as error:
                raise InvalidArgument(f"{name}: {part} is no regular expression: {error}") from error
            if part == "pattern" and text is not None and not set(self.wanted()) <= set(groups):
                raise InvalidArgument(
                    f"{name}: pattern has the groups {', '.join(groups) or 'none'}; it must have one for each "
                    "column that the mapping names, e.g. (?<ip>[^ ]+)"
                )
        self.time.check(name)

    def wanted(self) -> list[str]:
        """The log's columns that are read."""
        return [column for columns in self.columns.values() for column in _listed(columns)] + list(self.purchases)


class TimeRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a log writes its times. `Mapping` explains the fields."""

    unit: str | None = None
    format: str | None = None
    zone: str = "UTC"

    def check(self, name: str) -> None:
        """Raises InvalidArgument, whose text begins with the name."""
        if self.unit is not None and self.format is not None:
            raise InvalidArgument(f"{name}: time has a unit and a format; a log's times are numbers or texts, give one")
        if self.unit is not None and self.unit not in _UNITS:
            raise InvalidArgument(f"{name}: time.unit is {self.unit!r}; it must be one of {', '.join(_UNITS)}")
        try:
            pl.Series([0]).cast(pl.Datetime("us")).dt.replace_time_zone(self.zone)
        except pl.exceptions.PolarsError as error:
            raise InvalidArgument(
                f"{name}: time.zone is {self.zone!r}; it must be a zone such as UTC or Asia/Shanghai"
            ) from error


def read_clicks(
    source: str | Path | pl.DataFrame, mapping: Mapping | None = None, rejects: str | Path | None = None
) -> pl.DataFrame:
    """The clicks of a CSV (also .csv.gz), NDJSON, Parquet or text file, or of a frame, in the columns of `SCHEMA`.

    A .zip file of one of these is read too.

    Without a mapping, the log's columns must have the names of the fields, and times are milliseconds. Other columns
    are left out. In CSV an empty field is null. The rows keep their order, which is taken as the order of arrival.

    A row that is not a click raises InvalidArgument with its column, row (from 1, without a header), value and rule.
    With `rejects`, such rows are written to that file instead, one JSON object {"row", "column", "value", "reason"} a
    line. An earlier file of that name is removed, and none is written if every row is a click.

    Raises SourceError if the file cannot be read or lacks a column, or if the rejects cannot be written.
    """
    name = "clicks" if isinstance(source, pl.DataFrame) else str(source)
    if (
        rejects is not None
        and not isinstance(source, pl.DataFrame)
        and Path(rejects).resolve() == Path(source).resolve()
    ):
        raise InvalidArgument("rejects", f"is {rejects}, the source itself; name another file")
    log = (
        source
        if isinstance(source, pl.DataFrame)
        else read_table(Path(source), None if mapping is None else mapping.pattern)
    )
    if mapping is None:
        optional = NULLABLE - set(log.columns)
        mapping = Mapping(columns={field: field for field in SCHEMA if field not in optional})
    mapping.check()
    if absent := sorted(set(mapping.wanted()) - set(log.columns)):
        raise SourceError(
            f"{name} has no column {', '.join(absent)}; its columns are {', '.join(log.columns)}. A mapping says which "
            "column holds which field (--mapping FILE, such as examples/talkingdata.toml)"
        )
    columns: list[pl.Series] = []
    first_wrong = pl.Series([None] * log.height, dtype=pl.String)
    for field, kind in SCHEMA.items():
        raw = _raw(log, field, mapping)
        column = _times(raw, mapping.time) if field in TIMES and field in mapping.columns else _cast(raw, kind)
        wrong = _wrong(field, raw, column)
        if wrong.any():
            if rejects is None:
                raise InvalidArgument(_located(name, mapping.columns.get(field, field), field, raw, wrong, mapping))
            first_wrong = first_wrong.zip_with(~(wrong & first_wrong.is_null()), pl.Series([field] * log.height))
        columns.append(column.alias(field))
    frame = pl.DataFrame(columns)
    if mapping.purchases:
        bought = pl.any_horizontal(pl.col(c).cast(pl.String).str.contains(r) for c, r in mapping.purchases.items())
        marked = log.select(bought.fill_null(False)).to_series()
        frame = frame.with_columns(purchase_ts=pl.when(marked).then("ts").otherwise(None))
    if log.height and 0 < (frame["ts"].max() or 0) < _YEAR_1990:  # type: ignore[operator]
        raise InvalidArgument(
            f"{name}: all of ts is before 1990 when read as {mapping.time.unit or 'ms'}; give the unit of the log's "
            f"times in a mapping, e.g. time.unit = 's'"
        )
    if rejects is not None:
        try:
            _write_rejects(Path(rejects), log, first_wrong, mapping)
        except OSError as error:
            raise SourceError(
                f"rejects is {rejects}, which cannot be written ({error.strerror}); name a file that can, e.g. in /tmp"
            ) from error
        frame = frame.filter(first_wrong.is_null())
    return frame


def check_clicks(frame: pl.DataFrame, fields: tuple[str, ...] = tuple(SCHEMA)) -> pl.DataFrame:
    """The named fields of a frame of clicks, converted to their types. Texts that are `coded` stay so.

    Raises InvalidArgument with column, row (from 1), value and rule.
    """
    if absent := [field for field in fields if field not in frame.columns]:
        raise InvalidArgument(
            f"clicks has no column {', '.join(absent)}; its columns are {', '.join(frame.columns)}. "
            f"`read_clicks` makes a frame of clicks from any log"
        )
    columns: list[pl.Series] = []
    for field in fields:
        raw, kind = frame[field], SCHEMA[field]
        as_it_is = raw.dtype == kind or _is_coded(field, raw)
        column = raw if as_it_is else _cast(raw, kind)
        wrong = _wrong(field, raw, column)
        if wrong.any():
            raise InvalidArgument(_located("clicks", field, field, raw, wrong, None))
        columns.append(column)
    return pl.DataFrame(columns)


def _is_coded(field: str, column: pl.Series) -> bool:
    return column.dtype == pl.Categorical() or (field in IDS and column.dtype == pl.UInt64())


def _listed(columns: str | list[str]) -> list[str]:
    return [columns] if isinstance(columns, str) else columns


def _raw(log: pl.DataFrame, field: str, mapping: Mapping) -> pl.Series:
    """The field as the log has it."""
    if field in mapping.constants:
        return pl.Series([mapping.constants[field]] * log.height)
    if field not in mapping.columns:
        return pl.Series(range(1, log.height + 1) if field == "click_id" else [None] * log.height, dtype=pl.Int64)
    columns = _listed(mapping.columns[field])
    if len(columns) == 1:
        return log[columns[0]]
    return log.select(pl.concat_str([pl.col(column).cast(pl.String) for column in columns], separator="|")).to_series()


def _cast(raw: pl.Series, kind: pl.DataType) -> pl.Series:
    """The values converted to another type, and null where they do not fit it exactly."""
    try:
        if kind == pl.Boolean() and raw.dtype == pl.String():
            return raw.str.to_lowercase().replace_strict(_WORDS, default=None, return_dtype=pl.Boolean)
        if kind == pl.String() and raw.dtype.is_nested():
            return pl.Series([None] * len(raw), dtype=kind)
        column = raw.cast(kind, strict=False)
        if (
            raw.dtype.is_numeric() and not kind == pl.String()
        ):  # 1.5 is not a whole number, and 2 is neither true nor false
            column = column.zip_with((column.cast(pl.Float64) == raw.cast(pl.Float64)).fill_null(True), _nulls(column))
        return column
    except pl.exceptions.PolarsError:
        return pl.Series([None] * len(raw), dtype=kind)


def _times(raw: pl.Series, rule: TimeRule) -> pl.Series:
    """Milliseconds since 1970 UTC, and null where a value is not a time."""
    if rule.format is not None and raw.dtype == pl.String():
        raw = raw.str.to_datetime(rule.format, time_unit="us", strict=False)
    if isinstance(raw.dtype, pl.Datetime):
        if raw.dtype.time_zone is None:
            raw = raw.dt.replace_time_zone(rule.zone, ambiguous="earliest", non_existent="null")
        return raw.dt.epoch("ms")
    times, over = _UNITS[rule.unit or "ms"]
    whole = _cast(raw, pl.Int64())
    if (whole.is_null() == raw.is_null()).all():
        return whole * times // over
    return (_cast(raw, pl.Float64()) * times / over).floor().cast(pl.Int64, strict=False)


def _nulls(column: pl.Series) -> pl.Series:
    return pl.Series([None] * len(column), dtype=column.dtype)


def _wrong(field: str, raw: pl.Series, column: pl.Series) -> pl.Series:
    """Whether the value in each row is not allowed for the field."""
    wrong = column.is_null() if field not in NULLABLE else column.is_null() & raw.is_not_null()
    if field in TIMES:
        wrong = wrong | ~column.is_between(0, LATEST).fill_null(True)
    if field == "rfm":
        wrong = wrong | ~column.is_between(*RFM).fill_null(True) | column.is_nan().fill_null(False)
    return wrong


def _located(
    name: str, column: str | list[str], field: str, raw: pl.Series, wrong: pl.Series, mapping: Mapping | None
) -> str:
    """A message about the first wrong value, and how many there are."""
    row = int(wrong.arg_max() or 0)
    way_out = (
        ""
        if mapping is None
        else "; mend it, change the mapping, or set such rows aside with `rejects` (--rejects FILE)"
    )
    which = "|".join(_listed(column))
    return (
        f"{name}: column {which}, row {row + 1} is {_shown(raw[row])}; {_rule(field, mapping)}"
        f" ({int(wrong.sum()):,} of {len(wrong):,} rows are wrong){way_out}"
    )


def _rule(field: str, mapping: Mapping | None) -> str:
    if mapping is not None and field in TIMES and mapping.time.format is not None:
        return f"{field} must be a time written as {mapping.time.format}"
    nullable = " or null" if field in NULLABLE else ""
    return f"{field} {_RULES[SCHEMA[field]]}{nullable}"


def _write_rejects(path: Path, log: pl.DataFrame, first_wrong: pl.Series, mapping: Mapping) -> None:
    """Write one JSON object for each row that has a wrong field. Without any, no file is written."""
    path.unlink(missing_ok=True)
    rows = first_wrong.is_not_null().arg_true().to_list()
    if not rows:
        return
    raws = {field: _raw(log, field, mapping) for field in SCHEMA}
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            field = str(first_wrong[row])
            column = "|".join(_listed(mapping.columns.get(field, field)))
            reject = {"row": row + 1, "column": column, "value": raws[field][row], "reason": _rule(field, mapping)}
            file.write(json.dumps(reject, ensure_ascii=False, default=str) + "\n")


def _explained(error: str, body: bytes) -> str:
    """msgspec's message, with the value that it is about."""
    found = re.search(r"`(\$[^`]*)`", error)
    path = found[1] if found else "$"
    value: Any = msgspec.json.decode(body)
    for part in path.split(".")[1:]:
        value = value.get(part) if isinstance(value, dict) else value
    if (missing := re.search(r"missing required field `(\w+)`", error)) is not None:
        field = missing[1]
        return f"click has no field {field}; {field} {_RULES[SCHEMA[field]]}"
    if (unknown := re.search(r"unknown field `(.*?)`", error)) is not None:
        return f"click has a field {_shown(unknown[1])}, which is unknown; its fields are {', '.join(SCHEMA)}"
    field = path.removeprefix("$.")
    if (long := re.search(r"length <= (\d+)", error)) is not None:
        return f"click field {field} has {len(value):,} characters; it may have {int(long[1]):,}"
    if field not in SCHEMA:
        return f"click is {_shown(value)}; it must be a JSON object with the fields {', '.join(SCHEMA)}"
    return f"click field {path} is {_shown(value)}; it {_RULES[SCHEMA[field]]}{' or null' * (field in NULLABLE)}"


def _shown(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    value = value.to_list() if isinstance(value, pl.Series) else value
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else json.dumps(value, default=str)
    return text if len(text) <= 100 else text[:99] + "…"
