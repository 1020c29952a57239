"""Run a source through an engine: batch by batch, in memory bounded whatever the length of the stream."""

import dataclasses
import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, cast

import numpy as np

from onlineguard.cli.alarms import AlarmNumbers
from onlineguard.cli.periods import periods_found
from onlineguard.cli.sinks import Drivers, VerdictLines, VerdictWriter
from onlineguard.engine.arguments import detector_of, named_model
from onlineguard.engine.engine import Engine
from onlineguard.engine.verdicts import Verdicts
from onlineguard.errors import CheckpointError, InvalidArgument, SourceError
from onlineguard.models.categories import Categories
from onlineguard.models.lagged import Lagged
from onlineguard.report import SeriesRecorder, SliceReport
from onlineguard.report.quality import GAP, Labelled, Quality
from onlineguard.sources import ALL, Batch, Source, read_ahead

SLICE_COLUMNS = "slice_columns"  # among the notes of an engine: the columns that its slices are told apart by
FEW_FEATURES = 4  # a source with this many features or fewer, and a time, may be a series
DEPENDENT = (
    0.2  # least rank correlation of a series with its last value; without dependence, 200 events show .14 at most
)
SLICES_LOOKED_AT, EVENTS_LOOKED_AT = 64, 200  # most slices that tell whether a source is a series; least events of each
EXPLAINED_A_SLICE, EXPLAINED_A_BATCH, EXPLAINED = 4, 64, 2_000  # most events explained: of a slice in a batch, ...


@dataclass(frozen=True)
class Summary:
    """The outcome of a run."""

    events: int  # judged and learned
    slices: int  # known to the engine at the end, and those it had to let go
    anomalies: int  # anomalous events
    rejected: int  # rows that could not be read
    target_rate: float
    seconds: float  # from the first byte read to the last event judged, compiling included
    last_line: int  # line number of the last event
    interrupted: bool  # by Ctrl-C or SIGTERM: the stream was taken to end there
    oddest: list[SliceReport]  # the recorded slices, highest score first
    quality: Quality | None  # where the source has labels
    bad_fields: int = 0  # of features and times; they count as missing
    period: str | None = None  # what series repeat themselves after; None for a detector that looks for no period

    @property
    def events_per_second(self) -> float:
        return self.events / max(self.seconds, 1e-9)


def choose_detector(
    name: str, n_features: int, timed: bool, first: Batch | None = None, lags: int | None = None
) -> tuple[str, str]:
    """`point` or `series`, and why.

    For `auto`, a few numbers with a time are a series if values of the first batch depend on those before, or if there
    are too few to tell.
    """
    if name != "auto":
        return name, "as asked for"
    if lags:
        return "point", "since --lags is given"
    if not timed:
        return "point", "since no --time is named"
    if n_features > FEW_FEATURES:
        return "point", f"since there are more than {FEW_FEATURES} features"
    correlation = math.nan if first is None else _correlation_with_last(first)
    few, depend = ("one feature", "depends") if n_features == 1 else ("only a few features", "depend")
    if correlation != correlation:
        return "series", f"since there is a time and {few}"
    if correlation < DEPENDENT:
        return "point", f"since values hardly depend on those before, rank correlation {correlation:.2f}"
    return (
        "series",
        f"since there is a time and {few}, which {depend} on the values before, rank correlation {correlation:.2f}",
    )


def _correlation_with_last(batch: Batch) -> float:
    """The rank correlation of values with those just before in their slices.

    It is the median over some slices and all features; NaN where no slice has enough events.
    """
    numbers: dict[Hashable, int] = {}
    slices = np.array([numbers.setdefault(key, len(numbers)) for key in batch.keys])
    found: list[float] = []
    for number in range(min(len(numbers), SLICES_LOOKED_AT)):
        x = batch.X[slices == number]
        for column in x[np.isfinite(x).all(axis=1)].T:
            if len(column) >= EVENTS_LOOKED_AT and np.ptp(column) > 0:
                ranks = column.argsort(kind="stable").argsort(kind="stable")
                found.append(float(np.corrcoef(ranks[:-1], ranks[1:])[0, 1]))
    return float(np.median(found)) if found else math.nan


