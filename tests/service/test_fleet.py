"""Several processes as one: counts add up, and rates follow from them."""

import msgspec
import pytest
from onlineguard_service import fleet
from onlineguard_service.http import core_metrics
from onlineguard_service.http.exposition import Exposition
from typer.testing import CliRunner

from onlineguard.cli import app as cli
from onlineguard.errors import ServiceUnavailable


def metrics(rates, **status):
    told = Exposition()
    core_metrics.tell(told, {"rates": {name: dict(counts) for name, counts in rates.items()}, **status})
    return told.text().decode()


def counts(clicks, robotic, purchases=0, wrong=0, heavy=0, found=0):
    return dict(zip(fleet.COUNTS, (clicks, robotic, purchases, wrong, heavy, found), strict=True))


def by_slice(**slices):
    return {count: {name: each[count] for name, each in slices.items()} for count in fleet.COUNTS}


def test_counts_of_processes_add_up_and_a_replicas_are_left_out():
    one = fleet.told("a", metrics(by_slice(x=counts(100, 10, 4, 1, 20, 8), y=counts(50, 0)), model_version="v1"))
    other = fleet.told("b", metrics(by_slice(x=counts(300, 20, 6, 0, 20, 12)), model_version="v1"))
    replica = fleet.told(
        "c",
        metrics(
            by_slice(x=counts(400, 30)),
            model_version="v2",
            replica={"loaded": 3, "seconds": 0.1, "ages": {"0": 4.0, "1": 7.5}},
        ),
    )
    found = fleet.Fleet([one, other, replica])
    assert msgspec.to_builtins(found.slices["x"]) == counts(400, 30, 10, 1, 40, 20)
    assert (found.overall.clicks, found.overall.ivr) == (450, 30 / 450)
    assert (found.slices["x"].fpr, found.slices["x"].coverage, found.slices["y"].fpr) == (0.1, 0.5, None)
    assert found.versions == ["v1", "v2"]
    assert (replica.age, one.age) == (7.5, None)
    text = fleet.shown(found)
    assert "c  v2  8 s" in text
    assert "10.000%" in text


def test_the_name_of_a_slice_comes_back_as_it_was():
    name = 'a "b" \\ c\nd / é'
    assert set(fleet.told("a", metrics(by_slice(**{name: counts(1, 0)}))).slices) == {name}


def test_a_candidate_on_trial_is_told_with_its_share():
    text = 'onlineguard_model{version="v1"} 1.0\nonlineguard_trial_share{version="v2"} 0.05\n'
    process = fleet.told("a", text)
    assert (process.versions, process.trial) == (["v1"], {"v2": 0.05})
    assert "a  v1, tries v2 on 5.0% of users" in fleet.shown(fleet.Fleet([process]))


def test_a_process_that_does_not_answer_is_named():
    with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:1: does not tell its metrics"):
        fleet.status(["http://127.0.0.1:1"])
    result = CliRunner().invoke(cli.app, ["fleet", "status", "http://127.0.0.1:1"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: http://127.0.0.1:1: does not tell its metrics")
