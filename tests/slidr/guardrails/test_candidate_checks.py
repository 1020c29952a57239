"""The guardrails on a candidate: each band, test and pinned click, on made-up scores beside those of what is live."""

import dataclasses
import time

import numpy as np
import pytest

from onlineguard.records.versions import Canary
from onlineguard.slidr.evaluation.evaluation import evaluate
from onlineguard.slidr.features import NAMES, WIDTH
from onlineguard.slidr.guardrails import candidate
from onlineguard.slidr.guardrails.candidate import CHECKS, LEVEL, Comparison
from onlineguard.slidr.guardrails.checks import Settings, run
from onlineguard.slidr.guardrails.compatible import incompatible
from onlineguard.slidr.learning.baselines import VelocityRule
from onlineguard.slidr.model import Model, Span
from onlineguard.slidr.pipeline import Config, Thresholds
from onlineguard.slidr.thresholds.calibration import calibrate
from tests.support.slidr_evaluations import made

SLICES = tuple((device, "US") for device in ("desktop", "mobile", "tablet", "tv"))
SPAN = Span(0, 10, 10, 5, 3)
LIMITS = {check.name: check.limits for check in CHECKS}


class Scorer:
    """Scores pinned clicks by their first feature."""

    width = WIDTH

    def p_robot(self, X, categories=None):
        return np.asarray(X, np.float32)[:, 0]


def calibration_of(clicks, **options):
    names = [" / ".join(key) for key in SLICES]
    options = {"budget": 0.02, "confidence": None, **options}
    return calibrate(clicks.p, clicks.codes, clicks.human, clicks.heavy, names=names, **options)


def model_of(calibration, keys=SLICES, scorer=None, **fields):
    config = Config(kind="velocity", slices=("device", "marketplace"))
    thresholds = Thresholds(config.slices, keys, calibration)
    return Model(config, scorer or Scorer(), SPAN, thresholds, SPAN, version="candidate", **fields)


def measured(clicks, calibration):
    return evaluate(clicks.p, clicks.codes, SLICES, clicks.human, clicks.heavy, calibration, level=LEVEL)


@pytest.fixture(scope="module")
def calibration():
    return calibration_of(made(40_000, seed=1))


@pytest.fixture(scope="module")
def later():
    return made(40_000, seed=2)


def compared(later, calibration, candidates=None, **changes):
    """A candidate that scores `candidates`, beside a live model that scores `later`."""
    live = measured(later, calibration)
    own = live if candidates is None else measured(candidates, calibration)
    return Comparison(model_of(calibration), own, model_of(calibration), live, **changes)


def failures(comparison):
    return {outcome.name for outcome in run(CHECKS, comparison, Settings()) if outcome.outcome == "failed"}


def test_a_candidate_that_does_what_the_live_model_does_passes_everything(later, calibration):
    pinned = [Canary("desktop / US", [0.0] * WIDTH, [], False), Canary("desktop / US", [1.0] * WIDTH, [], True)]
    outcomes = run(CHECKS, compared(later, calibration, canaries=pinned), Settings())
    assert [(each.name, each.sentence) for each in outcomes if each.outcome != "passed"] == []
    assert failures(compared(later, calibration, made(40_000, seed=2, noise=0.1))) == set()


def test_without_a_live_model_only_what_needs_none_is_judged(later, calibration):
    alone = Comparison(model_of(calibration), measured(later, calibration))
    outcomes = {outcome.name: outcome.outcome for outcome in run(CHECKS, alone, Settings())}
    assert {name for name, outcome in outcomes.items() if outcome == "skipped"} == {"ivr", "coverage", "canary"}


def test_scores_that_mark_everybody_or_nobody_are_refused(later, calibration):
    lenient = dataclasses.replace(later, p=later.p * 0.01)
    assert failures(compared(later, calibration, lenient)) >= {"ivr", "coverage"}
    strict = dataclasses.replace(later, p=1.0 - 0.01 * (1.0 - later.p))
    assert failures(compared(later, calibration, strict)) >= {"ivr", "fpr"}


def test_one_slice_that_loses_its_false_positives_or_its_robots_is_named(later, calibration):
    tablet = later.codes == 2
    flooded = dataclasses.replace(later, p=np.where(tablet, np.maximum(later.p, 0.99), later.p))
    outcomes = {each.name: each for each in run(CHECKS, compared(later, calibration, flooded), Settings())}
    assert outcomes["ivr"].sentence.startswith(("all clicks", "tablet / US: IVR goes from"))
    assert "of the purchases are robotic" in outcomes["fpr"].sentence
    blind = dataclasses.replace(later, p=np.where(tablet, 0.0, later.p))
    outcomes = {each.name: each for each in run(CHECKS, compared(later, calibration, blind), Settings())}
    assert "coverage" in {name for name, each in outcomes.items() if each.outcome == "failed"}
    assert outcomes["coverage"].sentence.startswith(("all clicks", "tablet / US: coverage goes from"))