def open_engine(
    features: Sequence[str],
    detector: str,
    rate: float | None = None,
    patience: float | None = None,
    state: Path | None = None,
    slice_columns: Sequence[str] | None = None,
    categories: Sequence[str] = (),
    pause: float | None = None,
    lags: int | None = None,
) -> Engine:
    """The engine that `state` holds, a new one where there is no such file.

    Raises CheckpointError where the file holds an engine of another kind than the other arguments ask for, or one whose
    slices are told apart by other columns than `slice_columns`, where that is given. The columns are kept among the
    engine's notes; of a file without them only the number of columns can be compared.
    """
    new = Engine(features=features, estimator=named_model(detector, rate, patience, pause, lags), categories=categories)
    columns = None if slice_columns is None else list(slice_columns)
    if columns is not None:
        new.notes[SLICE_COLUMNS] = columns
    if state is None or not state.exists():
        return new
    saved = Engine.load(state)
    was, now = _settings(saved), _settings(new)
    for name in now:
        if was.get(name) != now[name]:
            raise _other_run(state, f"{name} {was.get(name)!r}", repr(now[name]))
    if columns is not None:
        known = saved.notes.get(SLICE_COLUMNS)
        if known is not None and known != columns:
            raise _other_run(state, _named(known), _named(columns))
        if known is None and saved.slices and _key_columns(saved) != len(columns):
            raise _other_run(state, _counted(_key_columns(saved)), _named(columns))
        saved.notes[SLICE_COLUMNS] = columns
    return saved


def run(
    source: Source,
    engine: Engine,
    *,
    writers: Sequence[VerdictWriter | VerdictLines] = (),
    recorder: SeriesRecorder | None = None,
    explain: bool = False,
    progress: Callable[[int], None] = lambda events: None,
) -> Summary:
    """Judge and learn every event of the source, in order.

    writers: take the verdicts; committing or discarding them is left to the caller.
    recorder: records the oddest slices; with `explain` also what drove some of their anomalous events.
    progress: called after each batch with the number of events so far.

    A KeyboardInterrupt ends the stream after the batch in work. Raises SourceError where the source breaks off, and
    where every row of it was rejected, or no field of its features could be read.
    """
    recorder = recorder or SeriesRecorder(gap=GAP)
    labelled = Labelled() if source.label_column is not None else None
    events = anomalies = last_line = explained = 0
    interrupted = anything = False
    alarms = AlarmNumbers()
    ahead = read_ahead(source)
    began = time.perf_counter()
    try:
        for batch in ahead:
            with undisturbed():
                verdicts = engine.update(batch.keys, batch.X)
                assert verdicts.slice_numbers is not None
                if writers:
                    numbers = alarms.of(verdicts.slice_numbers, verdicts.anomalous)
                    drivers = _drivers(engine, batch, verdicts) if any(one.drivers for one in writers) else None
                    for one in writers:
                        one.add(batch, verdicts, numbers if one.alarms else None, drivers if one.drivers else None)
                anything = anything or bool(np.isfinite(batch.X).any())
                _record(recorder, batch, verdicts)
                if labelled is not None and batch.labels is not None:
                    labelled.add(verdicts.slice_numbers, batch.labels, verdicts, batch.times)
                if explain and engine.n_features > 1:
                    most = min(EXPLAINED_A_BATCH, EXPLAINED - explained)
                    explained += _explain(engine, recorder, batch, verdicts, most)
                events += len(batch)
                anomalies += int(verdicts.anomalous.sum())
                last_line = int(batch.line_numbers[-1])
                progress(events)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        ahead.close()
    if events == 0 and not interrupted:
        raise SourceError(
            f"every row of {source.name} was rejected, {source.rejected:,} of them: {'; '.join(source.reasons)}; "
            f"see {source.rejects}"
        )
    if events and not anything and source.bad_fields:
        raise SourceError(
            f"no field of a feature of {source.name} could be read: {'; '.join(source.reasons)}; name other columns "
            "(--feature), or say how numbers are written (--decimal, --na)"
        )
    oddest = recorder.reports(64, value_name=_value_name(source))
    return Summary(
        events=events,
        slices=len(engine.slices) + engine.evicted,
        anomalies=anomalies,
        rejected=source.rejected,
        bad_fields=source.bad_fields.total(),
        target_rate=engine.target_rate,
        seconds=time.perf_counter() - began,
        last_line=last_line,
        interrupted=interrupted,
        oddest=oddest,
        quality=labelled.quality() if labelled is not None else None,
        period=periods_found(engine, oddest),
    )


