"""The experiment as a whole: the three measures, and the tables that are printed."""

from typing import Any

import numpy as np

from experiments import common
from experiments.change_points.detectors import (
    MODELS,
    OURS,
    OURS_PAPER,
    PUBLISHED,
    REPRODUCED,
    RIVER,
    detect,
    river_any,
)
from experiments.change_points.figures import draw_delays, draw_stationary, draw_table
from experiments.change_points.streams import AFTER, BEFORE, JUMPS, LAWS, ROWS, TRUTH, noise, table_streams, width

RUNS = 30
DELAY_RUNS = 200

# Streams that never change: lanes of this many events.
LANES, LANE = 40, 100_000  # of ours at its default risk; of the others half as many
WIDE_LANES, WIDE_LANE = 10, 25_000  # of 32 features

# What is slow is run less often: KSWIN takes 0.4 ms an event, Algorithm 1 keeps an estimate for every event.
SLOW_RUNS, SLOW_DELAY_RUNS, SLOW_EVENTS = 8, 3, 10_000


def regret(alarms: np.ndarray) -> np.ndarray:
    """(runs, LENGTH) alarms to each run's sum of |alarms so far - true changes so far|."""
    return abs(alarms.cumsum(1) - TRUTH).sum(1)


def band(values: np.ndarray) -> list[float]:
    """The median and the band that holds 95 % of the runs."""
    return np.percentile(values, [50.0, 2.5, 97.5]).tolist()


def table_cell(key: tuple[int, str, bool, int]) -> dict[str, Any]:
    """A row of the table by one model; `every` has river watch each feature in place of the event's length."""
    row, model, every, runs = key
    streams = table_streams(ROWS[row], range(runs))
    alarms = river_any(model, streams) if every else detect(model, streams)
    return {
        "regret": band(regret(alarms)),
        "runs": runs,
        "exactly three": float((alarms.sum(1) == 3).mean()),
        "alarms": float(alarms.sum(1).mean()),
    }


def delay_cell(key: tuple[str, int, str, int]) -> dict[str, Any]:
    """Delay and misses for one law, jump and model. Runs with an alarm before the change are counted apart."""
    law, jump, model, runs = key
    step = np.where(np.arange(BEFORE + AFTER) < BEFORE, 0.0, JUMPS[jump] * width(law))[:, None]
    streams = [step + noise(law, common.rng(2, jump, run), BEFORE + AFTER, 1) for run in range(runs)]
    alarms = detect(model, np.stack(streams))
    early, late = alarms[:, :BEFORE].any(1), alarms[:, BEFORE:]
    found = late.any(1)
    delays = np.where(found, late.argmax(1) + 1, AFTER)
    return {
        "delay": band(delays),  # one that was missed counts as AFTER
        "missed": float((~found).mean()),
        "alarm before": float(early.mean()),
        "runs": runs,
    }


def stationary_cell(key: tuple[str, int, str, int, int, int]) -> list[int]:
    """Alarms on one lane's worth of events that never change, lanes with any, and events, for some lanes at once."""
    law, d, model, first, lanes, events = key
    streams = np.stack([noise(law, common.rng(3, LAWS.index(law), d, first + i), events, d) for i in range(lanes)])
    alarms = detect(model, streams)
    return [int(alarms.sum()), int(alarms.any(1).sum()), int(alarms.size), lanes]


def run(options: common.Options) -> common.Outcome:
    """Change points: ours, river's and the published figures."""
    processes = 1 if options.quick else None  # one compiles once
    table = _table(options, processes)
    delays = _delays(options, processes)
    stationary = _stationary(options, processes)
    return common.Outcome(
        {"runs": options.seeds, "table": table, "delay": delays, "stationary": stationary},
        {"regret": draw_table(table), "delay": draw_delays(delays), "false_alarms": draw_stationary(stationary)},
        "\n\n".join((_table_text(table), _delays_text(delays), _stationary_text(stationary))),
    )


def _table(options: common.Options, processes: int | None) -> dict[str, Any]:
    slow = 1 if options.quick else min(SLOW_RUNS, options.seeds)
    runs = {model: slow if model in (REPRODUCED, "KSWIN") else options.seeds for model in MODELS}
    # KSWIN is too slow for 32 features, and 32 of it would raise 32 times the false alarms that one raises
    every_model = [(i, model) for model in (REPRODUCED, *MODELS) for i in range(len(ROWS))]
    keys = [
        (i, model, False, runs[model]) for i, model in dict.fromkeys(every_model) if ROWS[i].d == 1 or model != "KSWIN"
    ]
    keys += [(i, name, True, options.seeds) for i, row in enumerate(ROWS) if row.d > 1 for name in RIVER[:2]]
    found = dict(zip(keys, common.over(table_cell, keys, "table", processes), strict=True))
    results: dict[str, Any] = {}
    for i, row in enumerate(ROWS):
        cells: dict[str, Any] = {}
        for model in MODELS:
            ways = {
                way: found[key]
                for way, every in (("length", False), ("any feature", True))
                if (key := (i, model, every, runs[model])) in found
            }
            if not ways:
                continue
            way = min(ways, key=lambda way: ways[way]["regret"][0])  # the better for river, chosen in hindsight
            cells[model] = ways[way] | ({"of": way} if row.d > 1 and model in RIVER else {})
            if len(ways) > 1:
                cells[model]["both"] = {way: cell["regret"] for way, cell in ways.items()}
        published = {name: pair for name, pair in zip(PUBLISHED, row.published, strict=True) if pair is not None}
        results[row.name] = {"published": published, "measured": cells}
    return results


