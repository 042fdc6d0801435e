"""No tensor is made on another device than those it meets, and none in float64 where the device has none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("second_device.py")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "recipe"),
    [
        ("narrow", "alphaedit-blue"),
        ("wide", "rect-seq-blue"),
        ("split", "rect-seq-blue"),
        ("split", "natural-joint"),
    ],
)
def test_an_edit_on_a_second_device(kind, recipe, tmp_path):
    pytest.importorskip("torch", "2.10")  # devices written in Python
    if kind == "split":
        pytest.importorskip("accelerate")
    command = [sys.executable, SCRIPT, tmp_path, kind, recipe]
    paths = os.pathsep.join([str(SCRIPT.parent.parent), *sys.path])
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=900, check=False, env=os.environ | {"PYTHONPATH": paths}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    apart = json.loads(done.stdout.splitlines()[-1])
    assert apart and max(apart) < 1e-3
