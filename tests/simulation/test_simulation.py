"""The laws hold in simulated worlds, a world is repeated by its seed, and the laws find bugs that are planted."""

import pytest
from onlineguard_service.entries import Options
from onlineguard_service.models import Models

from tests.simulation.deployment import Deployment, LawBroken, simulated, summary
from tests.simulation.faults import NONE, Faults
from tests.simulation.kinds import Real
from tests.simulation.mutations import MUTATIONS
from tests.support.shards import OPTIONS, records


@pytest.fixture(scope="module")
def models(model_folder, other_folder, tmp_path_factory):
    kept = Models(tmp_path_factory.mktemp("models"))
    kept.first, kept.second = kept.put(model_folder).version, kept.put(other_folder).version
    return kept


def test_the_laws_hold_and_the_same_seed_repeats_the_same_world():
    faults = Faults(kill=1.0, freeze=2.0, rescale=2.0, move=0.5, failover=2.0)
    one, other = (simulated(Deployment(3, 3_000, 12, faults, rate=150.0)) for _ in range(2))
    assert one.laws.records > 1_000
    assert min(one.counts.get(name, 0) for name in ("kill", "freeze", "rescale", "move", "failover")) > 0
    assert (summary(one), one.world.trace()) == (summary(other), other.world.trace())
    assert one.broker.records == other.broker.records
    assert [each.heads for each in one.laws.references] == [each.heads for each in other.laws.references]


def test_a_law_that_is_broken_tells_the_seed_the_step_the_last_events_and_the_command():
    plant, faults = MUTATIONS["a partition is read on one record too late"]
    with plant(), pytest.raises(LawBroken) as told:
        simulated(Deployment(5, 3_000, 12, faults))
    assert "outputs are there once, in order, and right: partition" in str(told.value)
    assert "w1 starts" in str(told.value)
    assert "python -m tests.simulation --seed 5 --steps 3000 --shards 12" in str(told.value)


def test_without_faults_nothing_is_applied_twice():
    calm = simulated(Deployment(1, 2_000, 6, NONE))
    applied = sum(each.records for each in calm.progress)
    assert applied == calm.laws.records > 500


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
def test_the_laws_find_a_bug_that_is_planted(name):
    plant, faults = MUTATIONS[name]
    for seed in range(4):
        try:
            with plant():
                simulated(Deployment(seed, 12_000, 12, faults, rate=150.0))
        except LawBroken as broken:
            print(broken)
            return
    pytest.fail(f"no law is broken, though {name}")


@pytest.mark.slow
def test_the_laws_hold_of_real_guards(models, clicks):
    streams = [records(700, seed, clicks[40 * seed : 40 * seed + 40], slices=6) for seed in range(4)]
    faults = Faults(kill=1.5, freeze=4.0, rescale=3.0, move=1.0, clock=2.0, failover=10.0, model=4.0)
    kind = Real(models, (models.first, models.second), Options(**OPTIONS), streams)
    held = simulated(Deployment(2, 2_500, len(streams), faults, 60.0, kind))
    assert min(held.counts.get(name, 0) for name in ("kill", "failover", "model", "move")) > 0
    kinds = {record.kind for given in held.broker.records for record in given}
    assert kinds == {"events", "clicks", "labels", "control", "sample", "pool"}
