"""From a log of clicks to a trained and calibrated model: the steps in their order, on frames and arrays without files.

    prepared = prepare(clicks, config)                              one pass over the whole log: features and slices
    scorer = train_model(prepared, learned, known_at, config)       `learned` (n,) bool says which clicks
    thresholds = calibrate_model(prepared, scorer, later, known_at, config, budget=0.01)
    thresholds.robotic(scorer.p_robot(prepared.X, prepared.categories), prepared)

Features are counted from the first click of the log on, and each click sees only the clicks before it. So one part of a
log can train a model, the next can calibrate it, and the last can measure it. Labels are those known at the time
`known_at`: a purchase that came later does not count yet.

A click that arrives twice under the same id is scored twice, but is trained on, calibrated on and measured only once.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from onlineguard.errors import InvalidArgument
from onlineguard.slidr.clicks.categories import categories
from onlineguard.slidr.clicks.clicks import SCHEMA, check_clicks
from onlineguard.slidr.clicks.order import check_order, plausible
from onlineguard.slidr.features import LOOKED_UP, NAMES, WIDTH, Featuriser
from onlineguard.slidr.learning.baselines import LogisticBaseline, TreesBaseline, VelocityRule
from onlineguard.slidr.learning.labels import humans
from onlineguard.slidr.learning.network import NetworkConfig
from onlineguard.slidr.learning.regulars import regulars
from onlineguard.slidr.learning.rows import Rows
from onlineguard.slidr.learning.scorer import Scorer
from onlineguard.slidr.learning.spreading import spread
from onlineguard.slidr.learning.train import FEW, ROWS, Progress, train
from onlineguard.slidr.learning.weights import cell_weights, effective_size
from onlineguard.slidr.thresholds.calibration import CONFIDENCE, Calibration, Method, calibrate
from onlineguard.slidr.thresholds.metrics import HEAVY, heavy_sessions

SLICES = ("device", "marketplace", "logged_in")
BATCH = 65_536  # clicks featurised between two reports of progress
TOGETHER = 2_000_000  # clicks whose slices are looked up at once
WEEK, HOUR = 604_800_000, 3_600_000  # milliseconds
SLACK = 6 * HOUR  # a log of three weeks may lack this much: it may begin late on its first day or end early on its last
TRAIN_UNTIL, CALIBRATE_UNTIL = "50%", "71.43%"  # of a shorter log: days 1 to 7 and 8 to 10 of two weeks
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DOUBLES = 2.0  # labels are spread where they then count for so many times those of before: else a few would say it all
# Lookups that are recorded and not learned. The score of an account says nearly what its labels say: a network learns
# to trust good accounts, and misses robots that have taken one over. One that knows who was seen before takes newcomers
# for robots. User agents and ads added little. Measured in docs/slidr.md.
LEFT_OUT = tuple(name for name in LOOKED_UP if name.startswith(("account", "user", "agent", "ad_")))
SEEN = 0.1  # a day of the week with a smaller part of its even share of the clicks was not seen, but touched

Kind = Literal["mlp", "cross", "embedding", "logistic", "velocity", "trees"]
Mask = Bool[np.ndarray, " n"]
SliceKey = tuple[str, ...]  # the values of the slice columns, e.g. ("phone", "US", "true")

_SLICEABLE = tuple(name for name, kind in SCHEMA.items() if kind in (pl.String(), pl.Boolean()) and name != "click_id")
_UNITS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True)
class Config:
    """What the operator chose about a model. The options for thresholds go to `calibrate_model`."""

    kind: Kind = "mlp"
    slices: tuple[str, ...] = SLICES  # columns of a click, the coarsest part of a slice first
    rfm_at_least: float = 12.0  # a click of an account with this score or a higher one is learned as human
    spread: bool = True  # a purchase labels all clicks of its visitor; otherwise only its own, and a high RFM score too
    weighted: bool = True  # by `weights.cell_weights`; otherwise every click weighs 1, or as `spread` says
    largest_weight: float | None = 100.0  # so that a lone human in an hour of the week cannot outweigh thousands
    heavy: int = HEAVY  # a session with more clicks within an hour counts as robotic coverage
    network: NetworkConfig = field(default_factory=NetworkConfig)  # its `kind` is replaced by the one above
    left_out: tuple[str, ...] = LEFT_OUT  # features that are not learned
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InvalidArgument("kind", f"is {self.kind!r}; it must be one of {', '.join(get_args(Kind))}")
        if wrong := [name for name in self.slices if name not in _SLICEABLE]:
            raise InvalidArgument(
                "slices", f"names {wrong[0]!r}; a slice is told by one or more of {', '.join(_SLICEABLE)}"
            )
        if wrong := [name for name in self.left_out if name not in NAMES]:
            raise InvalidArgument("left_out", f"names {wrong[0]!r}, which is no feature, see `features.NAMES`")
        if not self.slices or len(set(self.slices)) < len(self.slices):
            raise InvalidArgument("slices", f"is {self.slices}; name each column once, and one at least, e.g. device")


@dataclass(frozen=True, eq=False)
class Prepared:
    """A log, ready for the models. Arrays have one entry for each click, in the order of the frame."""

    frame: pl.DataFrame
    X: Float[np.ndarray, "n features"]  # float32
    slices: tuple[str, ...]  # the columns whose values name a slice
    slice_keys: tuple[SliceKey, ...]  # of all slices in the log, sorted
    slice_ids: Int[np.ndarray, " n"]  # the slice of each click, as a position in `slice_keys`
    heavy: Mask  # clicks of heavy sessions
    hour: Int[np.ndarray, " n"]  # of the day, 0 to 23, local time
    weekday: Int[np.ndarray, " n"]  # 0 is Monday
    first: Mask  # the first click with its click_id

    @cached_property
    def categories(self) -> np.ndarray:
        """(n, 3) uint32 of user agent, ip prefix and ad, for the kind "embedding"."""
        return categories(self.frame)

    @cached_property
    def ts(self) -> Int[np.ndarray, " n"]:
        """Milliseconds since 1970 UTC."""
        return self.frame["ts"].to_numpy()

    @cached_property
    def bounds(self) -> tuple[int, int]:
        """The first and the last `ts`, without those of clocks that are wrong."""
        near = self.ts[plausible(self.ts)]
        return int(near.min()), int(near.max())

    def between(self, since: int, until: int) -> Mask:
        """The clicks with since <= ts < until, without repeated ones."""
        return self.first & (self.ts >= since) & (self.ts < until)

    def ids_among(self, keys: Sequence[SliceKey]) -> tuple[Int[np.ndarray, " n"], tuple[SliceKey, ...]]:
        """The slice of each click as a position in `keys`, and `keys` with the slices that it lacked at its end."""
        number = {key: i for i, key in enumerate(keys)}
        for key in self.slice_keys:
            number.setdefault(key, len(number))
        renamed = np.array([number[key] for key in self.slice_keys], np.int32)
        return renamed[self.slice_ids] if len(renamed) else self.slice_ids, tuple(number)


class Split(NamedTuple):
    """Where the parts of a log end, in milliseconds since 1970 UTC. What follows the last one is for measuring."""

    train_since: int
    train_until: int
    calibrate_until: int


@dataclass(frozen=True, eq=False)
class Thresholds:
    """A calibration, and the slices that its numbers stand for."""

    slices: tuple[str, ...]  # columns
    keys: tuple[SliceKey, ...]
    calibration: Calibration

    def of(self, prepared: Prepared) -> Float[np.ndarray, " n"]:
        """The threshold of every click. A slice that was not calibrated has the default threshold."""
        ids, keys = self._ids(prepared)
        table = np.full(len(keys), self.calibration.default)
        table[: len(self.keys)] = self.calibration.thresholds
        return table[ids]

    def robotic(self, p_robot: Float[np.ndarray, " n"], prepared: Prepared) -> Mask:
        """Which clicks are robotic."""
        return self.calibration.robotic(p_robot, self._ids(prepared)[0])

    def _ids(self, prepared: Prepared) -> tuple[Int[np.ndarray, " n"], tuple[SliceKey, ...]]:
        if prepared.slices != self.slices:
            raise InvalidArgument(
                f"slices of the clicks are {', '.join(prepared.slices)}, but thresholds were chosen for "
                f"{', '.join(self.slices)}; prepare the clicks with these"
            )
        return prepared.ids_among(self.keys)


def prepare(
    frame: pl.DataFrame,
    config: Config | None = None,
    featuriser: Featuriser | None = None,
    progress: Callable[[int], None] | None = None,
    features: Float[np.ndarray, "n features"] | None = None,
) -> Prepared:
    """Count the clicks of a log in their order, and find slices, heavy sessions, local hours and repeats.

    A `featuriser` that has counted before continues from there; by default counting begins with the log. `progress` is
    called with the number of clicks done. With `features` from an earlier call for the same clicks, none are counted.
    Raises InvalidArgument for a frame that is not of clicks, see `clicks.read_clicks`, or not in order of time.
    """
    config = config or Config()
    frame = check_clicks(frame)
    check_order(frame)
    X = _counted(frame, featuriser or Featuriser(), progress) if features is None else features
    keys, ids = _slices(frame, config.slices)
    first = frame["click_id"].is_first_distinct().to_numpy()
    sessions = _sessions(frame)
    sessions[~first] = -1  # an answer sent twice is no second click of its session
    hour, weekday = _local(X)
    return Prepared(
        frame=frame,
        X=X,
        slices=config.slices,
        slice_keys=keys,
        slice_ids=ids,
        heavy=heavy_sessions(sessions, frame["ts"].to_numpy(), config.heavy),
        hour=hour,
        weekday=weekday,
        first=first,
    )


def known_humans(prepared: Prepared, known_at: int, config: Config) -> Mask:
    """The clicks that are learned as human: a purchase known at `known_at`, or a high RFM score."""
    return humans(prepared.frame, known_at, config.rfm_at_least)


def purchasing(prepared: Prepared, known_at: int) -> Mask:
    """The clicks whose purchase is known at `known_at`: those by which false positives are counted."""
    return humans(prepared.frame, known_at, np.inf)


def train_model(
    prepared: Prepared, rows: Mask, known_at: int, config: Config | None = None, progress: Progress | None = None
) -> Scorer:
    """A model of the kind that `config` names, trained on the clicks `rows` (n,) bool with the labels of `known_at`.

    Raises InvalidArgument if there are no such clicks, or if none or all of them are known to be human.
    """
    config = config or Config()
    if not rows.any():
        raise InvalidArgument("rows has no click; there must be some to learn from, so take a longer part of the log")
    left_out = tuple(NAMES.index(name) for name in config.left_out)
    X = Rows(prepared.X, rows, left_out + _unseen(prepared.weekday[rows]))
    human, weights = labelled(prepared, rows, known_at, config)
    if config.kind == "velocity":
        return VelocityRule.train(X[:], NAMES)
    if config.kind == "logistic":
        return LogisticBaseline.train(X[:], human, weights)
    if config.kind == "trees":
        return TreesBaseline.train(X[:], human, weights, config.seed)
    settings = dataclasses.replace(config.network, kind=config.kind)
    codes = prepared.categories[rows] if config.kind == "embedding" else None
    return train(X, codes, human, weights, settings, config.seed, progress)


def labelled(prepared: Prepared, rows: Mask, known_at: int, config: Config) -> tuple[Mask, np.ndarray | None]:
    """What a model learns of the m clicks `rows`: their labels (m,) bool, and their sample weights (m,), if any."""
    bought = purchasing(prepared, known_at)[rows]
    if config.spread and bought.any():
        human, loads = spread(prepared.frame.select("user_id", "session_id").filter(pl.Series(rows)), bought)
        if effective_size(loads[human]) >= DOUBLES * np.count_nonzero(bought):
            return human, sample_weights(prepared, rows, human, config, loads)
    human = known_humans(prepared, known_at, config)[rows]
    return human, sample_weights(prepared, rows, human, config)


def _unseen(weekday: Int[np.ndarray, " m"]) -> tuple[int, ...]:
    """The features of the day of the week, unless all seven were seen: no model can tell what a Sunday is that has only
    met Tuesdays to Thursdays, and each would guess by extending its curve. What does not vary is held."""
    if np.bincount(weekday, minlength=7).min() >= len(weekday) / 7 * SEEN:
        return ()
    return NAMES.index("weekday_sin"), NAMES.index("weekday_cos")


def sample_weights(
    prepared: Prepared,
    rows: Mask,
    human: Bool[np.ndarray, " m"],
    config: Config,
    loads: Float[np.ndarray, " m"] | None = None,
) -> np.ndarray | None:
    """The sample weight of each of the clicks `rows`, whose labels are `human`; None where all weigh the same.

    loads: what they weigh beforehand, as `spreading.spread` gives it.
    """
    if not config.weighted:
        return None if loads is None else (loads / loads.mean()).astype(np.float32)
    logged_in = prepared.frame["logged_in"].to_numpy()[rows]
    return cell_weights(prepared.hour[rows], prepared.weekday[rows], logged_in, human, config.largest_weight, loads)


def calibrate_model(
    prepared: Prepared,
    scorer: Scorer,
    rows: Mask,
    known_at: int,
    config: Config | None = None,
    *,
    budget: float = 0.01,
    cap: float | None = None,
    min_coverage: float = 0.0,
    method: Method = "envelope",
    confidence: float | None = CONFIDENCE,
    learned: Mask | None = None,
    hold_regulars: bool = True,
) -> Thresholds:
    """Thresholds for the slices of the clicks `rows` (n,) bool, by the purchases known at `known_at`.

    The other arguments are those of `calibration.calibrate`. The purchases among the clicks that the model has
    `learned` (n,) bool weigh the slices against each other, so that all of `rows` can test the budget.
    Of the regulars among `rows` a click each is a second count that the budget is held on, unless `hold_regulars` is
    false.
    """
    config = config or Config()
    human = purchasing(prepared, known_at)
    if not human[rows].any():
        raise InvalidArgument(
            f"purchases: none of the {int(rows.sum()):,} clicks to calibrate on was known to have led to one, and "
            "without any there is no false-positive rate; take a longer part of the log"
        )
    earlier, later = None, rows
    if learned is not None and method in ("envelope", "quadratic"):
        rows = rows | learned
        earlier = ~later[rows]
    there = np.bincount(prepared.slice_ids[rows], minlength=len(prepared.slice_keys)) > 0
    keys = tuple(key for key, present in zip(prepared.slice_keys, there, strict=True) if present)
    ids = (np.cumsum(there, dtype=np.int32) - 1)[prepared.slice_ids[rows]]
    calibration = calibrate(
        scores(prepared, scorer, rows),
        ids,
        human[rows],
        prepared.heavy[rows],
        budget=budget,
        cap=cap,
        min_coverage=min_coverage,
        method=method,
        confidence=confidence,
        names=[slice_name(key) for key in keys],
        earlier=earlier,
        regular=regulars(prepared.frame, later, known_at)[rows] if hold_regulars else None,
        seed=config.seed,
    )
    return Thresholds(prepared.slices, keys, calibration)


def scores(prepared: Prepared, scorer: Scorer, rows: Mask | None = None) -> Float[np.ndarray, " m"]:
    """p_robot (m,) float32 of the clicks `rows`, by default of all."""
    at = np.arange(len(prepared.X)) if rows is None else np.flatnonzero(rows)
    codes = prepared.categories if getattr(getattr(scorer, "config", None), "kind", None) == "embedding" else None
    p_robot = np.empty(len(at), np.float32)
    start = 0
    while start < len(at):  # a part at a time, since features may be a mapped file larger than memory
        part = at[start : start + ROWS] if len(at) - start > ROWS + FEW else at[start:]
        p_robot[start : start + len(part)] = scorer.p_robot(prepared.X[part], None if codes is None else codes[part])
        start += len(part)
    return p_robot


def slice_name(key: SliceKey) -> str:
    """The name of a slice, as tables show it.

    >>> slice_name(("phone", "US", "true"))
    'phone / US / true'
    """
    return " / ".join(key)


def moment(text: str, first: int, last: int, name: str = "time") -> int:
    """A time in milliseconds since 1970 UTC, from what a user wrote about a log of clicks from `first` to `last`.

    It may be a share of the log's time such as 50%, a time after its first click such as 90m, 36h or 7d, or an ISO 8601
    time, which is UTC if it names no offset. 100% is after the last click. Anything else raises InvalidArgument, whose
    text begins with `name`.

    >>> moment("50%", 1_000, 2_999), moment("2h", 1_000, 2_999), moment("1970-01-01T00:00:03", 1_000, 2_999)
    (2000, 7201000, 3000)
    """
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)%", text):
        if float(match[1]) <= 100.0:
            return first + round((last + 1 - first) * float(match[1]) / 100.0)
    elif match := re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", text):
        return first + round(float(match[1]) * _UNITS[match[2]])
    else:
        try:
            time = datetime.fromisoformat(text)
            return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1_000)
        except (ValueError, OverflowError):
            pass
    raise InvalidArgument(
        name,
        f"is {text!r}; it must be a share of the log from 0% to 100%, a time after its first click such as "
        "36h or 7d, or a time such as 2026-03-09T00:00",
    )


def split(first: int, last: int) -> Split:
    """How a log of clicks from `first` to `last` is divided by default; in milliseconds since 1970 UTC.

    - Three weeks or more, with a few hours of slack: of the last three weeks the first trains, the second calibrates,
      and the third is for measuring. They are cut at a full hour. Whole weeks are used because people click differently
      on Sundays, so thresholds only keep their budget on the days of the week that they were set on. One week trains
      because robots change their ways; the paper trains on one week too.
    - A shorter log is divided by time, at 50 % and 71.43 %.

    >>> [time / 86_400_000 for time in split(0, 28 * 86_400_000 - 1)]
    [7.0, 14.0, 21.0]
    >>> [time / 86_400_000 for time in split(0, 2 * 86_400_000 - 1)]
    [0.0, 1.0, 1.4286]
    """
    if last + 1 - first < 3 * WEEK - SLACK:
        return Split(first, moment(TRAIN_UNTIL, first, last), moment(CALIBRATE_UNTIL, first, last))
    end = round((last + 1) / HOUR) * HOUR
    return Split(max(first, end - 3 * WEEK), end - 2 * WEEK, end - WEEK)


def weekdays(since: int, until: int) -> tuple[str, ...]:
    """The days of the week, from Monday on, of which half or more lies in since <= time < until, in UTC.

    If that is less than half a day long, the answer is the day that most of it lies in.

    >>> weekdays(0, 86_400_000), weekdays(0, 4 * 86_400_000)
    (('Thu',), ('Thu', 'Fri', 'Sat', 'Sun'))
    """
    day = 24 * HOUR
    held = np.zeros(7, np.int64)
    for start in range(since // day * day, until, day):
        here = (start // day + 3) % 7  # 1970 began on a Thursday
        held[here] = max(held[here], min(until, start + day) - max(since, start))
    return tuple(WEEKDAYS[at] for at in np.flatnonzero(held >= min(day // 2, held.max())))


def _slices(frame: pl.DataFrame, columns: Sequence[str]) -> tuple[tuple[SliceKey, ...], Int[np.ndarray, " n"]]:
    """The sorted keys of all slices, and the position of each click's slice among them. A null counts as empty text."""
    parts = [part.select(columns) for part in frame.iter_slices(TOGETHER)]  # some at a time, for their memory
    distinct = pl.concat([part.unique() for part in parts]).unique() if parts else frame.select(columns)
    texts = distinct.select(pl.col(column).cast(pl.String).fill_null("") for column in columns)
    named = texts.unique().sort(columns).with_row_index("slice_id_")
    number = texts.join(named, on=list(columns), how="left", maintain_order="left")["slice_id_"]
    known = distinct.with_columns(number)
    ids = np.empty(frame.height, np.int32)
    for start, part in zip(range(0, frame.height, TOGETHER), parts, strict=True):
        found = part.join(known, on=list(columns), how="left", maintain_order="left", nulls_equal=True)
        ids[start : start + part.height] = found["slice_id_"].to_numpy()
    keys: list[Any] = named.drop("slice_id_").rows()
    return tuple(keys), ids


