"""Two real services behind a router: together they answer, and know, what one service does that gets all events."""

import numpy as np
import pytest

from onlineguard.client import Client, Router
from tests.support.real import Service
from tests.support.served import environment as environment
from tests.support.served import frame as frame
from tests.support.served import model_folder as model_folder

SLICES, EVENTS = 6, 900  # fewer than the 1,024 after which a service first pools its slices


@pytest.fixture
def services(tmp_path, environment, model_folder):
    """One service, and two to divide the slices among."""
    started = []
    for name in ("one", "first", "second"):
        (tmp_path / name).mkdir()
        flags = ("--model", str(model_folder), "--n-features", "2")
        started.append(Service(tmp_path / name, environment, *flags))
    try:
        for service in started:
            service.begin()
        for service in started:
            service.wait(200)
        yield started
    finally:
        for service in started:
            service.kill()


@pytest.mark.slow
def test_two_services_answer_and_know_what_one_does_that_gets_all_events(services):
    rng = np.random.default_rng(0)
    x = rng.normal(5.0, 2.0, (EVENTS, 2))
    x[rng.random(EVENTS) < 0.02] *= 20.0
    x[rng.random(x.shape) < 0.02] = np.nan
    numbers = np.where(np.isnan(x), None, x.astype(object)).tolist()
    slices = [f"web-{i}" for i in rng.integers(SLICES, size=EVENTS)]
    events = [{"slice": slices[i], "x": numbers[i], "id": f"{i}", "ts": 1_700_000_000_000 + i} for i in range(EVENTS)]
    probes = [{"slice": f"web-{i}", "x": [4.0, at], "id": f"{at}"} for i in range(SLICES) for at in (4.0, 9.0, 99.0)]
    one, first, second = services
    with Client(one.url) as client, Router([first.url, second.url], batch=64) as router:
        answers = client.update(events)
        assert router.update(events) == answers
        assert sum(answer.anomalous for answer in answers) > 3
        assert router.score(probes) == client.score(probes)
        owners = [router.owner_of_slice(f"web-{i}") for i in range(SLICES)]
        for i, owner in enumerate(owners):
            alone, mine = client.slice(f"web-{i}", "events"), owner.slice(f"web-{i}", "events")
            assert mine == alone
            assert alone.events > 100
        assert len({owner.base_url for owner in owners}) == 2
        for service in (first, second):
            assert router.clients[service.url].slices().total == sum(o.base_url == service.url for o in owners)
