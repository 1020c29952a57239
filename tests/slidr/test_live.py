"""The live watch: quiet while a model does as promised, and an alarm within the stated clicks where it does not."""

import numpy as np
import pytest
from onlineguard_service.journal.packing import pack, unpack

from onlineguard.records.versions import Promises, SlicePromise
from onlineguard.slidr.features import NAMES, WIDTH
from onlineguard.slidr.guardrails.distributions import promise_of
from onlineguard.slidr.guardrails.promises import promised
from onlineguard.slidr.live import LiveWatch
from onlineguard.slidr.model import Model, Span
from onlineguard.slidr.pipeline import Config, calibrate_model, prepare, purchasing, scores, slice_name, train_model
from onlineguard.slidr.simulation.simulator import simulate
from onlineguard.slidr.simulation.traffic import Traffic

DAY = 86_400_000
FEATURES = np.random.default_rng(0).normal(size=(4_096, WIDTH)).astype(np.float32)
EDGES = np.arange(1, 20) / 20


def promises(ivr=0.08, fpr=0.005):
    n = 10_000
    part = SlicePromise(
        clicks=n,
        robotic=int(n * ivr),
        purchases=2_000,
        robotic_purchases=int(2_000 * fpr),
        heavy=100,
        robotic_heavy=90,
        scores=[n // 20] * 20,
    )
    features = promise_of(FEATURES)
    return Promises(
        clicks_a_day=6_000.0,
        human_share=0.1,
        score_edges=EDGES.tolist(),
        slices={"a": part, "b": part},
        features=features,
    )


def run(watch, n, ivr, fpr=0.0, seed=0, at=0, X=FEATURES):
    """Alarms of n clicks, sixteen at a time, of which one in sixteen leads to a purchase."""
    rng = np.random.default_rng(seed)
    alarms = []
    for i in range(at, n, 16):
        rng = np.random.default_rng([seed, i])
        names = rng.choice(["a", "b"], 16).tolist()
        rows = rng.integers(0, len(X), 16)
        alarms += watch.clicks(names, rng.random(16, np.float32), (rng.random(16) < ivr).tolist(), X[rows])
        alarms += watch.purchase(names[0], bool(rng.random() < fpr))
    return alarms


def test_a_model_that_does_as_promised_raises_no_alarm():
    watch = LiveWatch(promises())
    assert run(watch, 60_000, 0.08, 0.005) == []
    assert max(watch.psi.values()) < 0.05


@pytest.mark.parametrize("seed", range(3))
def test_three_times_the_promised_rate_is_found_within_the_stated_clicks(seed):
    watch = LiveWatch(promises())
    alarms = run(watch, watch.within, 0.24, 0.005, seed)
    first = alarms[0]
    assert (first.figure, first.of, first.tells_of_the_model) == ("ivr", "", True)
    assert first.seen > first.limit == pytest.approx(2 * first.promised)


def test_purchases_that_are_called_robotic_raise_an_alarm_and_so_does_a_model_that_marks_nothing():
    assert "fpr" in {alarm.figure for alarm in run(LiveWatch(promises()), 60_000, 0.08, 0.03)}
    silent = run(LiveWatch(promises()), 30_000, 0.0)
    assert silent[0].figure == "ivr"
    assert silent[0].seen < silent[0].limit < silent[0].promised


def test_a_feature_that_stops_varying_raises_an_alarm_that_says_nothing_of_the_model():
    still = FEATURES.copy()
    still[:, NAMES.index("ip_clicks_1h")] = 0.0
    alarms = run(LiveWatch(promises()), 13_000, 0.08, X=still)
    assert [(alarm.figure, alarm.of, alarm.tells_of_the_model) for alarm in alarms] == [
        ("features", "ip_clicks_1h", False)
    ]


@pytest.mark.parametrize("cut", [16, 4_000, 11_984])
def test_a_watch_that_was_dumped_and_restored_goes_on_to_the_last_bit(cut):
    whole, part = LiveWatch(promises()), LiveWatch(promises())
    expected = run(whole, 20_000, 0.24, 0.05)
    found = run(part, cut, 0.24, 0.05)
    other = LiveWatch(promises())
    other.restore(unpack(pack(part.dump())))
    assert found + run(other, 20_000, 0.24, 0.05, at=cut) == expected
    assert pack(other.dump()) == pack(whole.dump())


@pytest.mark.slow
def test_twenty_simulated_days_raise_no_alarm_and_three_times_the_promised_rate_does_within_the_stated_clicks():
    traffic = Traffic(clicks=260_000, days=35)
    config = Config(kind="velocity", slices=("marketplace",))
    prepared = prepare(simulate(traffic, 6).clicks, config)
    begin = traffic.begin
    learned, later = prepared.between(begin + DAY, begin + 8 * DAY), prepared.between(begin + 8 * DAY, begin + 15 * DAY)
    scorer = train_model(prepared, learned, begin + 15 * DAY, config)
    known_at = begin + 15 * DAY
    thresholds = calibrate_model(prepared, scorer, later, known_at, config, budget=0.01, learned=learned)
    span = Span(begin + DAY, begin + 8 * DAY, known_at, int(learned.sum()), 1)
    model = Model(config, scorer, span, thresholds, span)
    told = promised(prepared, model, learned, later, known_at)
    live = np.flatnonzero(prepared.between(begin + 15 * DAY, begin + 35 * DAY))
    p_robot = scores(prepared, scorer)
    margin = p_robot - thresholds.of(prepared)
    names = [slice_name(prepared.slice_keys[i]) for i in prepared.slice_ids]
    bought = purchasing(prepared, begin + 35 * DAY)
    rate = sum(part.robotic for part in told.slices.values()) / sum(part.clicks for part in told.slices.values())

    def alarms(robotic, n):
        watch, found = LiveWatch(told), []
        for start in range(0, n, 64):
            rows = live[start : start + 64]
            found += watch.clicks(
                [names[row] for row in rows],
                p_robot[rows],
                robotic[rows].tolist(),
                prepared.X[rows],
            )
            for row in rows[bought[rows]]:
                found += watch.purchase(names[row], bool(robotic[row]))
        return found, watch.within

    assert alarms(margin > 0, len(live))[0] == []
    tripled = margin > np.quantile(margin[live], 1 - 3 * rate)
    found, within = alarms(tripled, len(live))
    assert found[0].tells_of_the_model
    assert found[0].clicks <= within
