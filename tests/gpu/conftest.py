"""Tests of a GPU. Each runs on the CPU too, so that it is tried where there is no GPU: `pytest -m gpu` chooses CUDA alone."""

import pytest
import torch


@pytest.fixture(params=[pytest.param("cuda", marks=pytest.mark.gpu), "cpu"])
def device(request):
    """Where the edited model is; the references are always in float64 on the CPU."""
    return torch.device(request.param)
