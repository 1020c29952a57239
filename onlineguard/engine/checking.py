"""`check_model` tests whether a model that you wrote keeps the laws that the Engine relies on."""

import itertools
import pickle
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from onlineguard.core.protocols import Array
from onlineguard.engine.batches import SMALLEST_BATCH
from onlineguard.engine.engine import Engine
from onlineguard.engine.parts import WASTE
from onlineguard.engine.stepper import FIRST_CAPACITY
from onlineguard.engine.table import Layout, advance
from onlineguard.engine.verdicts import Verdicts

SLICES = 3
FIELDS = ("score", "threshold", "p_value", "ready")
CUTS = (0, 1, 20, 21, 60)  # where a batch is cut
PART, LONGER_PART = 64, 100  # events at once: with the shortest compiled program, and with the next one
MOVED = 20  # events that are moved together with the states that judge them
SHIFT = 64.0  # float32 subtracts it from events rounded to thousandths and loses at most two digits
ZERO = 2.0**30  # where a stream begins that float32 would hold without its thousandths
UNSEEN = 1e6  # a category of which the stream has no event
SCORE_TOLERANCE = 1e-2  # largest difference of two scores that a shift may cause, since it loses one or two digits


def check_model(estimator: Any, n_features: int = 3, n_events: int = 480, seed: int = 0) -> None:
    """Run a model through every law of `SliceModel` in an Engine; takes some seconds, most of them compiling.

    estimator: the argument for `Engine(n_features, estimator=...)`. It must be registered by a name, see `register`.
    n_events: events of the synthetic stream, in three slices: drifting, with far values, zeros and missing features.

    Raises AssertionError, which names the law and the model, for the first law that does not hold.
    """
    check = _Check(estimator, n_features, n_events, seed)
    check.state_is_packed_without_loss()
    check.a_batch_equals_its_parts_and_its_events_one_by_one()
    check.slices_never_touch_each_other()
    check.score_answers_as_update_will_and_learns_nothing()
    check.an_event_without_features_changes_nothing()
    check.a_copy_goes_on_as_the_original()
    check.slices_go_on_in_another_engine()
    check.a_forgotten_slice_starts_anew()
    check.a_moved_state_judges_moved_events_alike()
    check.scores_do_not_depend_on_the_zero_of_the_stream()
    check.an_unseen_category_is_odder_than_a_usual_one()
    check.explain_and_describe_answer()