def check_destinations(
    source: Source | None, destinations: dict[str, Path | None], read: Mapping[str, Path | None] | None = None
) -> None:
    """Raise InvalidArgument, before hours of work, where a file cannot be made or two of them are the same.

    `read`: files that are read besides the source, under what the error calls them.
    """
    owner_of = {path.resolve(): name for name, path in (read or {}).items() if path is not None}
    if source is not None and not source.strict:
        owner_of[source.rejects.resolve()] = "where rejected rows go"
    for place in source.places if source is not None else ():
        if place.path is not None:
            owner_of[place.path.resolve()] = "the source"
    for name, path in destinations.items():
        if path is None:
            continue
        if path.resolve() in owner_of:
            raise InvalidArgument(name, f"is {path}, which is also {owner_of[path.resolve()]}; name another file")
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise InvalidArgument(name, f"is {path}, where no file can be written; name one in a folder that exists")
        owner_of[path.resolve()] = name


def _explain(engine: Engine, recorder: SeriesRecorder, batch: Batch, verdicts: Verdicts, most: int) -> int:
    """Record what drove the highest anomalous events of each recorded slice; returns how many were explained."""
    assert verdicts.slice_numbers is not None
    odd = np.flatnonzero(verdicts.anomalous)
    explained: Counter[int] = Counter()
    for i in odd[np.argsort(-verdicts.score[odd], kind="stable")].tolist():
        number = int(verdicts.slice_numbers[i])
        if explained.total() >= most:
            break
        if explained[number] < EXPLAINED_A_SLICE and number in recorder:
            explained[number] += 1
            with suppress(KeyError):  # evicted within this batch
                key: Any = batch.keys[i]
                shares = engine.explain(key, batch.X[i])
                recorder.add_drivers(number, {str(feature): share for feature, share in shares.items()})
    return explained.total()


def _drivers(engine: Engine, batch: Batch, verdicts: Verdicts) -> Drivers:
    """What made each anomalous event odd most, by the state from after its batch."""
    feature: list[str | None] = [None] * len(batch)
    share = np.full(len(batch), np.nan, np.float32)
    names = engine.features or []
    for i in np.flatnonzero(verdicts.anomalous).tolist():
        with suppress(KeyError):  # evicted within this batch
            key: Any = batch.keys[i]
            shares: dict[Any, float] = engine.explain(key, batch.X[i]) if len(names) > 1 else {names[0]: 1.0}
            most = max(shares, key=lambda name: shares[name])
            feature[i], share[i] = str(most), shares[most]
    return Drivers(feature, share)


def _key_columns(engine: Engine) -> int:
    """How many columns the slices of an engine were told apart by."""
    keys = engine.slices
    if keys == [ALL]:
        return 0
    return len(keys[0]) if isinstance(keys[0], tuple) else 1


def _counted(n: int) -> str:
    return f"{n or 'no'} slice column{'' if n == 1 else 's'}"


def _named(columns: list[str]) -> str:
    return f"slice columns {columns}" if columns else _counted(0)


def _other_run(state: Path, was: str, now: str) -> CheckpointError:
    return CheckpointError(
        f"{state} was written with {was}, but this run has {now}; run with the former or name another state file"
    )


def _settings(engine: Engine) -> dict[str, Any]:
    """What of an engine its operator chose, by the names of the command line."""
    model = engine.model.model if isinstance(engine.model, Categories) else engine.model
    lags = model.lags if isinstance(model, Lagged) else 0
    chosen = dataclasses.asdict(cast(Any, model.model if isinstance(model, Lagged) else model))
    features = engine.features or []
    return {
        "features": features,
        "categories": [features[j] for j in engine.categories],
        "detector": detector_of(model),
        "lags": lags,
        "rate": chosen.pop("target_rate"),
        **chosen,
    }


def _record(recorder: SeriesRecorder, batch: Batch, verdicts: Verdicts) -> None:
    odd = np.flatnonzero(verdicts.anomalous)
    p_values = np.full(len(batch), np.nan)
    p_values[odd] = verdicts[odd].p_value
    recorder.add(
        verdicts.slice_numbers,
        batch.X[:, 0] if batch.X.shape[1] == 1 else verdicts.score,
        verdicts.score,
        verdicts.threshold,
        verdicts.anomalous,
        p_values,
        batch.times,
        batch.labels,
        batch.keys,
    )


def _value_name(source: Source) -> str:
    return source.feature_columns[0] if len(source.feature_columns) == 1 else "score"


@contextmanager
def undisturbed() -> Generator[None]:
    """Put off a KeyboardInterrupt to the end of the block: what is half done can be neither kept nor repeated."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupted = False

    def later(signum: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True

    both = (signal.SIGINT, signal.SIGTERM)
    interrupting = [signum for signum in both if signal.getsignal(signum) is signal.default_int_handler]
    for signum in interrupting:
        signal.signal(signum, later)
    try:
        yield
    finally:
        for signum in interrupting:
            signal.signal(signum, signal.default_int_handler)
    if interrupted:
        raise KeyboardInterrupt
