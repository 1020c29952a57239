"""What each constant of the marginal detector does: half of it and twice of it, on streams that show a difference.

    uv run python -m benchmarks.ablate_detector [--quick] [--only CONSTANT ...]

One JSON line a variant: first the detector as it is, on several seeds, then every constant halved and doubled on the
first seed. `beyond_noise` names the figures that lie further from the default than its seeds lie apart. The page
`docs/detector-constants.md` is the table of these lines. K carries its B along, since B follows from K; B is also
varied by itself. The level 0.5 is doubled to 0.75, halfway to 1.

What the figures say, each a mean over slices of one and of five features:

    usual_mean, usual_worst   share of usual events flagged, in target rates: 1 is right; the worst of the laws
    early                     the same in events 100 to 2,000 of a slice
    p_value                   how far the share of p-values below 0.3, 0.1 and 0.02 is off, as a share of these
    burst, mild_burst         share of a burst of 2,000 flagged, 50 and 4.5 standard deviations away
    after_burst               share flagged in the 2,000 events after either, in target rates
    corrupted, auc            share of the corrupted 2 % flagged; their score against that of the others, ROC-AUC
    beside                    share of the others flagged, in target rates
    jump, jump_to_tail        alarms after a jump of 10, beyond the target rate, until usual again; the same where the
                              values have a heavy tail from then on
    renewed                   share flagged in 1,000 events of the heavy tail once it is usual, in target rates
    young, young_found        usual events flagged, in target rates, and far ones found, in the first 2,048 events of
                              slices that begin with an absurd value
    young_jump                alarms after a jump of 10 or of 1,000 in the 106th event of a slice
    ulp, change_found         share of changes of one last digit flagged in a constant stream, and of real ones
    new_score                 how far the median score of the first 20 events of new slices is off, as a share of it
    new, new_found            usual events flagged, in target rates, and far ones found, in the first 320 events of
                              slices that are new beside known ones
"""

import argparse
import functools
import math
import multiprocessing
import sys
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from benchmarks.workloads import emit
from onlineguard import Engine
from onlineguard.core import quantiles, spread
from onlineguard.engine import verdicts
from onlineguard.models import detector

BATCH = 1_024  # every call has this many events, so that one program is compiled for each number of features
TARGET = 0.01
N = 20 * BATCH  # events of a slice
SETTLED = 5_000  # events after which a slice counts as settled
AT = 8 * BATCH  # where a burst or a jump begins
BURST = 2_000
RENEWED = AT + 5_050  # by then the default patience has made a jump usual
YOUNG_N = 2 * BATCH
SEEDS = 5  # of the default, to tell noise from difference
FAR_AWAY = 8.0  # standard deviations of the events that a young or a new slice should find
P_LEVELS = (0.3, 0.1, 0.02)
USUAL_SCORE = quantiles.normal_quantile(0.25)  # median score of a normal law with one feature

Shape = tuple[int, ...]
Figures = dict[str, float]


