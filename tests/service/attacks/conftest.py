"""The service that is attacked, and a good client of it."""

import pytest

from tests.support.attacked import asked


@pytest.fixture(scope="module")
def service(attacked):
    return attacked


@pytest.fixture(scope="module")
def client(service):
    with asked(service) as client:
        yield client