def _sessions(frame: pl.DataFrame) -> Int[np.ndarray, " n"]:
    """63 bits of the hash of each click's session; -1 without one."""
    session = pl.col("session_id")
    number = pl.when(session.is_not_null()).then((session.hash() // 2).cast(pl.Int64)).otherwise(-1)
    return frame.select(number).to_series().to_numpy(writable=True)


def _counted(
    frame: pl.DataFrame, featuriser: Featuriser, progress: Callable[[int], None] | None
) -> Float[np.ndarray, "n features"]:
    X = np.empty((frame.height, WIDTH), np.float32)
    for start in range(0, frame.height, BATCH):
        part = frame[start : start + BATCH]
        X[start : start + part.height] = featuriser.transform(part)
        if progress is not None:
            progress(start + part.height)
    return X


def _local(X: Float[np.ndarray, "n features"]) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Hour of the day and day of the week, read back from the features, so that both use the same time zones."""

    def step_on_the_circle(part: Float[np.ndarray, "m features"], name: str, steps: int) -> Int[np.ndarray, " m"]:
        at = NAMES.index(f"{name}_sin")
        angle = np.arctan2(part[:, at], part[:, at + 1])
        return np.rint(angle / (2.0 * np.pi) * steps).astype(np.int64) % steps

    hour, weekday = np.empty(len(X), np.int8), np.empty(len(X), np.int8)
    for start in range(0, len(X), BATCH):
        part = slice(start, start + BATCH)
        hour[part] = step_on_the_circle(X[part], "hour", 1_440) // 60
        weekday[part] = step_on_the_circle(X[part], "weekday", 7)
    return hour, weekday