def autocorrelated(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    x = rng.standard_normal(shape)
    for t in range(1, shape[0]):
        x[t] += 0.9 * x[t - 1]
    return x


def mostly_zeros(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    return np.where(rng.random(shape) < 0.9, 0.0, rng.lognormal(size=shape))


def drifting(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    return rng.standard_normal(shape) + np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1)) / 300.0


LAWS: dict[str, Callable[[np.random.Generator, Shape], np.ndarray]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "Student t 2.1": lambda rng, shape: rng.standard_t(2.1, shape),
    "Cauchy": lambda rng, shape: rng.standard_cauchy(shape),
    "log-normal": lambda rng, shape: rng.lognormal(size=shape),
    "mostly zeros": mostly_zeros,
    "autocorrelated": autocorrelated,
    "drift": drifting,
}
EVENTFUL = ("burst", "mild_burst", "corrupted", "jump", "jump_to_tail")
BURSTS = slice(len(LAWS), len(LAWS) + 2)


def varied() -> list[tuple[Any, str, int | None]]:
    """Every constant of the detector: its module, its name, and the place in a tuple."""
    found: list[tuple[Any, str, int | None]] = []
    for module in (detector, spread, quantiles):
        imported = {"LEVELS", "LEAST_SCORE", "MIN_SEEN", "NEW"} if module is detector else set()
        for name in vars(module):
            if name.isupper() and name not in imported:
                value = getattr(module, name)
                found += [(module, name, i) for i in (range(len(value)) if isinstance(value, tuple) else [None])]
    return found


@contextmanager
def constant(module: Any, name: str, index: int | None, factor: float) -> Generator[float]:
    """The constant times a factor in every module that has it, and no program compiled before; yields its value."""
    before = getattr(module, name)
    old = before if index is None else before[index]
    new = type(old)(old * factor)
    if name == "LEVELS" and new >= 1.0:
        new = (1.0 + old) / 2.0
    changed = {name: new if index is None else (*before[:index], new, *before[index + 1 :])}
    if name == "K":
        changed["B"] = matching_b(new)
    places = [m for key, m in sys.modules.items() if key.startswith("onlineguard.")]
    undo = [(m, n, vars(m)[n]) for n in changed for m in places if vars(m).get(n) is getattr(module, n)]
    try:
        for m, n, _ in undo:
            setattr(m, n, changed[n])
        forget_programs()
        yield new
    finally:
        for m, n, value in undo:
            setattr(m, n, value)
        forget_programs()


def matching_b(k: float) -> float:
    """E min(Z^2, k^2) of a standard normal Z."""
    inside = math.erf(k / math.sqrt(2.0))
    return inside - k * math.sqrt(2.0 / math.pi) * math.exp(-k * k / 2.0) + k * k * (1.0 - inside)


def forget_programs() -> None:
    jax.clear_caches()
    verdicts._levels.cache_clear()  # pyright: ignore[reportPrivateUsage]


class Judged:
    """Streams (n, slices, d), each a slice of one engine, judged in batches of one size: arrays (n, slices)."""

    def __init__(self, x: np.ndarray, engine: Engine | None = None, first_key: int = 0, p_values: bool = False):
        n, slices, d = x.shape
        engine = engine or Engine(d, estimator=detector.Detector(TARGET))
        keys, events = np.tile(np.arange(first_key, first_key + slices), n), x.reshape(-1, d)
        parts = [engine.update(keys[i : i + BATCH], events[i : i + BATCH]) for i in range(0, n * slices, BATCH)]
        self.score = np.concatenate([part.score for part in parts]).reshape(n, slices)
        self.flagged = np.concatenate([part.anomalous for part in parts]).reshape(n, slices)
        self.ready = np.concatenate([part.ready for part in parts]).reshape(n, slices)
        self.p_value = np.concatenate([part.p_value for part in parts]).reshape(n, slices) if p_values else None


@functools.cache
def long_streams(seed: int, d: int, copies: int) -> tuple[np.ndarray, np.ndarray]:
    """Float32 (N, kinds, copies, d): usual laws, then `EVENTFUL`; and which events of the corrupted ones are."""
    rng = np.random.default_rng((seed, d))
    shape = (N, copies, d)
    kinds = [law(rng, shape) for law in LAWS.values()]
    burst, mild, corrupted, jump, tail = (rng.standard_normal(shape) for _ in EVENTFUL)
    burst[AT : AT + BURST] += 50.0
    mild[AT : AT + BURST] += 4.5
    bad = rng.random((N, copies)) < 0.02
    corrupted[bad] *= np.where(rng.random((bad.sum(), 1)) < 0.1, 1e30, 50.0)
    jump[AT:] += 10.0
    tail[AT:] = 10.0 + rng.standard_t(2.1, (N - AT, copies, d))
    return np.stack([*kinds, burst, mild, corrupted, jump, tail], axis=1).astype(np.float32), bad


def long_figures(seed: int, d: int, copies: int) -> Figures:
    """Of settled slices."""
    x, bad = long_streams(seed, d, copies)
    judged = Judged(x.reshape(N, -1, d), p_values=True)
    flagged, score = (a.reshape(N, -1, copies) for a in (judged.flagged, judged.score))
    usual = flagged[SETTLED:, : len(LAWS)].mean(axis=(0, 2)) / TARGET
    assert judged.p_value is not None
    p = judged.p_value.reshape(N, -1, copies)[SETTLED:, : len(LAWS)]
    off = [abs((p < level).mean(axis=(0, 2)) / level - 1.0).mean() for level in P_LEVELS]
    burst, mild, corrupted, jump, tail = (flagged[:, len(LAWS) + i] for i in range(len(EVENTFUL)))
    odd = score[SETTLED:, len(LAWS) + EVENTFUL.index("corrupted")]
    return {
        "usual_mean": usual.mean(),
        "usual_worst": usual[np.argmax(abs(np.log(np.maximum(usual, 1e-3))))],
        "early": flagged[100:2_000, : len(LAWS)].mean() / TARGET,
        "p_value": float(np.mean(off)),
        "burst": burst[AT : AT + BURST].mean(),
        "mild_burst": mild[AT : AT + BURST].mean(),
        "after_burst": flagged[AT + BURST : AT + 2 * BURST, BURSTS].mean() / TARGET,
        "corrupted": corrupted[SETTLED:][bad[SETTLED:]].mean(),
        "auc": float(np.mean([auc(odd[:, i], bad[SETTLED:, i]) for i in range(copies)])),
        "beside": corrupted[SETTLED:][~bad[SETTLED:]].mean() / TARGET,
        "jump": alarms(jump[AT:]),
        "jump_to_tail": alarms(tail[AT:]),
        "renewed": tail[RENEWED : RENEWED + 1_000].mean() / TARGET,
    }


def auc(score: np.ndarray, bad: np.ndarray) -> float:
    """ROC-AUC of scores (n,); ties are broken in the order of arrival."""
    ranks = np.empty(len(score))
    ranks[np.argsort(score, kind="stable")] = np.arange(1, len(score) + 1)
    return float((ranks[bad].mean() - (bad.sum() + 1) / 2) / (~bad).sum())


def alarms(flagged: np.ndarray) -> float:
    """Events of a slice (n, slices) flagged beyond the target rate."""
    return float((flagged.mean() - TARGET) * len(flagged))


def young_figures(seed: int, slices: int) -> Figures:
    """Of the first events: slices that begin with an absurd value, and slices whose level changes at once."""
    rng = np.random.default_rng((seed, 101))
    x = rng.standard_normal((YOUNG_N, 2 * slices, 1))
    for i, at in enumerate((0, 1, 3, 7)):
        x[at, i:slices:4] = 1e6
    far = rng.random((YOUNG_N, slices)) < 0.005
    far[:100] = False
    x[:, :slices][far] += FAR_AWAY
    x[105:, slices::2] += 10.0
    x[105:, slices + 1 :: 2] += 1_000.0
    judged = Judged(x.astype(np.float32))
    first, jumped = judged.flagged[100:, :slices], judged.flagged[105:, slices:]
    return {
        "young": first[~far[100:]].mean() / TARGET,
        "young_found": first[far[100:]].mean(),
        "young_jump": alarms(jumped),
    }


ONE_DIGIT = [  # a level, and the next number that its type holds
    *((x, float(np.nextafter(np.float32(x), np.float32(np.inf)))) for x in (5.0, 2.0**40)),
    *((x, float(np.nextafter(x, np.inf))) for x in (0.1, 1e9 + 0.1, -1.7e12 - 1 / 3)),
]


def constant_figures(seed: int, slices: int) -> Figures:
    """Of constant streams with changes of one last digit, of float32 and of float64, and one real change."""
    rng = np.random.default_rng((seed, 102))
    x, above = (np.resize(values, slices) for values in zip(*ONE_DIGIT, strict=True))
    changed = rng.random((YOUNG_N, slices)) < 0.01
    changed[:200] = changed[1_900] = False
    x = np.where(changed, above, x)
    x[1_900] *= 2.0
    flagged = Judged(x[:, :, None]).flagged
    return {"ulp": flagged[changed].mean(), "change_found": flagged[1_900].mean()}


def newcomer_figures(seed: int, slices: int) -> Figures:
    """Of new slices beside three populations: alike, too few of them, and far apart."""
    rng = np.random.default_rng((seed, 103))
    usual, found, off = [], [], []
    for known, reach in ((6, 3.0), (3, 0.25), (12, 6.0)):
        engine = Engine(1, estimator=detector.Detector(TARGET))
        Judged(
            (np.linspace(-reach, reach, known)[:, None] + rng.standard_normal((BATCH, known, 1))).astype("f4"), engine
        )
        x = rng.uniform(-reach, reach, slices)[:, None] + rng.standard_normal((320, slices, 1))
        far = rng.random((320, slices)) < 0.01
        far[:30] = False
        x[far] += FAR_AWAY
        judged = Judged(x.astype(np.float32), engine, first_key=known)
        off.append(abs(np.nanmedian(judged.score[:20]) / USUAL_SCORE - 1.0))
        usual.append(judged.flagged[judged.ready & ~far].mean() / TARGET)
        found.append(judged.flagged[far].mean())
    return {"new_score": float(np.mean(off)), "new": float(np.mean(usual)), "new_found": float(np.mean(found))}


def figures(seed: int, quick: bool) -> Figures:
    """All figures of the detector as its constants now are."""
    one, five = long_figures(seed, 1, 1 if quick else 4), long_figures(seed, 5, 1 if quick else 2)
    settled = {name: (one[name] + five[name]) / 2.0 for name in one}
    settled["usual_worst"] = max(one["usual_worst"], five["usual_worst"], key=lambda r: abs(math.log(max(r, 1e-3))))
    slices = 16 if quick else 64
    rest = young_figures(seed, slices) | constant_figures(seed, slices) | newcomer_figures(seed, slices)
    return {name: float(f"{value:.4g}") for name, value in (settled | rest).items()}


def variant(name: str, index: int | None, factor: float, quick: bool) -> tuple[float, Figures]:
    """The value of a changed constant, and the figures with it."""
    module = next(module for module, n, i in varied() if (n, i) == (name, index))
    with constant(module, name, index, factor) as value:
        return value, figures(0, quick)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two seeds, few slices, START only: to see that it works")
    parser.add_argument("--only", nargs="+", metavar="CONSTANT", help="these constants, e.g. --only K LEVELS [all]")
    options = parser.parse_args()
    known = {name for _, name, _ in varied()}
    chosen = set(options.only or (["START"] if options.quick else known))
    if not chosen <= known:
        parser.error(f"--only has {min(chosen - known)}; the constants are {', '.join(sorted(known))}")

    seeds = range(2 if options.quick else SEEDS)
    places = [(name, index, factor) for _, name, index in varied() if name in chosen for factor in (0.5, 2.0)]
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        started = pool.map(figures, seeds, [options.quick] * len(seeds))
        variants = [pool.submit(variant, *place, options.quick) for place in places]
        defaults = list(started)
        for seed, found in zip(seeds, defaults, strict=True):
            emit(constant=None, seed=seed, **found)
        noise = {name: max(f[name] for f in defaults) - min(f[name] for f in defaults) for name in defaults[0]}
        for (name, index, factor), future in zip(places, variants, strict=True):
            value, found = future.result()
            beyond = [n for n in found if abs(found[n] - defaults[0][n]) > noise[n]]
            emit(constant=name, index=index, factor=factor, value=value, **found, beyond_noise=beyond)


if __name__ == "__main__":
    main()