def _delays(options: common.Options, processes: int | None) -> dict[str, Any]:
    many, few = (10, 1) if options.quick else (DELAY_RUNS, SLOW_DELAY_RUNS)
    jumps = [JUMPS.index(jump) for jump in ((0.5, 1.0, 3.0) if options.quick else JUMPS)]
    models = (OURS, *RIVER)
    keys = [
        (law, jump, model, few if model == "KSWIN" else many)
        for model in models
        for law in ("Normal", "Pareto")
        for jump in jumps
    ]
    found = dict(zip(keys, common.over(delay_cell, keys, "delay", processes), strict=True))
    results: dict[str, Any] = {law: {model: {} for model in models} for law in ("Normal", "Pareto")}
    for (law, jump, model, _), cell in found.items():
        results[law][model][f"{JUMPS[jump]:g}"] = cell
    return results


def _stationary(options: common.Options, processes: int | None) -> dict[str, Any]:
    lanes, events = (2, 5_000) if options.quick else (LANES, LANE)
    slow = 1_000 if options.quick else SLOW_EVENTS
    keys: list[tuple[str, int, str, int, int, int]] = []
    for law in LAWS:
        together = min(lanes, 20)  # lanes in one call
        for model in (OURS, OURS_PAPER, *RIVER[:2]):
            most = lanes if model == OURS else max(lanes // 2, together)
            keys += [(law, 1, model, first, together, events) for first in range(0, most, together)]
        keys += [(law, 1, "KSWIN", first, 1, slow // 2) for first in range(2)]
    if not options.quick:
        keys += [(law, 32, OURS, 0, WIDE_LANES, WIDE_LANE) for law in ("Normal", "Pareto")]
    results: dict[str, Any] = {}
    for (law, d, model, *_), cell in zip(
        keys, common.over(stationary_cell, keys, "stationary", processes), strict=True
    ):
        laws = results.setdefault(law if d == 1 else f"{law}, d = {d}", {})
        counts = laws.setdefault(model, {"alarms": 0, "lanes with any": 0, "events": 0, "lanes": 0})
        for name, count in zip(counts, cell, strict=True):
            counts[name] += count
    for laws in results.values():
        for counts in laws.values():
            counts["a million"] = 1e6 * counts["alarms"] / counts["events"]
    return results


# Tables and figures


def _table_text(table: dict[str, Any]) -> str:
    def published(row: dict[str, Any], name: str) -> str:
        pair = row["published"].get(name)
        return f"{pair[0]} ± {pair[1]}" if pair else "-"

    def measured(row: dict[str, Any], model: str) -> str:
        cell = row["measured"].get(model)
        return "-" if cell is None else "{:.0f} [{:.0f}, {:.0f}]".format(*cell["regret"])

    header = [f"{name} (published)" for name in PUBLISHED]
    rows = [
        [name, *(published(row, other) for other in PUBLISHED), *(measured(row, model) for model in MODELS)]
        for name, row in table.items()
    ]
    return common.markdown_table(["regret", *header, *MODELS], rows)


def _delays_text(delays: dict[str, Any]) -> str:
    rows = [
        [law, model, *(f"{cell['delay'][0]:.0f} ({100 * cell['missed']:.0f} %)" for cell in cells.values())]
        for law, models in delays.items()
        for model, cells in models.items()
    ]
    jumps = next(iter(next(iter(delays.values())).values()))
    return common.markdown_table(["delay (missed)", "", *jumps], rows)


def _stationary_text(stationary: dict[str, Any]) -> str:
    models = (OURS, OURS_PAPER, *RIVER)

    def said(counts: dict[str, Any] | None) -> str:
        return "-" if counts is None else f"{counts['a million']:.3g} ({counts['alarms']} of {counts['events']:,})"

    rows = [[law, *(said(laws.get(model)) for model in models)] for law, laws in stationary.items()]
    return common.markdown_table(["false alarms a million (alarms of events)", *models], rows)
