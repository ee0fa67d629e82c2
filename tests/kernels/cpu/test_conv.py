"""The compiled convolutions against float64 and against torch, forward and backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import aten, cpu
from kernels.cpu import native

POOL = {"pool": "max"}
AVERAGE = {"pool": "avg"}
DIRECT: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "lenet": ((3, 1, 28, 28), (6, 1, 5, 5), {"padding": 2, **POOL}),
    "lenet average": ((3, 1, 28, 28), (6, 1, 5, 5), {"padding": 2, **AVERAGE}),
    "stem": ((1, 3, 37, 70), (13, 3, 3, 3), {"padding": 1}),
    "stem, 7x7, stride 2": ((2, 3, 45, 51), (9, 3, 7, 7), {"padding": 3, "stride": 2}),
    "stride 3, dilated": ((2, 2, 40, 41), (5, 2, 3, 2), {"padding": (2, 1), "stride": (2, 3), "dilation": (1, 2)}),
    "odd sizes, pooled": ((2, 4, 19, 23), (7, 4, 3, 3), {"padding": 1, **POOL}),
    "one column": ((1, 3, 9, 5), (1, 3, 3, 5), {}),
    "tall filter": ((1, 2, 300, 9), (3, 2, 30, 2), {"padding": (29, 1)}),
    "wide": ((1, 1, 6, 5000), (4, 1, 3, 3), POOL),
}
DEPTHWISE: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "3x3": ((2, 24, 29, 31), (24, 1, 3, 3), {"padding": 1, "groups": 24}),
    "3x3, stride 2": ((2, 8, 29, 40), (8, 1, 3, 3), {"padding": 1, "stride": 2, "groups": 8}),
    "5x5": ((1, 9, 28, 28), (9, 1, 5, 5), {"padding": 2, "groups": 9}),
    "multiplier 2": ((2, 5, 17, 19), (10, 1, 3, 3), {"padding": 1, "groups": 5}),
    "dilated": ((1, 4, 33, 35), (4, 1, 3, 3), {"padding": 2, "dilation": 2, "groups": 4}),
    "many bands": ((2, 3, 150, 140), (3, 1, 3, 3), {"padding": 1, "groups": 3}),
    "no padding": ((1, 6, 20, 90), (6, 1, 3, 5), {"groups": 6}),
    "5x5, stride 2": ((2, 6, 33, 47), (6, 1, 5, 5), {"padding": 2, "stride": 2, "groups": 6}),
    "narrow": ((2, 12, 14, 14), (12, 1, 3, 3), {"padding": 1, "groups": 12}),
    "narrow, stride 2": ((2, 7, 31, 27), (7, 1, 3, 3), {"padding": 1, "stride": 2, "groups": 7}),
    "narrow 5x5": ((1, 8, 16, 7), (8, 1, 5, 5), {"padding": 2, "groups": 8}),
    "narrow 5x5, stride 2": ((1, 8, 16, 13), (8, 1, 5, 5), {"padding": 2, "stride": 2, "groups": 8}),
    "7x7 map": ((2, 5, 7, 7), (5, 1, 3, 3), {"padding": 1, "groups": 5}),
    "14x14 map, stride 2": ((2, 5, 14, 14), (5, 1, 3, 3), {"padding": 1, "stride": 2, "groups": 5}),
    "unequal strides": ((1, 5, 24, 26), (5, 1, 3, 3), {"padding": 1, "stride": (2, 1), "groups": 5}),
}
ALL = {**{f"direct {k}": v for k, v in DIRECT.items()}, **{f"depthwise {k}": v for k, v in DEPTHWISE.items()}}


def call(module: Any, x: Tensor, w: Tensor, b: Tensor | None, options: dict[str, Any]) -> Tensor:
    """conv2d_relu_pool2d where the options name a pool, else conv2d_relu."""
    function = module.conv2d_relu_pool2d if "pool" in options else module.conv2d_relu
    result: Tensor = function(x, w, b, **options)
    return result


def problem(name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
    """Input, weight and bias of a named case."""
    x_shape, w_shape, options = ALL[name]
    fan_in = w_shape[1] * w_shape[2] * w_shape[3]
    w = torch.randn(w_shape) / fan_in**0.5
    return torch.randn(x_shape).to(dtype), w.to(dtype), torch.randn(w_shape[0]).to(dtype), options


def relative(a: Tensor, b: Tensor) -> float:
    """Error of a relative to b, in the norm."""
    a, b = a.detach(), b.detach()
    return float((a.double() - b.double()).norm() / b.double().norm().clamp_min(1e-30))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_forward(isa: native.Kernels, name: str, dtype: torch.dtype) -> None:
    x, w, b, options = problem(name, dtype)
    with torch.inference_mode():
        arguments = {k: v for k, v in options.items() if k != "pool"}
        plan = cpu.describe("conv2d_relu_pool2d" if "pool" in options else "conv2d_relu", x, w, b, **options)
        assert plan.tier == "compiled", plan
        got, eager = call(cpu, x, w, b, options), call(aten, x, w, b, options)
        exact = call(aten, x.double(), w.double(), b.double(), options)
        assert got.stride() == eager.stride() and got.dtype is dtype
        assert relative(got, exact) <= 2 * relative(eager, exact) + 1e-7
        bare = cpu.conv2d(x, w, None, **arguments)
        reference = F.conv2d(x.double(), w.double(), None, **arguments)
        assert relative(bare, reference) <= (1e-6 if dtype is torch.float32 else 4e-3)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gradients(isa: native.Kernels, name: str, dtype: torch.dtype) -> None:
    x, w, b, options = problem(name, dtype)
    found = []
    g = None
    for module, kind in ((cpu, dtype), (aten, dtype), (aten, torch.float64)):
        leaves = [t.to(kind).detach().requires_grad_() for t in (x, w, b)]
        y = call(module, leaves[0], leaves[1], leaves[2], options)
        g = torch.randn_like(y) if g is None else g
        found.append(torch.autograd.grad(y, leaves, g.to(kind)))
    for ours, eager, exact in zip(*found, strict=True):
        floor = 1e-6 if dtype is torch.float32 else 2e-2
        assert relative(ours, exact) <= 2 * relative(eager, exact) + floor


@pytest.mark.parametrize("name", [*(f"direct {k}" for k in ("lenet", "stem")), *(f"depthwise {k}" for k in DEPTHWISE)])
def test_nan_and_infinity_come_out_where_torchs_do(isa: native.Kernels, name: str) -> None:
    x, w, b, options = problem(name, torch.float32)
    x[0, 0, 3, 4], x[0, 0, -1, -1] = float("nan"), float("inf")
    got, want = call(cpu, x, w, b, options), call(aten, x, w, b, options)
    assert torch.equal(got.isnan(), want.isnan()) and got.isnan().any()
    assert torch.equal(got == float("inf"), want == float("inf"))


@pytest.mark.parametrize("pool", [None, "max", "avg"])
@pytest.mark.parametrize("layouts", ["nchw", "nhwc input", "nhwc weight"])
def test_many_channels_by_torchs_convolution(isa: native.Kernels, layouts: str, pool: str | None) -> None:
    x, w, b = torch.randn(2, 32, 20, 22), torch.randn(40, 32, 3, 3) / 17, torch.randn(40)
    if layouts == "nhwc input":
        x = x.contiguous(memory_format=torch.channels_last)
    if layouts == "nhwc weight":
        w = w.contiguous(memory_format=torch.channels_last)
    options: dict[str, Any] = {"padding": 1} if pool is None else {"padding": 1, "pool": pool}
    found = []
    for module in (cpu, aten):
        leaves = [t.clone().requires_grad_() for t in (x, w, b)]
        y = call(module, leaves[0], leaves[1], leaves[2], options)
        found.append((y, *torch.autograd.grad((y**2).sum(), leaves)))
        assert y.stride() == found[0][0].stride()
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pool", [{"pool_kernel_size": 3, "pool_stride": 2, "pool_padding": 1}, {"ceil_mode": True}])
def test_other_pools(isa: native.Kernels, pool: dict[str, Any]) -> None:
    x, w = torch.randn(2, 3, 41, 43), torch.randn(16, 3, 3, 3) / 5
    for name in ("max", "avg"):
        options = {"padding": 1, "pool": name, **pool}
        leaves = [t.clone().requires_grad_() for t in (x, w)]
        ours, theirs = (call(m, leaves[0], leaves[1], None, options) for m in (cpu, aten))
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        g = torch.randn_like(ours)
        for a, b in zip(torch.autograd.grad(ours, leaves, g), torch.autograd.grad(theirs, leaves, g), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["direct lenet", "direct lenet average", "depthwise 3x3"])
def test_double_backward(compiled: native.Kernels, name: str) -> None:
    x, w, b, options = problem(name, torch.float32)
    found = []
    for module, kind in ((cpu, torch.float32), (aten, torch.float64)):
        leaves = [t.to(kind).detach().requires_grad_() for t in (x, w, b)]
        y = call(module, leaves[0], leaves[1], leaves[2], options)
        first = torch.autograd.grad((y**3).sum(), leaves, create_graph=True)
        found.append((*first, *torch.autograd.grad(sum((g**2).sum() for g in first), leaves)))
    for ours, exact in zip(*found, strict=True):
        assert relative(ours, exact) < 1e-5


@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, False), (False, False, True)])
def test_any_subset_of_gradients(compiled: native.Kernels, wanted: tuple[bool, ...]) -> None:
    for name in ("direct lenet", "depthwise 3x3"):
        x, w, b, options = problem(name, torch.float32)
        leaves = [t.requires_grad_(want) for t, want in zip((x, w, b), wanted, strict=True)]
        call(cpu, leaves[0], leaves[1], leaves[2], options).sum().backward()
        assert [t.grad is not None for t in leaves] == list(wanted)


@pytest.mark.parametrize(
    "x, w, options",
    [
        ((2, 3, 8, 8), (4, 2, 3, 3), {}),
        ((2, 3, 8, 8), (4, 3, 9, 9), {}),
        ((2, 3, 8, 8), (4, 3, 3, 3), {"padding": -1}),
        ((2, 3, 8, 8), (4, 3, 3, 3), {"stride": 0}),
        ((2, 3, 8, 8), (4, 3, 3, 3), {"padding": "full"}),
        ((2, 3, 8, 8), (4, 3, 3, 3), {"padding": "same", "stride": 2}),
        ((2, 4, 8, 8), (5, 1, 3, 3), {"groups": 4}),
        ((2, 3, 8, 8), (4, 3, 3, 3), {"stride": 1.5}),
        ((1, 1, 2**31, 2**31), (1, 1, 3, 3), {"padding": 1}),
    ],
)
def test_errors_are_torchs(compiled: native.Kernels, x: Any, w: Any, options: dict[str, Any]) -> None:
    inputs = (torch.zeros(1).expand(x) if x[-1] > 99 else torch.randn(x), torch.randn(w))
    with pytest.raises(Exception) as theirs:
        aten.conv2d_relu(*inputs, None, **options)
    with pytest.raises(type(theirs.value)):
        cpu.conv2d_relu(*inputs, None, **options)


def test_huge_output_is_a_clean_error(compiled: native.Kernels) -> None:
    """An output that no memory holds: torch's allocator says so before any kernel runs."""
    with pytest.raises(RuntimeError, match=r"memory|alloc|overflow"):
        cpu.conv2d_relu(torch.zeros(1, 1, 8, 8), torch.zeros(4, 1, 3, 3), padding=2**21)


def test_mismatched_tensors_raise_as_in_torch(compiled: native.Kernels) -> None:
    x, w = torch.randn(2, 3, 16, 16), torch.randn(4, 3, 3, 3)
    for b in (torch.randn(5), torch.randn(4).double()):
        with pytest.raises(RuntimeError):
            cpu.conv2d_relu(x, w, b)
    with pytest.raises(RuntimeError):
        cpu.conv2d_relu(x, w.double())