class _Check:
    """One model, the stream it is checked on, and the laws, each a method."""

    def __init__(self, estimator: Any, n_features: int, n_events: int, seed: int):
        rng = np.random.default_rng(seed)
        self.estimator, self.n_features = estimator, n_features
        self.keys = rng.integers(0, SLICES, n_events)
        x = rng.standard_normal((n_events, n_features)) + np.linspace(0.0, 2.0, n_events)[:, None]
        x[rng.random(n_events) < 0.03] *= 50.0
        x[rng.random((n_events, n_features)) < 0.03] = np.nan
        x[rng.random((n_events, n_features)) < 0.03] = 0.0
        self.x = np.round(x, 3).astype(np.float32)
        supervised = self.engine().model.supervised
        columns = list(self.engine().model.categories)
        self.x[:, columns] = abs(np.rint(self.x[:, columns]))  # a category is known by a whole number
        self.y = (np.nan_to_num(self.x).sum(axis=1) > 1.0).astype(np.float32) if supervised else None
        if self.y is not None:
            self.y[rng.random(n_events) < 0.3] = np.nan

    def engine(self) -> Engine:
        return Engine(self.n_features, estimator=self.estimator)

    def update(self, engine: Engine, which: Any, x: np.ndarray | None = None) -> Verdicts:
        return engine.update(self.keys[which], (self.x if x is None else x)[which], self.targets(which))

    def targets(self, which: Any) -> np.ndarray | None:
        return None if self.y is None else self.y[which]

    def parts(self, engine: Engine, size: int, x: np.ndarray | None = None) -> list[Verdicts]:
        """The verdicts on the whole stream, updated in batches of `size` events."""
        return [self.update(engine, slice(i, i + size), x) for i in range(0, len(self.x), size)]

    def trained(self) -> Engine:
        engine = self.engine()
        self.parts(engine, PART)
        return engine

    def demand(self, holds: Any, law: str) -> None:
        if not np.all(holds):
            raise AssertionError(f"{type(self.estimator).__name__} breaks a law of models: {law}")

    def demand_same(self, one: list[Verdicts], other: list[Verdicts], law: str) -> None:
        for field in FIELDS:
            a, b = (np.concatenate([getattr(part, field) for part in parts]) for parts in (one, other))
            different = np.flatnonzero(~((a == b) | ((a != a) & (b != b))))
            i = different[0] if len(different) else 0
            self.demand(len(different) == 0, f"{law}; {field} of event {i} is {a[i]} and {b[i]}")

    def state_is_packed_without_loss(self) -> None:
        engine = self.trained()
        state = engine.state(0)
        layout = Layout.of(state)
        again = layout.unpack(layout.pack(state))
        for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(again), strict=True):
            self.demand(_bits(one) == _bits(other), "a packed state is the same when it is unpacked")

        event: Any = jax.ShapeDtypeStruct((engine.model.width(self.n_features),), np.float32)
        if engine.model.supervised:
            event = (event, jax.ShapeDtypeStruct((), np.float32))
        after = jax.eval_shape(lambda s, e: engine.params.step(s, e)[0], state, event)
        shapes = [(np.shape(leaf), np.asarray(leaf).dtype) for leaf in jax.tree.leaves(state)]
        shapes_after = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(after)]
        self.demand(shapes == shapes_after, f"`step` keeps shapes and types; they go from {shapes} to {shapes_after}")

    def a_batch_equals_its_parts_and_its_events_one_by_one(self) -> None:
        first = slice(0, CUTS[-1])
        whole = [self.update(self.engine(), first)]
        cut, single = self.engine(), self.engine()
        parts = [self.update(cut, slice(a, b)) for a, b in itertools.pairwise(CUTS)]
        self.demand_same(whole, parts, "a batch may be cut anywhere")
        alone = [self.update(single, slice(i, i + 1)) for i in range(CUTS[-1])]
        self.demand_same(whole, alone, "a batch is its events one by one")
        long, longer = (self.parts(self.engine(), size) for size in (PART, LONGER_PART))
        self.demand_same(long, longer, "a stream may be cut anywhere")

    def slices_never_touch_each_other(self) -> None:
        together = self.parts(self.engine(), PART)
        for key in range(SLICES):
            mine = np.flatnonzero(self.keys == key)
            engine = self.engine()
            alone = [self.update(engine, mine[i : i + PART]) for i in range(0, len(mine), PART)]
            of_key = [part[self.keys[i * PART : i * PART + PART] == key] for i, part in enumerate(together)]
            self.demand_same(of_key, alone, "slices never touch each other")

    def score_answers_as_update_will_and_learns_nothing(self) -> None:
        engine, other = self.trained(), self.trained()
        which = slice(0, 10)
        each = [slice(i, i + 1) for i in range(10)]
        scored = [engine.score(self.keys[one], self.x[one], self.targets(one)) for one in each]
        again = [engine.score(self.keys[which], self.x[which], self.targets(which))]
        self.demand_same(scored, again, "`score` learns nothing")
        first = [int(np.flatnonzero(self.keys[which] == key)[0]) for key in np.unique(self.keys[which])]
        updated = [self.update(other, np.array(first))]
        self.demand_same([again[0][np.array(first)]], updated, "an event is judged with the state from before it")

    def an_event_without_features_changes_nothing(self) -> None:
        plain, mixed = self.engine(), self.engine()
        nothing = np.full((1, self.n_features), np.nan, np.float32)
        one, other = [], []
        for i in range(0, len(self.x), 30):
            part = slice(i, i + 30)
            one.append(self.update(plain, part))
            other.append(self.update(mixed, part))
            for key in range(SLICES):
                empty = mixed.update([key], nothing)
                self.demand(~empty.ready, "an event without any feature is not ready to be judged")
        self.demand_same(one, other, "an event without any feature changes nothing")

    def a_copy_goes_on_as_the_original(self) -> None:
        engine = self.trained()
        with tempfile.TemporaryDirectory() as folder:
            engine.save(Path(folder) / "engine")
            loaded = Engine.load(Path(folder) / "engine")
        pickled = pickle.loads(pickle.dumps(engine))
        original = self.parts(engine, PART)
        self.demand_same(original, self.parts(loaded, PART), "a saved engine goes on as if it had never stopped")
        self.demand_same(original, self.parts(pickled, PART), "a pickled engine goes on as the original")

    def slices_go_on_in_another_engine(self) -> None:
        engine = self.trained()
        first, *others = (engine.select([key]) for key in reversed(range(SLICES)))
        for other in others:
            first.add(other)
        together = self.parts(engine, PART)
        self.demand_same(together, self.parts(first, PART), "slices that were taken apart and put together go on")

    def a_forgotten_slice_starts_anew(self) -> None:
        engine = self.engine()
        first_run = self.parts(engine, PART)
        for key in engine.slices:
            engine.forget(key)
        self.demand_same(first_run, self.parts(engine, PART), "a forgotten slice starts anew")

    def a_moved_state_judges_moved_events_alike(self) -> None:
        engine = self.trained()
        model = engine.model
        if not model.shiftable:
            return
        width = model.width(self.n_features)
        by = np.full((1, width), SHIFT)
        by[:, list(model.categories)] = 0.0  # a category has no origin
        last = range(len(self.x) - MOVED, len(self.x))
        states, events = [], np.full((2, MOVED, width + model.supervised), np.nan, np.float32)
        for i, event in zip(last, events[0], strict=True):
            states.append(engine.state(int(self.keys[i])))
            event[: self.n_features] = self.x[i]
            if self.y is not None:
                event[width:] = self.y[i]
        events[1] = events[0]
        events[1, :, :width] -= by
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
        here = self.scores(engine, stacked, events[0])
        there = self.scores(engine, model.moved(stacked, np.repeat(by, MOVED, axis=0)), events[1])
        for i, one, other in zip(last, here, there, strict=True):
            close = np.isclose(one, other, rtol=SCORE_TOLERANCE, atol=SCORE_TOLERANCE, equal_nan=True)
            self.demand(close, f"a moved state judges moved events alike; event {i} scores {one} and {other}")

    def scores(self, engine: Engine, states: Any, events: np.ndarray) -> np.ndarray:
        """The score of each event, (MOVED,), in its own one of the stacked states, by the engine's compiled program."""
        layout = Layout.of(engine.state(0))
        first = WASTE + 1
        table = np.zeros((FIRST_CAPACITY, layout.length), np.float32)
        table[first : first + MOVED] = layout.pack(states)
        rows = np.full((2, SMALLEST_BATCH), WASTE, np.int32)
        rows[0, :MOVED] = first + np.arange(MOVED)
        padded = np.full((SMALLEST_BATCH, events.shape[1]), np.nan, np.float32)
        padded[:MOVED] = events
        _, judgements = advance(engine.params, layout, jnp.asarray(table), rows, padded, np.int32(MOVED))
        return np.asarray(judgements)[:MOVED, 0]

    def scores_do_not_depend_on_the_zero_of_the_stream(self) -> None:
        """Of a model that begins at the first values it sees: its state before any event holds no position.

        One score in a hundred may differ, since the last digit decides which of two values is the nearer.
        """
        model = self.engine().model
        if not model.shiftable:
            return
        width = model.width(self.n_features)
        blank = model.init(self.n_features) if width == self.n_features else model.init(self.n_features, width)  # type: ignore[call-arg]
        stacked = jax.tree.map(lambda leaf: np.asarray(leaf)[None], blank)
        moved = model.moved(stacked, np.ones((1, width)))
        if any(
            _bits(one) != _bits(other)
            for one, other in zip(jax.tree.leaves(stacked), jax.tree.leaves(moved), strict=True)
        ):
            return
        x = self.x.astype(np.float64)
        far = x + ZERO
        far[:, list(model.categories)] = x[:, list(model.categories)]
        here, there = (np.concatenate([part.score for part in self.parts(self.engine(), PART, xs)]) for xs in (x, far))
        close = np.isclose(here, there, rtol=SCORE_TOLERANCE, atol=SCORE_TOLERANCE, equal_nan=True)
        i = int(close.argmin())
        self.demand(
            close.mean() >= 0.99,
            f"scores do not depend on the zero of the stream; event {i} scores {here[i]}, and {there[i]} at {ZERO:g}",
        )

    def an_unseen_category_is_odder_than_a_usual_one(self) -> None:
        engine = self.trained()
        columns = list(engine.model.categories)
        mine = self.x[self.keys == 0]
        usual = np.nanmedian(mine, axis=0)
        for column in columns:
            values, counts = np.unique(mine[np.isfinite(mine[:, column]), column], return_counts=True)
            usual[column] = values[counts.argmax()]
        for column in columns:
            events = np.stack([usual, usual])
            events[1, column] = UNSEEN
            known, unseen = engine.score([0, 0], events).score
            self.demand(
                unseen > known,
                f"an unseen category is odder than a usual one; feature {column} scores {unseen} and {known}",
            )

    def explain_and_describe_answer(self) -> None:
        engine = self.trained()
        found = engine.explain(0, self.x[np.isfinite(self.x).all(axis=1)][0])
        self.demand(sorted(found) == list(range(self.n_features)), "`explain` names every feature")  # type: ignore[type-var]
        shares = np.array(list(found.values()))
        self.demand((shares >= 0.0) & (shares <= 1.0 + 1e-6), "shares of a score lie from 0 to 1")
        reasons = engine.reasons(0, self.x[np.isfinite(self.x).all(axis=1)][0])
        by_feature = [reason for reason in reasons.values() if isinstance(reason, dict)]
        named = all(list(reason) == list(range(self.n_features)) for reason in by_feature)
        self.demand(named, "`reasons` with a number a feature name every feature")
        self.demand(engine.describe(0)["events"] > 0, "`describe` counts the events")


def _bits(leaf: Array) -> tuple[str, bytes]:
    return np.asarray(leaf).dtype.name, np.ascontiguousarray(leaf).tobytes()
