"""A call seen before is replayed with its own data, and nothing of it is kept."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import kernels
from kernels.common.registration import Operator
from kernels.common.replay.learn import Pass
from kernels.common.signature import Memory, apart
from kernels.conv2d import autograd, autograd_dz, autograd_pool
from kernels.lenet import autograd as lenet_autograd
from kernels.lenet import lenet
from kernels.pool2d import autograd as pool_autograd
from tests.kernels.lenet.networks import Network
from tests.kernels.paths import Path
from tests.kernels.problems import STANDARD, Problem, conv, run

OPERATORS = [
    value
    for module in (autograd, autograd_dz, autograd_pool, pool_autograd, lenet_autograd)
    for value in vars(module).values()
    if isinstance(value, Operator)
]
WIDE = conv("packed, NCHW", (1, 32, 5, 5), (32, 32, 3, 3), padding=1)
THIN = conv("depthwise", (2, 4, 5, 5), (4, 1, 3, 3), groups=4)
PLAIN = conv("conv2d", (2, 3, 5, 5), (4, 3, 3, 3), padding=1)


@contextmanager
def nothing_new(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No pass may run as it is written inside the block."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("the pass ran as it is written")

    with monkeypatch.context() as patch:
        for operator in OPERATORS:
            patch.setattr(operator.run, "written", refuse)
        yield


@pytest.mark.parametrize("problem", [*STANDARD, WIDE, THIN], ids=str)
def test_a_replayed_call_reads_its_own_data(triton: Path, problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and every gradient, with and without autograd, equal to the bit."""

    def call(tensors: list[Tensor | None]) -> list[Tensor]:
        with torch.no_grad():
            y = problem.ours(*tensors)
        return [y, *run(problem.ours, tensors)]

    draws = [problem.tensors(triton.device) for _ in range(2)]
    call(draws[0])
    with nothing_new(monkeypatch):
        replayed = call(draws[1])
    with apart("unlearnt"):
        learnt = call(draws[1])
    for a, b in zip(replayed, learnt, strict=True):
        assert torch.equal(a, b) and a.stride() == b.stride() and a.dtype == b.dtype


def test_a_replayed_network_of_one_kernel(triton: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network("small", 2, side=16, padding=0)
    parameters, x = network.parameters(triton.device), torch.randn(2, 1, 16, 16, device=triton.device)
    dy = torch.randn(2, 10, device=triton.device)

    def call(x: Tensor) -> list[Tensor]:
        with torch.no_grad():
            scores = lenet(x, parameters, padding=0)
        return [scores, *torch.autograd.grad(lenet(x, parameters, padding=0), parameters, dy)]

    call(torch.zeros_like(x))
    with nothing_new(monkeypatch):
        replayed = call(x)
    with apart("unlearnt"):
        learnt = call(x)
    assert all(torch.equal(a, b) for a, b in zip(replayed, learnt, strict=True))


@pytest.mark.parametrize("case", ["no input channels", "strided bias", "weight in the input's memory", "empty batch"])
def test_passes_that_are_more_than_launches(triton: Path, case: str) -> None:
    """A fill, a copy, tensors that share memory: run as written every time, in the right order."""
    for i in range(3):
        x, w, b = (t + i for t in PLAIN.tensors(triton.device) if t is not None)
        if case == "no input channels":
            got = autograd.conv(x[:, :0], w[:, :0], b, (1, 1), (1,) * 4, (1, 1), 1, False, True)
            torch.testing.assert_close(got, b.relu()[:, None, None].expand_as(got))
            continue
        if case == "strided bias":
            b = torch.stack([b, b], 1).flatten()[::2]
        elif case == "weight in the input's memory":
            both = torch.cat([x.flatten(), w.flatten()])
            x, w = both[: x.numel()].view_as(x), both[x.numel() :].view_as(w)
        else:
            x = x[:0]
        got, want = kernels.conv2d_relu(x, w, b, padding=1), F.conv2d(x, w, b, padding=1).relu()
        torch.testing.assert_close(got, want)


def test_a_launch_before_something_else(triton: Path) -> None:
    """What is held back while a pass is learnt runs before the operator that ends the learning."""

    from tests.kernels.replay.doubling import double

    def run(x: Tensor) -> Tensor:
        y = torch.empty(8, device=x.device)
        double(x[8:], y)
        y.add_(1)
        double(y, y)
        return y

    learnt = Pass(run, 1)
    for _ in range(3):
        x = torch.randn(16, device=triton.device)
        assert torch.equal(learnt(x), 2 * (2 * x[8:] + 1))


def test_the_same_tensor_twice_and_then_two(triton: Path) -> None:
    x, y = torch.randn(2, 3, 3, 3, device=triton.device), torch.randn(2, 3, 3, 3, device=triton.device)
    for a, b in ((x, x), (x, y), (y, y)):
        torch.testing.assert_close(kernels.conv2d(a, b), F.conv2d(a, b))


def test_nothing_of_a_tensor_is_kept(triton: Path) -> None:
    x, w, b = (t.requires_grad_() for t in PLAIN.tensors(triton.device) if t is not None)
    for _ in range(3):
        y = kernels.conv2d_relu(x, w, b, padding=1)
        y.sum().backward()
    watched = [weakref.ref(t) for t in (x, w, b, y)]
    del x, w, b, y
    gc.collect()
    assert not any(ref() is not None for ref in watched)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Memory, "HEADS", 4)
    monkeypatch.setattr(Memory, "ENTRIES", 2)
    memory = Memory()
    for n in range(1, 12):
        for width in range(1, 5):
            memory.keep((n,), (torch.ones(1, 2), torch.ones(width)), (n, width))
            assert memory.find((n,), (torch.ones(1, 2), torch.ones(width))) == (n, width)
    assert len(memory._entries) <= 4 and all(len(entries) <= 2 for entries in memory._entries.values())
