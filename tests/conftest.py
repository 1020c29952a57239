"""Hypothesis profiles, JAX's strictness and the folder of real data, for every test."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.support.served"]  # a small model and clicks, for the tests of the service and its faults

CI = os.environ.get("CI") == "true"

# No deadline: the first example of a test pays for compiling its program.
settings.register_profile("local", deadline=None)
settings.register_profile(
    "ci", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci" if CI else "local")

# Read when JAX is first imported, also by the processes a test starts: a silent broadcast is a mistake.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real data that `ONLINEGUARD_DATA` names; skips without it, and fails where CI=true."""
    named = os.environ.get("ONLINEGUARD_DATA")
    if named and Path(named).is_dir():
        return Path(named)
    state = f"is {named!r}, which is no folder" if named else "is not set"
    reason = f"the environment variable ONLINEGUARD_DATA {state}; set it to the folder of real data to run this test"
    if CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
