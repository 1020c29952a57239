"""A history, read in the order in which its clicks were judged, each with what became known of it later.

    history = History("onlineguard-state/history")
    history.days()                                           what there is: rows, purchases, gaps, label delay a day
    for frame in history.clicks(since, until): ...           in order, in bounded memory
    prepared = history.prepared(since, until)                for training: features as counted live, nothing recounted

A label is joined to its click by `click_id` whenever it came, also where the service had long forgotten the click. Of
several labels the first that names a purchase, and the first that names an RFM score, count, and what was sent with the
click itself goes before both. So a click known as a person's stays so.

The decision of a click is the one in force: the last of those that came later, or else the one that was given live.

Reading holds the clicks of one file at a time (`layout.ROWS` at most, of each source), and the labels and later
decisions of the clicks that arrived on one day.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float32

from onlineguard.errors import InvalidArgument, SourceError
from onlineguard.slidr.clicks.clicks import SCHEMA
from onlineguard.slidr.clicks.coded import coded
from onlineguard.slidr.clicks.order import in_order
from onlineguard.slidr.features import LOOKED_UP, NAMES, WIDTH
from onlineguard.slidr.history.layout import DAY, FORMAT, KINDS, REPLACED, Kind, Part, clicks_schema, parts, standing
from onlineguard.slidr.model import FEATURES
from onlineguard.slidr.pipeline import Config, Prepared, prepare

HOUR = 3_600_000
# Of `History.clicks`. purchase_t: when the purchase became known; source: the journal that `sequence` is an entry of.
COLUMNS = (*clicks_schema(NAMES), "purchase_t", "source")
COUNTED = frozenset(NAMES) - frozenset(SCHEMA) - frozenset(LOOKED_UP)  # depend on the version of the features

Span = tuple[int, int]  # since <= time < until, ms since 1970 UTC


class Day(NamedTuple):
    """The clicks of one day, by their own time in UTC."""

    day: str  # e.g. 2026-03-09
    rows: int
    robotic: int  # by the decisions in force
    purchases: int  # clicks known to have led to one
    vouched: int  # clicks with an RFM score
    gaps: tuple[Span, ...]  # whole hours without a click, between the first and the last click of the history
    delay: tuple[float, float] | None  # hours from a purchase until it was known: median and 90 %; None without any


class Missing(NamedTuple):
    """Entries of a journal that the history has no file for."""

    first: int
    last: int
    source: str


class History:
    """See this module. Raises SourceError where the folder holds no history."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not (self.path / "clicks").is_dir():
            raise SourceError(
                f"{self.path} is no history: it has no folder clicks; name the folder that the service writes, which "
                "is history in its state folder"
            )

    def parts(self, kind: Kind = "clicks") -> list[Part]:
        """The files that are there now, each source's in the order of its entries."""
        return standing(parts(self.path, kind))

    def days(self) -> list[Day]:
        """What there is of each day, by the clicks' own times, oldest first."""
        clicks = self._scan("clicks", ("click_id", "ts", "t", "purchase_ts", "rfm", "robotic"))
        if clicks is None:
            return []
        clicks = clicks.with_columns(day=pl.col("ts") // DAY)
        if (decisions := self.decisions()) is not None:
            later = decisions.select("click_id", later="robotic")
            clicks = clicks.join(later, on="click_id", how="left").with_columns(robotic=pl.coalesce("later", "robotic"))
        labels = self.labels()
        bought, vouched = (
            (labels.drop_nulls(name).select("click_id", of_label=name) for name in ("purchase_ts", "rfm"))
            if labels is not None
            else (None, None)
        )
        counts = clicks.group_by("day").agg(rows=pl.len(), robotic=pl.col("robotic").sum()).collect(engine="streaming")
        purchases = _known(clicks, bought, "purchase_ts").group_by("day").agg(purchases=pl.len())
        scores = _known(clicks, vouched, "rfm").group_by("day").agg(vouched=pl.len())
        delays = self._delays(clicks, labels)
        whole = counts.lazy()
        for part in (purchases, scores, delays):
            whole = whole.join(part, on="day", how="left")
        hours = clicks.select(hour=pl.col("ts") // HOUR).unique().collect(engine="streaming")["hour"].sort().to_list()
        gaps = _gaps(hours)
        return [
            Day(
                str(pl.Series([day], dtype=pl.Int32).cast(pl.Date)[0]),
                rows,
                robotic,
                bought or 0,
                known or 0,
                tuple((max(a, day * DAY), min(b, (day + 1) * DAY)) for a, b in gaps if _overlap((a, b), day)),
                None if median is None else (median / HOUR, most / HOUR),
            )
            for day, rows, robotic, bought, known, median, most in whole.sort("day").collect().iter_rows()
        ]

    def missing(self) -> list[Missing]:
        """Entries between the first and the last of a source that no file stands for."""
        found: list[Missing] = []
        for kind in KINDS:
            for one, other in itertools.pairwise(self.parts(kind)):
                if one.source == other.source and other.first > one.last + 1:
                    found.append(Missing(one.last + 1, other.first - 1, one.source))
        return sorted(set(found))

    @cached_property
    def span(self) -> Span | None:
        """The time of the first click, and one after that of the last; None without clicks."""
        clicks = self._scan("clicks", ("ts",))
        if clicks is None:
            return None
        first, last = clicks.select(first=pl.col("ts").min(), last=pl.col("ts").max()).collect().row(0)
        return None if first is None else (first, last + 1)

    def rows(self, since: int | None = None, until: int | None = None) -> int:
        """The number of clicks with since <= ts < until."""
        clicks = self._scan("clicks", ("ts",))
        return 0 if clicks is None else int(clicks.filter(_within(since, until)).select(pl.len()).collect().item())

    def clicks(
        self,
        since: int | None = None,
        until: int | None = None,
        columns: Sequence[str] | None = None,
        known_at: int | None = None,
    ) -> Iterator[pl.DataFrame]:
        """The clicks with since <= ts < until in the order in which they were judged, some at a time.

        columns: of `COLUMNS`, by default all. With several sources, order is that of arrival.
        known_at: only labels that arrived at this time or before are joined; by default all.

        Raises SourceError where features are asked for that another version of onlineguard counted.
        """
        wanted = COLUMNS if columns is None else tuple(columns)
        if wrong := [name for name in wanted if name not in COLUMNS]:
            raise InvalidArgument("columns", f"names {wrong[0]!r}; it may name {', '.join(COLUMNS)}")
        needed = {*wanted, "click_id", "ts", "t", "purchase_ts", "rfm"} - {"purchase_t", "source"}
        read = [name for name in COLUMNS if name in needed]
        found = self.parts()
        if COUNTED & needed:
            self._check_features(found)
        selected = _within(since, until)
        known = decided = None
        if {"purchase_ts", "rfm", "purchase_t"} & set(wanted):
            known = _OfDays(found, lambda day: self.labels(day, known_at))
        if {"slice", *REPLACED} & set(wanted):
            decided = _OfDays(found, self.decisions)
        streams = [
            self._of_source(list(group), read, selected, known, decided)
            for _, group in itertools.groupby(found, lambda part: part.source)
        ]
        for frame in itertools.chain(*streams) if len(streams) < 2 else _merged(streams):
            yield frame.select(wanted)

    def prepared(
        self,
        since: int | None = None,
        until: int | None = None,
        config: Config | None = None,
        known_at: int | None = None,
        spool: Path | None = None,
    ) -> Prepared:
        """The clicks with since <= ts < until for the models, with the features that were counted live.

        spool: a file to hold the features, mapped into memory, where they would fill it; a `.npy`, which may be
            deleted afterwards. Texts are then `coded`.

        Raises SourceError where there are no such clicks.
        """
        n = self.rows(since, until)
        if not n:
            raise SourceError(f"{self.path} has no clicks in that time; see onlineguard slidr history {self.path}")
        shape = (n, WIDTH)
        features: np.ndarray = np.empty(shape, np.float32)
        if spool is not None:
            features = np.lib.format.open_memmap(spool, "w+", np.float32, shape)
        frames: list[pl.DataFrame] = []
        start = 0
        told = (config or Config()).slices
        for frame in self.clicks(since, until, tuple(dict.fromkeys((*SCHEMA, *NAMES))), known_at):
            features[start : start + frame.height] = features_of(frame)
            clicks = frame.select(list(SCHEMA))
            frames.append(clicks if spool is None else coded(clicks, told))
            start += frame.height
        whole = pl.concat(frames)
        if not in_order(whole):  # features are as they were when each came, so they may be sorted
            order = whole["ts"].arg_sort()  # stable
            whole, features = whole[order], features[order.to_numpy()]
        return prepare(whole, config, features=features)

    def _of_source(
        self,
        found: list[Part],
        read: list[str],
        selected: pl.Expr,
        known: "_OfDays | None",
        decided: "_OfDays | None",
    ) -> Iterator[pl.DataFrame]:
        for part in found:
            scan = pl.scan_parquet(part.path, hive_partitioning=False).filter(selected)
            if absent := [name for name in LOOKED_UP if name in read and name not in scan.collect_schema()]:
                scan = scan.with_columns(pl.lit(0.0, pl.Float32).alias(name) for name in absent)  # recorded before them
            frame = scan.select(read).collect()
            if frame.height:
                frame = frame.with_columns(source=pl.lit(part.source))
                if known is not None:
                    frame = _labelled(frame, known.of(part.day))
                if decided is not None and (later := decided.of(part.day)) is not None:
                    frame = _replaced(frame, later)
                yield frame

    def _scan(self, kind: Kind, columns: Sequence[str], since_day: str = "") -> pl.LazyFrame | None:
        paths = [part.path for part in self.parts(kind) if part.day >= since_day]
        return _scanned(paths).select(columns) if paths else None

    def labels(self, since_day: str = "", known_at: int | None = None) -> pl.LazyFrame | None:
        """A row a click: its first purchase with its arrival, and its first RFM score."""
        labels = self._scan("labels", ("click_id", "t", "sequence", "position", "purchase_ts", "rfm"), since_day)
        if labels is None:
            return None
        return _first_of(labels if known_at is None else labels.filter(pl.col("t") <= known_at))

    def decisions(self, since_day: str = "") -> pl.LazyFrame | None:
        """A row a click about which a decision came later: the last one's slice, score, threshold, robotic, model."""
        order = ("t", "sequence", "position")
        decisions = self._scan("decisions", ("click_id", *order, "slice", *REPLACED), since_day)
        if decisions is None:
            return None
        return decisions.group_by("click_id").agg(pl.col("slice", *REPLACED).sort_by(*order).last())

    def _delays(self, clicks: pl.LazyFrame, labels: pl.LazyFrame | None) -> pl.LazyFrame:
        """Median and 90 % of the delay of the purchases of each day that came as labels, ms."""
        none = pl.LazyFrame(schema={"day": pl.Int64(), "median": pl.Float64(), "most": pl.Float64()})
        if labels is None:
            return none
        bought = labels.drop_nulls("purchase_ts").select("click_id", "purchase_t", made="purchase_ts")
        delay = pl.col("purchase_t") - pl.col("made")
        return (
            clicks.select("click_id", "day")
            .join(bought, on="click_id")
            .group_by("day")
            .agg(median=delay.median(), most=delay.quantile(0.9))
        )

    def _check_features(self, found: Sequence[Part]) -> None:
        for part in found:
            metadata = metadata_of(part.path)
            if metadata.get("features") != str(FEATURES):
                raise SourceError(
                    f"{part.path} has version {metadata.get('features')} of the features, and this onlineguard makes "
                    f"version {FEATURES}; take days that were recorded since, or have features recomputed"
                )


def features_of(frame: pl.DataFrame) -> Float32[np.ndarray, "n {WIDTH}"]:
    """The features of clicks of a history."""
    return frame.select(pl.col(name).cast(pl.Float32) for name in NAMES).to_numpy()


def metadata_of(path: Path) -> dict[str, str]:
    """What a file says of itself. Raises SourceError where it cannot be read or has a newer format."""
    try:
        metadata = pl.read_parquet_metadata(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SourceError(f"{path} cannot be read: {error}; restore it from a backup, or remove it") from error
    if not metadata.get("format", "").isdecimal() or int(metadata["format"]) > FORMAT:
        raise SourceError(
            f"{path} has format {metadata.get('format')}, and this onlineguard reads up to {FORMAT}; upgrade it"
        )
    return metadata


def _scanned(paths: list[Path]) -> pl.LazyFrame:
    """Files as one; other versions may have counted other features."""
    return pl.scan_parquet(paths, hive_partitioning=False, extra_columns="ignore")


def _within(since: int | None, until: int | None) -> pl.Expr:
    within = pl.lit(True) if since is None else pl.col("ts") >= since
    return within if until is None else within & (pl.col("ts") < until)


class _OfDays:
    """What was told of the clicks that arrived on one day, found once for all files of that day.

    told: gives a row a click of what came on a day or later; None where there is none.
    """

    def __init__(self, found: Sequence[Part], told: Callable[[str], pl.LazyFrame | None]):
        self._found, self._told = found, told
        self._days: dict[str, pl.DataFrame | None] = {}

    def of(self, day: str) -> pl.DataFrame | None:
        """What was told of the clicks of the day."""
        if day not in self._days:
            self._days = {day: self._read(day)}  # of the day before nothing more is asked
        return self._days[day]

    def _read(self, day: str) -> pl.DataFrame | None:
        before = str(pl.Series([day]).str.to_date().dt.offset_by("-1d")[0])  # a clock may be set back over midnight
        told = self._told(before)
        if told is None:
            return None
        clicks = _scanned([part.path for part in self._found if part.day == day]).select("click_id")
        return told.join(clicks, on="click_id", how="semi").collect(engine="streaming")


def _labelled(frame: pl.DataFrame, labels: pl.DataFrame | None) -> pl.DataFrame:
    """The clicks with what became known of them."""
    own = pl.when(pl.col("purchase_ts").is_not_null()).then("t")
    if labels is None:
        return frame.with_columns(purchase_t=own)
    names = {"purchase_ts": "label_purchase_ts", "rfm": "label_rfm"}
    return (
        frame.join(labels.rename(names), on="click_id", how="left", maintain_order="left")
        .with_columns(
            purchase_t=pl.coalesce(own, "purchase_t"),
            purchase_ts=pl.coalesce("purchase_ts", "label_purchase_ts"),
            rfm=pl.coalesce("rfm", "label_rfm"),
        )
        .drop("label_purchase_ts", "label_rfm")
    )


def _replaced(frame: pl.DataFrame, decisions: pl.DataFrame) -> pl.DataFrame:
    """The clicks with the decisions that came later in place of those before."""
    later = decisions.with_columns(later_=True)
    joined = frame.join(later, on="click_id", how="left", maintain_order="left", suffix="_later")
    columns = [name for name in ("slice", *REPLACED) if name in frame.columns]
    chosen = [pl.when("later_").then(f"{name}_later").otherwise(name).alias(name) for name in columns]
    return joined.with_columns(chosen).select(frame.columns)


def _first_of(labels: pl.LazyFrame) -> pl.LazyFrame:
    """click_id, purchase_ts, purchase_t, rfm: of each click the first purchase and the first RFM score."""
    order = ("t", "sequence", "position")
    bought = pl.col("purchase_ts").is_not_null()
    return labels.group_by("click_id").agg(
        purchase_ts=pl.col("purchase_ts").filter(bought).sort_by(*(pl.col(c).filter(bought) for c in order)).first(),
        purchase_t=pl.col("t").filter(bought).min(),
        rfm=pl.col("rfm").drop_nulls().sort_by(*(pl.col(c).filter(pl.col("rfm").is_not_null()) for c in order)).first(),
    )


def _known(clicks: pl.LazyFrame, labels: pl.LazyFrame | None, name: str) -> pl.LazyFrame:
    """The clicks of which `name` is known, from themselves or from a label."""
    if labels is None:
        return clicks.filter(pl.col(name).is_not_null())
    joined = clicks.join(labels, on="click_id", how="left")
    return joined.filter(pl.coalesce(name, "of_label").is_not_null())


def _merged(streams: Sequence[Iterator[pl.DataFrame]]) -> Iterator[pl.DataFrame]:
    """Frames of several sources as one stream by time of arrival; the order of each source stays."""
    live = [_Stream(frames, number) for number, frames in enumerate(streams)]
    while live := [stream for stream in live if stream.filled()]:
        bound = min(stream.latest for stream in live)  # beyond it a source may have more that was not yet read
        ready = pl.concat([stream.taken(bound) for stream in live])
        yield ready.sort("arrived_", "source_", maintain_order=True).drop("arrived_", "source_")


class _Stream:
    """The clicks of one source, and those of them that were read but not yet taken."""

    def __init__(self, frames: Iterator[pl.DataFrame], number: int):
        self._frames, self._number, self._head = frames, number, pl.DataFrame()
        self.latest = 0  # arrival of the last click that was read; a clock that is set back never reorders a source

    def filled(self) -> bool:
        """Whether there are more."""
        while not self._head.height:
            frame = next(self._frames, None)
            if frame is None:
                return False
            arrived = pl.max_horizontal(pl.col("t").cum_max(), pl.lit(self.latest))
            self._head = frame.with_columns(arrived_=arrived, source_=pl.lit(self._number))
            self.latest = int(self._head["arrived_"][-1])
        return True

    def taken(self, bound: int) -> pl.DataFrame:
        """Those that arrived until then."""
        until = pl.col("arrived_") <= bound
        ready, self._head = self._head.filter(until), self._head.filter(~until)
        return ready


def _gaps(hours: list[int]) -> list[Span]:
    """The whole hours that are missing between those given, in ms."""
    return [((a + 1) * HOUR, b * HOUR) for a, b in itertools.pairwise(hours) if b > a + 1]


def _overlap(gap: Span, day: int) -> bool:
    return gap[0] < (day + 1) * DAY and gap[1] > day * DAY