def test_scores_that_tell_people_worse_are_refused_by_their_auc(later, calibration):
    outcome = candidate.auc(compared(later, calibration, made(40_000, seed=2, noise=5.0)), LIMITS["auc"])
    assert outcome.holds is False
    assert "AUC falls from" in outcome.sentence
    backwards = dataclasses.replace(later, p=1.0 - later.p)
    assert candidate.auc(compared(later, calibration, backwards), LIMITS["auc"]).holds is False


def test_a_band_alone_fails_nothing_where_there_are_few_clicks(calibration):
    few, other = made(60, seed=3), made(60, seed=4)
    assert not failures(compared(few, calibration, other)) & {"ivr", "fpr", "coverage", "auc"}


def test_thresholds_that_rest_on_few_purchases_or_mark_nothing_are_refused(later):
    few = calibration_of(made(400, seed=1))
    assert candidate.thresholds(compared(later, few), LIMITS["thresholds"]).holds is False
    sure = calibration_of(made(40_000, seed=1), confidence=0.95)
    assert candidate.thresholds(compared(later, sure), LIMITS["thresholds"]).holds
    none = dataclasses.replace(sure, thresholds=np.full(4, np.finfo(np.float32).max))
    finding = candidate.thresholds(compared(later, none), LIMITS["thresholds"])
    assert "mark nothing" in finding.sentence
    one = made(40_000, seed=1)
    one = dataclasses.replace(one, human=one.human & (one.codes == 0))
    finding = candidate.thresholds(compared(later, calibration_of(one)), LIMITS["thresholds"])
    assert finding.sentence == "only 25.4% of the clicks are in slices with 5 purchases"


def test_pinned_clicks_that_are_decided_otherwise_are_counted(later, calibration):
    people = [Canary("desktop / US", [1.0] * WIDTH, [], False)] * 3
    robots = [Canary("mobile / US", [0.0] * WIDTH, [], True)] * 4
    finding = candidate.canary(compared(later, calibration, canaries=[*people, *robots]), LIMITS["canary"])
    assert finding.holds is False
    assert finding.figures == {"people_marked": 1.0, "robots_freed": 1.0, "pinned": 7}
    lost = [Canary("desktop / US", [float("nan")] * WIDTH, [], False)]
    assert "have no score" in candidate.canary(compared(later, calibration, canaries=lost), LIMITS["canary"]).sentence
    older = [Canary("desktop / US", [1.0], [], False)]  # of another version of the features
    assert candidate.canary(compared(later, calibration, canaries=older), LIMITS["canary"]).holds is None


def test_a_model_that_takes_long_for_a_click_is_refused(later, calibration):
    class Slow(Scorer):
        def p_robot(self, X, categories=None):
            time.sleep(0.006)
            return super().p_robot(X)

    comparison = dataclasses.replace(compared(later, calibration), candidate=model_of(calibration, scorer=Slow()))
    assert candidate.latency(comparison, LIMITS["latency"]).holds is False


def test_a_model_of_other_slices_marketplaces_or_time_zones_is_refused_in_a_sentence(later, calibration):
    live = model_of(calibration)
    assert incompatible(live, live) is None
    foreign = model_of(calibration, keys=tuple((device, "FR") for device, _ in SLICES))
    assert "has thresholds for the slices of 0.0% of the clicks" in incompatible(foreign, live)
    one_more = model_of(calibration, keys=(*SLICES[:3], ("watch", "US")))
    assert "it does not know tv / US" in incompatible(one_more, live)
    other = dataclasses.replace(live, config=Config(kind="velocity", slices=("device", "logged_in")))
    assert "has slices by device, logged_in, live are slices by device, marketplace" in incompatible(other, live)
    moved = dataclasses.replace(live, timezones={"US": "Asia/Tokyo"})
    assert "takes US to lie in Asia/Tokyo" in incompatible(moved, live)
    comparison = dataclasses.replace(compared(later, calibration), candidate=foreign)
    assert failures(comparison) >= {"compatible"}


def test_the_velocity_rule_can_be_pinned_as_any_scorer(later, calibration):
    rule = VelocityRule.train(np.zeros((3, WIDTH), np.float32), NAMES)
    comparison = dataclasses.replace(compared(later, calibration), candidate=model_of(calibration, scorer=rule))
    assert candidate.latency(comparison, LIMITS["latency"]).holds
