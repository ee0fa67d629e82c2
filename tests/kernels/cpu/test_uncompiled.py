"""The shortest way of a package without a build: torch's own results, and nothing taken that needs a closer look."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import kernels
from kernels.common import signature
from kernels.cpu import native, uncompiled

ROOT = Path(kernels.__file__).parent.parent
X, W, B = torch.randn(2, 3, 9, 8), torch.randn(4, 3, 3, 3), torch.randn(4)
TAKEN: dict[str, tuple[Any, tuple[Any, ...], Any]] = {
    "conv2d": (uncompiled.conv2d, (X, W, B, 1, 1, 1, 1), lambda: F.conv2d(X, W, B, 1, 1)),
    "conv2d same": (uncompiled.conv2d, (X, W, None, (1, 1), "same", 1, 1), lambda: F.conv2d(X, W, padding="same")),
    "conv2d_relu": (uncompiled.conv2d_relu, (X, W, B, 1, 0, 2, 1), lambda: F.conv2d(X, W, B, dilation=2).relu()),
    "max_pool2d": (
        uncompiled.max_pool2d,
        (X, 2, None, 1, 1, True, False),
        lambda: F.max_pool2d(X, 2, None, 1, 1, True),
    ),
    "max_pool2d indices": (
        uncompiled.max_pool2d,
        (X, (3, 2), 2, 0, (1, 1), False, True),
        lambda: F.max_pool2d(X, (3, 2), 2, return_indices=True),
    ),
    "avg_pool2d": (
        uncompiled.avg_pool2d,
        (X, 3, None, 1, True, False, None),
        lambda: F.avg_pool2d(X, 3, None, 1, True, False),
    ),
}
LEFT: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "a stride": (uncompiled.conv2d, (X, W, B, 2, 1, 1, 1)),
    "no tensor": (uncompiled.conv2d_relu, (3, W, B, 1, 1, 1, 1)),
    "another device": (uncompiled.conv2d, (X.to("meta"), W.to("meta"), None, 1, 1, 1, 1)),
    "a dilated pool": (uncompiled.max_pool2d, (X, 2, None, 1, 2, False, False)),
    "much to pool": (uncompiled.max_pool2d, (torch.zeros(1, 1, 100, 100), 2, None, 0, 1, False, False)),
    "much to average": (uncompiled.avg_pool2d, (torch.zeros(1, 1, 100, 100), 2, None, 0, False, True, None)),
}


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of tests no card is assumed and no plan forced."""
    monkeypatch.setattr(signature, "_choices", ())


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_taken_is_torchs(name: str) -> None:
    function, arguments, torchs = TAKEN[name]
    ours, theirs = function(*arguments), torchs()
    for a, b in zip(*((t,) if isinstance(t, Tensor) else t for t in (ours, theirs)), strict=True):
        assert torch.equal(a, b)
    for other in ("torch", "triton"):
        with kernels.backend(other):
            assert function(*arguments) is None
    with signature.apart("an assumed card"):
        assert function(*arguments) is None


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left(name: str) -> None:
    function, arguments = LEFT[name]
    assert function(*arguments) is None


def test_only_a_package_without_kernels_asks_it() -> None:
    code = (
        "from kernels.cpu import front, native, uncompiled; print(front.conv2d.ask is uncompiled.conv2d,"
        " front.avg_pool2d.ask is uncompiled.avg_pool2d, native.KERNELS is None)"
    )
    for choice in ("torch", "auto"):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
            env={native.VARIABLE: choice, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert len(set(done.stdout.split())) == 1, done.stdout
