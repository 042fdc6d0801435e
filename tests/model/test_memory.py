"""Free memory, and chunks that are halved when it runs out."""

import logging

import pytest
import torch

from bluedit.errors import EditError
from bluedit.model.memory import fits, known_free_memory, run_chunks

CPU = torch.device("cpu")


def test_what_torch_holds_without_using_it_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _device: 200)
    assert known_free_memory(torch.device("cuda", 0)) == 1300
    assert known_free_memory(torch.device("meta")) is None


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 7 bytes"),
    RuntimeError("could not create a primitive"),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_chunks_are_halved_until_they_fit_and_stay_so(error, caplog):
    tried, done = [], []

    def run(chunk):
        tried.append(len(chunk))
        if len(chunk) > 2:
            raise error
        done.extend(chunk)

    run_chunks([[0, 1, 2, 3, 4, 5, 6], [7, 8, 9, 10], [11]], run, "facts", CPU)
    assert done == list(range(12))
    assert tried == [7, 4, 2, 2, 2, 1, 1, 1, 1, 1, 1]
    assert [r.getMessage() for r in caplog.records] == [
        "out of memory on cpu with 7 facts at once; trying again with half as many",
        "out of memory on cpu with 4 facts at once; trying again with half as many",
    ]


def test_one_that_does_not_fit_alone():
    def run(chunk):
        raise torch.OutOfMemoryError("CUDA out of memory.\nmore")

    with pytest.raises(EditError) as caught:
        run_chunks([[0, 1]], run, "facts", CPU)
    assert str(caught.value) == (
        "there is not enough memory on cpu for one of the facts alone (CUDA out of memory.); free memory there, "
        "load the model in bfloat16, or edit on a device with more memory"
    )


def test_other_errors_pass(caplog):
    def run():
        raise ValueError("no")

    with pytest.raises(ValueError, match=r"^no$"):
        fits(run, 4, "facts", CPU)
    with caplog.at_level(logging.WARNING):
        assert fits(lambda: None, 4, "facts", CPU)
    assert not caplog.records
