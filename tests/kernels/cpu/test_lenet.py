"""The whole network in one call against the layers, in float64 and in torch."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import cpu
from kernels.cpu import lenet, native

SHAPES = [(6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,), (120, 400), (120,), (84, 120), (84,), (10, 84), (10,)]


def parameters(dtype: torch.dtype = torch.float32, classes: int = 10) -> list[Tensor]:
    """Ten parameters of usual size."""
    shapes = [*SHAPES[:8], (classes, 84), (classes,)]
    return [(torch.randn(s) / (s[0] if len(s) == 1 else torch.Size(s[1:]).numel()) ** 0.5).to(dtype) for s in shapes]


def reference(x: Tensor, p: list[Tensor], pool: str, padding: int) -> Tensor:
    """torch, layer by layer."""
    pooling: Any = F.max_pool2d if pool == "max" else F.avg_pool2d
    y = pooling(torch.relu(F.conv2d(x, p[0], p[1], padding=padding)), 2)
    y = pooling(torch.relu(F.conv2d(y, p[2], p[3])), 2).flatten(1)
    return F.linear(torch.relu(F.linear(torch.relu(F.linear(y, p[4], p[5])), p[6], p[7])), p[8], p[9])


def relative(a: Tensor, b: Tensor) -> float:
    """Error of a relative to b, in the norm."""
    return float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-30))


def gradients(function: Any, x: Tensor, p: list[Tensor], target: Tensor) -> tuple[Tensor, ...]:
    """Gradients of the cross-entropy."""
    leaves = [t.detach().requires_grad_() for t in p]
    return torch.autograd.grad(F.cross_entropy(function(x, leaves), target), leaves)


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 33])
@pytest.mark.parametrize("pool", ["max", "avg"])
def test_float32(isa: native.Kernels, pool: str, n: int) -> None:
    p, x, target = parameters(), torch.rand(n, 1, 28, 28), torch.randint(0, 10, (n,))
    assert cpu.describe("lenet", x, *p, pool=pool).tier == "compiled"
    p64, x64 = [t.double() for t in p], x.double()
    with torch.inference_mode():
        assert relative(lenet.forward(x, *p, pool=pool), reference(x64, p64, pool, 2)) < 1e-6
    ours = gradients(lambda x, p: lenet.forward(x, *p, pool=pool), x, p, target)
    exact = gradients(lambda x, p: reference(x, p, pool, 2), x64, p64, target)
    assert max(map(relative, ours, exact)) < 1e-5


@pytest.mark.parametrize("pool", ["max", "avg"])
def test_bfloat16(isa: native.Kernels, pool: str) -> None:
    n = 19
    p, x, target = parameters(torch.bfloat16), torch.rand(n, 1, 28, 28).bfloat16(), torch.randint(0, 10, (n,))
    p64, x64 = [t.double() for t in p], x.double()
    ours = gradients(lambda x, p: lenet.forward(x, *p, pool=pool).float(), x, p, target)
    eager = gradients(lambda x, p: reference(x, p, pool, 2).float(), x, p, target)
    exact = gradients(lambda x, p: reference(x, p, pool, 2), x64, p64, target)
    assert all(g.dtype is torch.bfloat16 for g in ours)
    for a, b, c in zip(ours, eager, exact, strict=True):
        assert relative(a, c) <= 2 * relative(b, c) + 4e-3


def test_32x32_images_without_padding_and_20_classes(isa: native.Kernels) -> None:
    p, x, target = parameters(classes=20), torch.rand(5, 1, 32, 32), torch.randint(0, 20, (5,))
    ours = gradients(lambda x, p: lenet.forward(x, *p, padding=0), x, p, target)
    exact = gradients(lambda x, p: reference(x, p, "max", 0), x.double(), [t.double() for t in p], target)
    assert max(map(relative, ours, exact)) < 1e-5


def test_ties_dead_units_and_nan_as_torch(isa: native.Kernels) -> None:
    p = [(t * 4).round() / 4 for t in parameters()]
    x, target = (torch.rand(9, 1, 28, 28) * 2).round(), torch.randint(0, 10, (9,))
    ours = gradients(lambda x, p: lenet.forward(x, *p), x, p, target)
    exact = gradients(lambda x, p: reference(x, p, "max", 2), x.double(), [t.double() for t in p], target)
    assert max(map(relative, ours, exact)) < 1e-5
    x[3, 0, 5, 6] = float("nan")
    assert torch.equal(lenet.forward(x, *p).isnan(), reference(x, p, "max", 2).isnan())


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_agree_and_repeat(compiled: native.Kernels, threads: int) -> None:
    p, x, target = parameters(), torch.rand(100, 1, 28, 28), torch.randint(0, 10, (100,))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        a, b = (gradients(lambda x, p: lenet.forward(x, *p), x, p, target) for _ in range(2))
    finally:
        torch.set_num_threads(before)
    exact = gradients(lambda x, p: reference(x, p, "max", 2), x.double(), [t.double() for t in p], target)
    assert max(map(relative, a, exact)) < 1e-5
    assert all(map(torch.equal, a, b))


def test_double_backward(compiled: native.Kernels) -> None:
    p, x = parameters(), torch.rand(3, 1, 28, 28)
    found = []
    for function, kind in (
        (lenet.forward, torch.float32),
        (lambda x, *p: reference(x, list(p), "max", 2), torch.float64),
    ):
        leaves = [t.to(kind).detach().requires_grad_() for t in p]
        first = torch.autograd.grad((function(x.to(kind), *leaves) ** 2).sum(), leaves, create_graph=True)
        found.append(torch.autograd.grad(sum((g**2).sum() for g in first), leaves))
    assert max(map(relative, *found)) < 1e-4


@pytest.mark.parametrize("change", ["input gradient", "float64", "empty batch", "other size", "strided weight"])
def test_what_the_kernel_does_not_do_runs_by_layers(compiled: native.Kernels, change: str) -> None:
    p, x = parameters(), torch.rand(4, 1, 28, 28)
    if change == "input gradient":
        x.requires_grad_()
    if change == "float64":
        p, x = [t.double() for t in p], x.double()
    if change == "empty batch":
        x = x[:0]
    if change == "other size":
        p[4], x = torch.randn(120, 16 * 6 * 6) / 24, torch.rand(4, 1, 32, 32)
    if change == "strided weight":
        p[4] = p[4].t().contiguous().t()
    assert cpu.describe("lenet", x, *p).tier == "torch"
    y = lenet.forward(x, *p)
    torch.testing.assert_close(y, reference(x, p, "max", 2), rtol=1e-5, atol=1e-5)
    if change == "input gradient":
        y.sum().backward()
        assert x.grad is not None and x.grad.abs().sum() > 0


def test_a_remembered_call_is_checked_anew(compiled: native.Kernels) -> None:
    """The same parameter objects with new memory, strides, dtype or values never run on what was seen before."""
    p, x = [torch.nn.Parameter(t) for t in parameters()], torch.rand(2, 1, 28, 28)

    def right() -> bool:
        kind = torch.float64
        return relative(lenet.forward(x, *p), reference(x.to(kind), [t.to(kind) for t in p], "max", 2)) < 1e-5

    with torch.no_grad():
        assert right() and right()
        p[0].mul_(-1.5)
        assert right()
        p[2].data = p[2].data.transpose(2, 3)
        assert right()
        p[4].data = torch.randn(120, 400) / 20
        assert right()
        p[6].data = torch._neg_view(p[6].data)
        assert right()
        for t in p:
            t.data = t.data.double()
        x = x.double()
        assert right()
    with pytest.raises(ValueError, match="median"):
        lenet.forward(x, *p, pool="median")


def test_a_module_that_uses_it_copies_and_pickles(compiled: native.Kernels) -> None:
    p, x = torch.nn.ParameterList(parameters()), torch.rand(2, 1, 28, 28)
    y = lenet.forward(x, *p)
    for twin in (copy.deepcopy(p), pickle.loads(pickle.dumps(p))):
        assert torch.equal(lenet.forward(x, *twin), y)
