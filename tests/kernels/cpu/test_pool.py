"""The compiled pools against torch's, value by value, whatever the rule says about their use."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import cpu
from kernels.cpu import native, pool, pool_plan

SIZES = [(1, 1, 2, 2), (2, 3, 5, 7), (1, 17, 9, 33), (3, 6, 28, 28), (1, 2, 3, 70), (2, 40, 8, 6)]
WINDOWS = [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 1, 0), (2, 3, 1), (3, 3, 0), ((2, 3), (1, 2), (1, 1)), ((1, 3), 2, 0)]
DTYPES = [torch.float32, torch.bfloat16]


def special(x: Tensor, kind: str) -> Tensor:
    """x with ties, NaN or infinities."""
    x = (x * 2).round()
    if kind == "nan":
        x[torch.rand_like(x) < 0.2] = float("nan")
    if kind == "inf":
        x[torch.rand_like(x) < 0.6] = -float("inf")
        x[torch.rand_like(x) < 0.1] = float("inf")
    return x


def compare(kernels: native.Kernels, x: Tensor, window: pool_plan.Window) -> None:
    """Value, strides and gradient of one pool."""
    plan = pool_plan.make_plan(tuple(x.shape), x.stride(), x.dtype is torch.bfloat16, window, False, 1)
    if plan is None:
        pytest.skip("a shape that the kernels leave to torch")
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    w = window
    if w.average:
        want = F.avg_pool2d(theirs, w.kernel, w.stride, w.padding, w.ceil_mode, w.include_pad, w.divisor)
    else:
        want = F.max_pool2d(theirs, w.kernel, w.stride, w.padding, 1, w.ceil_mode)
    got = pool.Pool.apply(ours, plan, kernels)
    g = torch.randn_like(want).round() if not w.average else torch.randn_like(want)
    want.backward(g)
    got.backward(g)
    # Overlapping bfloat16 gradients: torch rounds after every addition, we once.
    tolerance = 3e-2 if x.dtype is torch.bfloat16 else 2e-6
    assert got.stride() == want.stride()
    exact = not w.average
    torch.testing.assert_close(got, want, equal_nan=True, rtol=0 if exact else 1e-2 if tolerance > 1e-2 else 1e-6,
                               atol=0 if exact else tolerance)  # fmt: skip
    assert ours.grad is not None and theirs.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, equal_nan=True, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("average", [False, True], ids=["max", "avg"])
def test_every_window_as_torch(isa: native.Kernels, average: bool, dtype: torch.dtype, channels_last: bool) -> None:
    tested = 0
    for size, (kernel, stride, padding), ceil_mode in itertools.product(SIZES, WINDOWS, [False, True]):
        window = pool_plan.Window(average, *map(pool_plan.pair, (kernel, stride, padding)), ceil_mode)
        x = special(torch.randn(size), "ties").to(dtype)
        x = x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        plan = pool_plan.make_plan(tuple(size), x.stride(), dtype is torch.bfloat16, window, False, 1)
        if plan is not None:
            compare(isa, x, window)
            tested += 1
    assert tested >= 40


@pytest.mark.parametrize("kind", ["ties", "nan", "inf"])
@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 1)], ids=["2x2", "3x3"])
@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "nhwc"])
def test_special_values(isa: native.Kernels, channels_last: bool, window: Any, kind: str) -> None:
    x = special(torch.randn(2, 19, 21, 37), kind)
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    compare(isa, x, pool_plan.Window(False, *map(pool_plan.pair, window)))


@pytest.mark.parametrize("include_pad, divisor", [(True, None), (False, None), (True, 5), (True, -3)])
def test_what_an_average_divides_by(isa: native.Kernels, include_pad: bool, divisor: int | None) -> None:
    for size, ceil_mode, kernel in itertools.product([(1, 3, 7, 18), (2, 5, 8, 9)], [False, True], [2, 3]):
        window = pool_plan.Window(True, *map(pool_plan.pair, (kernel, 2, 1)), ceil_mode, include_pad, divisor)
        compare(isa, torch.randn(size), window)
        compare(isa, torch.randn(size).contiguous(memory_format=torch.channels_last), window)


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_public_call_takes_the_kernels_and_equals_torch(compiled: native.Kernels, name: str) -> None:
    x = torch.randn(4, 8, 32, 32)
    assert cpu.describe(name, x, 2).tier == "compiled"
    for view in (x, x[:, :, 1:, :-3], x[::2].expand(2, 8, 32, 32), x.transpose(2, 3), x[0], x.new_empty(0, 8, 32, 32)):
        want, got = getattr(F, name)(view, 2), getattr(cpu, name)(view, 2)
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)
        assert got.stride() == want.stride()


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_strided_slices_equal_torch(uncompiled: None, name: str) -> None:
    x = torch.randn(4, 8, 32, 32)
    x[0, 0, 0, :4] = torch.tensor([float("nan"), 1, -float("inf"), float("inf")])
    assert cpu.describe(name, x, 2).tier == "strided"
    torch.testing.assert_close(getattr(cpu, name)(x, 2), getattr(F, name)(x, 2), equal_nan=True)
    with_gradient = x.clone().requires_grad_()
    assert cpu.describe(name, with_gradient, 2).tier == "torch"


@pytest.mark.parametrize("function", [lambda x: cpu.max_pool2d(x, 2), lambda x: cpu.avg_pool2d(x, 3, 2, 1)])
def test_double_backward(compiled: native.Kernels, function: Any) -> None:
    x = torch.randn(2, 4, 48, 48, requires_grad=True)
    grads = []
    for f in (function, lambda x: torch_twin(function, x)):
        y = (f(x) ** 3).sum()
        (first,) = torch.autograd.grad(y, x, create_graph=True)
        (second,) = torch.autograd.grad((first**2).sum(), x)
        grads.append((first, second))
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def torch_twin(function: Any, x: Tensor) -> Tensor:
    """The same call on float64, which torch runs."""
    result: Tensor = function(x.double()).float()
    return result


@pytest.mark.parametrize("arguments", [(0,), (2, 0), (2, 2, 2), (9,), ((2, 2, 2),), ("2",), (2.0,)])
def test_errors_are_torchs(compiled: native.Kernels, arguments: tuple[Any, ...]) -> None:
    x = torch.randn(8, 16, 8, 8)
    with pytest.raises(Exception) as theirs:
        F.max_pool2d(x, *arguments)
    with pytest.raises(type(theirs.value)):
        cpu.max_pool2d(x, *arguments)
