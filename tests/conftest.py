"""Hypothesis profiles, JAX's strictness, the cache of programs and the folder of real data, for every test."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A small model and clicks, for the tests of the service and its faults; a browser for those of its page; and a service
# that is attacked.
pytest_plugins = ["tests.support.served", "tests.support.browser", "tests.support.attacked"]

CI = os.environ.get("CI") == "true"

# A few examples for whoever has changed a line; `pytest --hypothesis-profile ci` draws many, and the same every time.
# No deadline: the first example of a test pays for compiling its program.
settings.register_profile("fast", deadline=None, max_examples=20)
settings.register_profile(
    "ci",
    deadline=None,
    max_examples=60,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("few", deadline=None, max_examples=5)  # for other versions of what we depend on
settings.load_profile("fast")

# Both are read when JAX is first used, also by the processes a test starts. A silent broadcast is a mistake. What one
# test has compiled the next ones load, and no test writes into the cache folder of the user.
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ["ONLINEGUARD_COMPILATION_CACHE"] = str(Path(__file__).parents[1] / ".programs")


@pytest.fixture(scope="session", autouse=True)
def _programs_are_kept() -> None:
    from onlineguard.compilation import keep_programs

    keep_programs()


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
