"""Calls that torch's own CPU operators get wrong: the CPU path does not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import kernels
from kernels.pool2d import reference
from tests.kernels.cpu import short_rows

NOT_ZERO = {"MALLOC_PERTURB_": "128"}
"""glibc then fills memory as it is given out with the byte 0x7f: 3.4e38 in bfloat16."""


@pytest.fixture(scope="module")
def child() -> Iterator[subprocess.CompletedProcess[str]]:
    """The cases of short_rows.py in a process of their own: torch's convolution ends it on some of them."""
    if sys.platform != "linux":
        pytest.skip("memory is forbidden and filled by Linux's means")
    command = [sys.executable, "-m", short_rows.__name__]
    yield subprocess.run(command, env={**os.environ, **NOT_ZERO}, capture_output=True, text=True, timeout=300)


def test_short_rows_do_not_end_the_process(child: subprocess.CompletedProcess[str]) -> None:
    assert child.returncode == 0, f"exit code {child.returncode} after\n{child.stdout}\n{child.stderr[-2000:]}"


@pytest.mark.parametrize("name", short_rows.CASES)
def test_short_rows_are_right_whatever_the_memory_held(child: subprocess.CompletedProcess[str], name: str) -> None:
    found = [line for line in child.stdout.splitlines() if line.startswith(f"{name}: ")]
    assert found == [f"{name}: ok"] * 2 * len(short_rows.KINDS)


def test_short_rows_keep_torchs_form_and_errors() -> None:
    x, w = torch.ones(2, 3, 4, 1, dtype=torch.bfloat16), torch.ones(4, 3, 1, 1, dtype=torch.bfloat16)
    for form in (torch.contiguous_format, torch.channels_last):
        y = kernels.conv2d(x.contiguous(memory_format=form), w, stride=2)
        assert y.dtype is torch.bfloat16
        assert y.stride() == F.conv2d(x.contiguous(memory_format=form), w, stride=2).stride()
    for wrong in ({"stride": 2, "groups": 2}, {"stride": (2, 2, 2)}, {"stride": 2, "padding": -1}, {"stride": 2.0}):
        with pytest.raises(Exception) as theirs:
            F.conv2d(x, w, **wrong)
        with pytest.raises(type(theirs.value)):
            kernels.conv2d(x, w, **wrong)
    with pytest.raises(RuntimeError):
        kernels.conv2d(x, w.float(), stride=2)


class Convolutions(TorchDispatchMode):
    """The convolutions that torch is asked for: (width of the input, stride, padding, dilation), horizontal."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int, int, int]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note the call, and go on."""
        if function is torch.ops.aten.convolution.default:
            self.seen.append((args[0].shape[-1], args[3][-1], args[4][-1], args[5][-1]))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("name", [n for n in short_rows.CASES if n.startswith("dilated")])
def test_dilated_short_rows_are_padded_beforehand(name: str, dtype: torch.dtype) -> None:
    """torch writes beside its result there, which ends the process once in thousands of calls."""
    function, (x, w), options = short_rows.CASES[name]
    with Convolutions() as mode:
        getattr(kernels, function)(torch.ones(x, dtype=dtype), torch.ones(w, dtype=dtype), None, **options)
    assert mode.seen and all(width >= stride or not padding for width, stride, padding, dilation in mode.seen)


BLIND = [((1, 1, 1, 8), 2, 1, 1, 2), ((2, 3, 3, 9), (2, 3), (1, 2), 1, (4, 1)), ((3, 4, 7), (2, 4), 1, 1, (5, 2))]


@pytest.mark.parametrize("shape, window, stride, padding, dilation", BLIND, ids=str)
def test_windows_that_see_no_pixel(shape: Any, window: Any, stride: Any, padding: Any, dilation: Any) -> None:
    """torch's indices of them lie outside the plane, and its backward pass writes there."""
    x = torch.randn(shape, requires_grad=True)
    numbers = (window, stride, padding, dilation)
    y, indices = kernels.max_pool2d(x, *numbers, return_indices=True)
    want, where = reference.max_pool2d(x.detach(), *numbers, return_indices=True)
    assert torch.equal(y.double(), want) and torch.equal(indices, where) and bool((where < 0).all())
    assert torch.equal(kernels.max_pool2d(x, *numbers), y)
    y.backward(torch.ones_like(y))
    assert not x.grad.any()


def test_rows_that_no_window_sees() -> None:
    x = torch.randn(2, 3, 1, requires_grad=True)
    y, indices = kernels.max_pool1d(x, 2, 1, 1, 2, return_indices=True)
    assert bool((y == -torch.inf).all()) and bool((indices == -1).all())
    y.sum().backward()
    assert not x.grad.any()


def test_dilated_windows_that_see_some_pixels_are_torchs() -> None:
    x = torch.randn(2, 3, 6, 7)
    for function, t in (("max_pool2d", x), ("max_pool1d", x[:, :, 0])):
        ours, theirs = (getattr(m, function)(t, 3, 2, 1, 2, return_indices=True) for m in (kernels, F))
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
