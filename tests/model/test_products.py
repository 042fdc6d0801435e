"""Linear maps through oneDNN give what torch's own give, and only take the place of those they are meant for."""

import threading

import pytest
import torch
from torch.nn.functional import linear as plain
from transformers.pytorch_utils import Conv1D

from bluedit.model import products
from bluedit.model.products import fast_products, linear

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
CPU = torch.device("cpu")


@pytest.fixture
def counted(monkeypatch):
    """Fast products are on, and the sizes of those that were made are noted."""
    made = []
    block = products._block
    monkeypatch.setattr(products, "worthwhile", lambda: True)
    monkeypatch.setattr(products, "_block", lambda rows, *rest: made.append(len(rows)) or block(rows, *rest))
    return made


@pytest.mark.parametrize("shape", [(16,), (3, 7), (65,), (300,), (1024,), (2, 1100)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_product_and_its_gradients(shape, bias):
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(*shape, 40, generator=generator), torch.randn(24, 40, generator=generator)]
    inputs += [torch.randn(24, generator=generator)] if bias else []
    wanted = torch.randn(*shape, 24, generator=generator)
    found, expected = [], []
    for function, out in ((linear, found), (plain, expected)):
        own = [one.clone().requires_grad_(True) for one in inputs]
        result = function(*own)
        out += [result, *torch.autograd.grad((result * wanted).sum(), own)]
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_no_more_shapes_than_onednn_should_keep(counted):
    shapes = set()
    with torch.no_grad():
        for rows in range(16, 3000, 7):
            counted.clear()
            linear(torch.zeros(rows, 4), torch.zeros(2, 4))
            assert sum(counted) == rows
            for count in counted:
                step = next(step for most, step in products._STEPS if count <= most)
                shapes.add(-(-count // step) * step)
    assert len(shapes) <= 17 and max(shapes) == 1024


def test_what_is_replaced(counted):
    rows, weight = torch.randn(20, 256), torch.randn(256, 256)
    module, conv = torch.nn.Linear(256, 300), Conv1D(300, 256)
    with torch.no_grad(), fast_products(CPU, torch.float32):
        found = [module(rows), conv(rows), plain(rows, weight)]
        assert counted == [20, 20, 20]
        plain(rows[:15], weight), plain(rows.double(), weight.double()), plain(rows[:, :9], weight[:, :9])
        plain(rows.bfloat16(), weight.bfloat16())
        torch.addmm(weight, weight, weight)  # the first is no bias
        other = threading.Thread(target=lambda: plain(rows, weight))
        other.start(), other.join()
        assert counted == [20, 20, 20]
    expected = [module(rows), conv(rows), plain(rows, weight)]
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(found, expected, strict=True))
    assert len(counted) == 3


@pytest.mark.parametrize("how", [(CPU, torch.bfloat16), (torch.device("meta"), torch.float32)])
def test_where_nothing_is_replaced(how, counted):
    with torch.no_grad(), fast_products(*how):
        plain(torch.randn(20, 256), torch.randn(256, 256))
    assert not counted


@pytest.mark.parametrize(
    ("capability", "vendor", "due"),
    [("AVX512", "AuthenticAMD", True), ("AVX512", "GenuineIntel", False), ("AVX2", "AuthenticAMD", False)],
)
def test_it_depends_on_the_processor(capability, vendor, due, monkeypatch):
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(products.Path, "is_file", lambda _: True)
    monkeypatch.setattr(products.Path, "read_text", lambda *_, **__: f"vendor_id\t: {vendor}\n")
    assert products.worthwhile.__wrapped__() is due
