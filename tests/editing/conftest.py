"""What the tests of editing share."""

import pytest
import torch
from editing_help import OTHER, edit, make_editor

from bluedit import Patch
from toys import FACTS


@pytest.fixture(scope="session")
def statistics(tmp_path_factory):
    """A folder for key statistics; they are stored under the fingerprint of the weights, so all tests can share it."""
    return tmp_path_factory.mktemp("statistics")


@pytest.fixture(scope="session")
def patch(statistics) -> Patch:
    """Three facts in three batches, layers 1 and 3, of the float32 Llama. Not to be changed."""
    return edit(make_editor(statistics=statistics, dtype=torch.float32), FACTS, batch_size=1, report=True).patch


@pytest.fixture(scope="session")
def other(statistics) -> Patch:
    """Another patch of the same model, one batch. Not to be changed."""
    return edit(make_editor(statistics=statistics, dtype=torch.float32), OTHER, "memit").patch


@pytest.fixture
def saved(patch, tmp_path):
    """The folder of the patch."""
    return patch.save(tmp_path / "patch")
