"""Guardrails on labels: that people are known in every hour of the week, and that no hours or days of labels are wrong.

**Outages.** k_h purchases were made in hour h. Expected are e_h, the smaller of two numbers: the mean of the same hour
on all other days, and the hour's clicks times the purchases a click of all others. So neither a quiet Sunday nor a
flood of robots looks like an outage. Of all runs of hours up to `LONGEST`, those with at most `least` of what they
should have are held against the Poisson law,

    P(K <= k | e) <= CHANCE

which a run of silence passes from e = 11.5 on. A shorter silence cannot be told from chance, and the report says from
how many hours on it can be told.

**Mislabelled days.** A score of the other days, the linear discriminant w between their buyers and all of their clicks,
tells the buyers of a day from its clicks with the area AUC under the ROC curve, and those of the other days with
AUC'. Then

    agreement = (AUC - 1/2) / (AUC' - 1/2)

is about 1, about 0 where labels were given at random, and negative where robots were labelled. In a clean week it is .3
to 1.4, since buyers are hardly told from other people; so a day fails only if its agreement lies below the limit by
three standard errors. Two thousand purchases a day tell labels given at random, and a hundred those of robots.

Source: least densities of known humans in every hour of the week are a guardrail of "SLIDR", IAAI 2023. The scan over
all runs follows Kulldorff, "A spatial scan statistic", 1997, with a bound in place of its simulation.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from scipy import special, stats

from onlineguard.slidr.features import CALENDAR, NAMES
from onlineguard.slidr.guardrails.checks import Check, Finding
from onlineguard.slidr.guardrails.data import HOUR, Data

LONGEST = 48  # hours of a run; a longer silence is found as one of this length
CHANCE = 1e-5  # of 168 starts and 48 lengths, few are independent: less than one clean week in a hundred
WARM = 3  # hours at the beginning, in which the purchases of earlier clicks are missing
CELL = 1e-5  # chance that a cell of 168 is taken for empty
ENOUGH = 20  # purchases of a day that say anything of its labels
ERRORS = 3.0  # standard errors: seven days or more are looked at every day
TOLD = 0.53  # AUC from which on the buyers of the other days are told from their clicks at all
RIDGE = 0.1  # of the correlations, which windows inside each other make nearly singular
PART = 65_536  # clicks whose features are held at once
SAMPLE = 10_000  # clicks of a day, and as many of its buyers, that scores are ranked of


def density(data: Data, limits: Mapping[str, float]) -> Finding:
    """The known humans in every hour of the week."""
    week = (data.since // HOUR + data.hour) % 168
    clicks = np.bincount(week[data.timely], minlength=168)
    known = np.bincount(week[data.timely & data.human], minlength=168)
    share = known.sum() / max(1, clicks.sum())
    if data.hours < 168:
        return Finding(None, f"{data.hours} hours are no week", {"share": share})
    if not known.sum():
        return Finding(False, f"none of {clicks.sum():,} clicks is known to be a person's", {"share": 0.0})
    wanted = limits["least"] * share * clicks
    empty = clicks == 0
    typical = clicks.mean()
    sparse = (special.pdtr(known, wanted) <= CELL) | (empty & (typical >= -np.log(CELL)))
    with np.errstate(invalid="ignore"):
        relative = known / clicks / share
    figures = {"share": share, "least_of_an_hour": float(relative[~empty].min()), "sparse_hours": int(sparse.sum())}
    if sparse.any():
        names = ", ".join(_hour_of_week(int(at)) for at in np.flatnonzero(sparse)[:4])
        return Finding(False, f"hardly anybody is known in {sparse.sum()} of 168 hours of the week: {names}", figures)
    return Finding(True, f"{share:.2%} of the clicks are known people's, in no hour of the week hardly any", figures)


def outages(data: Data, limits: Mapping[str, float]) -> Finding:
    """Runs of hours in which labels are missing."""
    purchases = data.purchases_an_hour
    if data.days < 2:
        return Finding(None, "a single day has no other to be compared with")
    if not purchases.sum():
        return Finding(False, f"no purchase is known of {int(data.timely.sum()):,} clicks", {"purchases": 0})
    kinds = {"purchases": purchases}
    scored = data.timely & data.frame["rfm"].is_not_null().to_numpy()
    if scored.any():
        visits = data.frame.select("user_id", hour=pl.Series(data.hour)).filter(pl.Series(scored)).unique()
        kinds["RFM scores"] = np.bincount(
            visits["hour"].to_numpy(), minlength=data.hours
        )  # accounts, since their clicks come in bundles
    figures: dict[str, float] = {}
    said: list[str] = []
    for kind, counts in kinds.items():
        expected = _expected(counts, data.clicks_an_hour)
        start, length, chance = _longest_silence(counts, expected, limits["least"])
        found = chance <= CHANCE
        figures[f"hours_without_{kind.split()[0].lower()}"] = length if found else 0
        if found:
            k, e = counts[start : start + length].sum(), expected[start : start + length].sum()
            said.append(f"{kind} are missing for {length} hours from {data.when(start)}: {k:,} where {e:,.0f} were due")
    busy = float(np.median(_expected(purchases, data.clicks_an_hour)))
    figures["seen_from_hours"] = float(np.ceil(-np.log(CHANCE) / max(busy, 1e-9)))
    if said:
        return Finding(False, "; ".join(said), figures)
    return Finding(True, f"no labels are missing for {figures['seen_from_hours']:,.0f} hours or longer", figures)


def delay(data: Data, limits: Mapping[str, float]) -> Finding:
    """How long after its click a purchase is known."""
    made = data.frame["purchase_ts"].to_numpy()[data.timely & data.bought]
    if len(made) < ENOUGH:
        return Finding(None, f"{len(made)} purchases are too few to tell")
    bought = (made - data.ts[data.timely & data.bought]) / HOUR
    hours = bought if data.label_hours is None else data.label_hours
    late, early = float(np.quantile(hours, 0.95)), float((bought < 0).mean())
    figures = {"median_hours": float(np.median(hours)), "p95_hours": late, "before_click": early}
    if early > limits["before"]:
        return Finding(
            False, f"{early:.1%} of the purchases were made before their click, so joined to others", figures
        )
    return Finding(
        late <= limits["hours"], f"95 % of the purchases are known within {late:.1f} hours of their click", figures
    )


def agreement(data: Data, limits: Mapping[str, float]) -> Finding:
    """Whether the labels of every day say the same as those of all other days."""
    buyers = data.timely & data.bought
    counts = data.of_days(buyers)
    if data.days < 3 or (counts >= ENOUGH).sum() < 3:
        return Finding(None, f"{int(counts.sum()):,} purchases on {data.days} days are too few to compare days")
    agree, error = _agreements(data, buyers, counts)
    clicks = data.of_days(data.timely)
    others = (counts.sum() - counts) / np.maximum(clicks.sum() - clicks, 1)
    due = others * clicks
    surplus = (counts > limits["most"] * due) & (special.pdtrc(np.maximum(counts - 1, 0), due) <= CHANCE)
    against = (agree + ERRORS * error < limits["agreement"]) & (counts >= ENOUGH)
    figures = {
        "least_agreement": float(np.nanmin(agree, initial=np.inf)),
        "most_purchases": float((counts / np.maximum(due, 1e-9)).max()),
    }
    if against.any():
        days = ", ".join(data.when(24 * int(day))[:14] for day in np.flatnonzero(against))
        return Finding(False, f"buyers look unlike those of all other days on {days}", figures)
    if surplus.any():
        days = ", ".join(data.when(24 * int(day))[:14] for day in np.flatnonzero(surplus))
        return Finding(False, f"far more clicks than on other days are labelled on {days}", figures)
    return Finding(True, "the buyers of every day look like those of the other days", figures)


CHECKS = (
    Check(
        "density",
        "data",
        "a model that hardly met a person in an hour of the week takes everybody for a robot then",
        density,
        {"least": 0.1},  # of the share over all hours; in clean simulated weeks the sparsest hour has .2 to .5
    ),
    Check(
        "outages",
        "data",
        "clicks without their labels are learned as robots', and thresholds lose their budget",
        outages,
        {"least": 0.3},  # of the labels that are due; below, no usual swing of the day reaches
    ),
    Check(
        "delay",
        "data",
        "what is bought after the model is made counts against people",
        delay,
        {"hours": 24.0, "before": 0.01},  # usual are 4 and 0; a day late, the last day has no labels
    ),
    Check(
        "agreement",
        "data",
        "a day whose labels are wrong teaches the opposite of all others",
        agreement,
        {"agreement": 0.25, "most": 3.0},  # above labels given at random; three times the usual purchases
    ),
)


def _hour_of_week(at: int) -> str:
    """The hour of the week, counted from Thursday 0:00, when 1970 began."""
    return f"{('Thu', 'Fri', 'Sat', 'Sun', 'Mon', 'Tue', 'Wed')[at // 24]} {at % 24}:00 UTC"


def _expected(counts: Int[np.ndarray, " hours"], clicks: Int[np.ndarray, " hours"]) -> Float[np.ndarray, " hours"]:
    """What every hour should have, by the other days and by its clicks; nothing in the first hours."""
    hours = len(counts)
    of_day = np.arange(hours) % 24
    same, times = np.bincount(of_day, counts, 24), np.bincount(of_day, minlength=24)
    by_days = (same[of_day] - counts) / np.maximum(times[of_day] - 1, 1)
    by_clicks = clicks * (counts.sum() / max(1, clicks.sum()))
    expected = np.minimum(by_days, by_clicks)
    expected[:WARM] = 0.0
    return expected


def _longest_silence(
    counts: Int[np.ndarray, " hours"], expected: Float[np.ndarray, " hours"], least: float
) -> tuple[int, int, float]:
    """(start, length, chance) of the run of hours that is least likely by chance, of those with too few counts."""
    k, e = (np.append(0.0, np.cumsum(each)) for each in (counts, expected))
    best = (0, 0, 1.0)
    for length in range(1, min(LONGEST, len(counts)) + 1):
        seen, due = k[length:] - k[:-length], e[length:] - e[:-length]
        chance = np.where(seen <= least * due, special.pdtr(seen, due), 1.0)
        at = int(np.argmin(chance))
        if chance[at] < best[2]:
            best = (at, length, float(chance[at]))
    return best


def _agreements(
    data: Data, buyers: Bool[np.ndarray, " n"], counts: Int[np.ndarray, " days"]
) -> tuple[Float[np.ndarray, " days"], Float[np.ndarray, " days"]]:
    """The agreement of every day, and its standard error; NaN and infinity where it cannot be told."""
    days = [_Day.of(data, buyers, day) for day in range(data.days)]
    agree, error = np.full(data.days, np.nan), np.full(data.days, np.inf)
    for at in np.flatnonzero(counts):
        others = [day for day in days if day is not days[at]]
        n, bought = sum(day.clicks for day in others), [day for day in others if day.buyers]
        mean = np.sum([day.sum for day in others], axis=0) / n
        of_buyers = np.sum([day.sum_of_buyers for day in bought], axis=0) / sum(day.buyers for day in bought)
        covariance = np.sum([day.products for day in others], axis=0) / n - np.outer(mean, mean)
        deviation = np.sqrt(np.maximum(np.diag(covariance), 0.0)) + 1e-6
        correlation = covariance / np.outer(deviation, deviation) + RIDGE * np.eye(len(mean))
        w = np.linalg.solve(correlation, (of_buyers - mean) / deviation) / deviation
        apart = np.average([_auc(day, w) for day in bought], weights=[day.buyers for day in bought])
        if apart >= TOLD:
            agree[at] = (_auc(days[at], w) - 0.5) / (apart - 0.5)
            error[at] = np.sqrt(1.0 / 12.0 / min(counts[at], SAMPLE)) / (apart - 0.5)
    return agree, error


class _Day(NamedTuple):
    """What the agreement of a day needs."""

    clicks: int
    buyers: int
    sum: Float[np.ndarray, " d"]
    sum_of_buyers: Float[np.ndarray, " d"]
    products: Float[np.ndarray, "d d"]
    some: Float[np.ndarray, "m d"]  # a sample of the clicks
    some_buyers: Float[np.ndarray, "k d"]

    @staticmethod
    def of(data: Data, buyers: Bool[np.ndarray, " n"], day: int) -> "_Day":
        rows = np.flatnonzero(data.timely & (data.day == day))
        bought = rows[buyers[rows]]
        counted = ~np.isin(NAMES, CALENDAR)

        def features(at: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m d"]:
            return np.asarray(data.X[at], np.float64)[:, counted]

        width = int(counted.sum())
        total, of_buyers, products = np.zeros(width), np.zeros(width), np.zeros((width, width))
        for start in range(0, len(rows), PART):
            at = rows[start : start + PART]
            X = features(at)
            total += X.sum(0)
            of_buyers += X[buyers[at]].sum(0)
            products += X.T @ X
        some, some_buyers = (features(at[:: max(1, len(at) // SAMPLE)]) for at in (rows, bought))
        return _Day(len(rows), len(bought), total, of_buyers, products, some, some_buyers)


def _auc(day: _Day, w: Float[np.ndarray, " d"]) -> float:
    """The chance that a buyer of the day has a higher score than a click of it."""
    ranks = stats.rankdata(np.concatenate([day.some_buyers @ w, day.some @ w]))
    k = len(day.some_buyers)
    return float((ranks[:k].sum() - k * (k + 1) / 2) / (k * len(day.some)))
