"""What the tests of editing share."""

import pytest


@pytest.fixture(scope="session")
def statistics(tmp_path_factory):
    """A folder for key statistics; they are stored under the fingerprint of the weights, so all tests can share it."""
    return tmp_path_factory.mktemp("statistics")
