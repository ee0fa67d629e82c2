"""Depthwise filters on awkward sizes: right to the last lane, nothing outside the tensors read into it or written."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.cpu import native
from kernels.cpu.conv_plan import Epilogue, Geometry, Plan, direct_plan, plan_of, spreads

GUARD = 64
SIDES = (1, 2, 3, 4, 6, 7, 8, 9, 14, 15, 16, 17, 18, 23, 31, 33, 36, 64)


def problems(size: int, stride: int) -> list[tuple[int, int, int, int, int]]:
    """(rows, columns, padding, channels, filters of a channel): every side once as rows and once as columns."""
    rng = random.Random(10 * size + stride)
    found = []
    for h in SIDES:
        w, padding = rng.choice(SIDES), rng.choice((0, 1, size // 2, size - 1, size + 2))
        for rows, columns in ((h, w), (w, h)):
            if min(rows, columns) + 2 * padding >= size:
                found.append((rows, columns, padding, rng.choice((1, 3)), rng.choice((1, 2))))
    return found


def guarded(t: Tensor) -> tuple[Tensor, Tensor]:
    """(A copy of t with NaNs before and behind it, all the memory of that copy.)"""
    memory = torch.full((t.numel() + 2 * GUARD,), float("nan"), dtype=t.dtype)
    view = memory[GUARD : GUARD + t.numel()].view(t.shape)
    view.copy_(t)
    return view, memory


def unharmed(memory: Tensor) -> bool:
    """Whether all that lies around the tensor is still NaN, and nothing in it is."""
    outside = torch.cat([memory[:GUARD], memory[-GUARD:]])
    return bool(outside.isnan().all()) and not bool(memory[GUARD:-GUARD].isnan().any())


def planned(x: Tensor, w: Tensor, stride: int, padding: int) -> Plan:
    """The depthwise plan of a call, whether the rule would take it or not."""
    p, q = ((n + 2 * padding - w.shape[2]) // stride + 1 for n in x.shape[2:])
    geometry = Geometry((stride, stride), (padding, padding), (1, 1), x.shape[1])
    shapes = (tuple(x.shape), tuple(w.shape), (p, q))
    return direct_plan("depthwise", *shapes, geometry, Epilogue(False), x.dtype is torch.bfloat16, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 5])
def test_right_inside_and_nothing_outside(isa: native.Kernels, size: int, stride: int, dtype: torch.dtype) -> None:
    for h, width, padding, channels, multiplier in problems(size, stride):
        x, _ = guarded(torch.randn(2, channels, h, width).to(dtype))
        w, _ = guarded((torch.randn(channels * multiplier, 1, size, size) / size).to(dtype))
        plan = planned(x, w, stride, padding)
        y, y_memory = guarded(torch.full(plan.shape, float("nan"), dtype=dtype))
        native.check(isa.depthwise_forward(plan.address, x.data_ptr(), w.data_ptr(), None, y.data_ptr()))
        g, _ = guarded(torch.randn(plan.shape).to(dtype))
        dw, dw_memory = guarded(torch.full(w.shape, float("nan")))
        native.check(isa.depthwise_weight_gradient(plan.address, g.data_ptr(), x.data_ptr(), dw.data_ptr()))
        assert unharmed(y_memory) and unharmed(dw_memory), (h, width, padding)

        leaves = [t.double().requires_grad_() for t in (x, w)]
        exact = F.conv2d(leaves[0], leaves[1], None, stride, padding, 1, channels)
        exact_dx, exact_dw = torch.autograd.grad(exact, leaves, g.double())
        rounding = 1e-5 if dtype is torch.float32 else 1e-2
        if plan.fields is not None and spreads(isa.isa, plan.fields, plan.geometry):
            dx, dx_memory = guarded(torch.full(x.shape, float("nan"), dtype=dtype))
            native.check(isa.depthwise_input_gradient(plan.address, g.data_ptr(), w.data_ptr(), dx.data_ptr()))
            assert unharmed(dx_memory), (h, width, padding)
            torch.testing.assert_close(dx.double(), exact_dx, rtol=rounding, atol=rounding)
        torch.testing.assert_close(y.double(), exact.detach(), rtol=rounding, atol=rounding)
        torch.testing.assert_close(dw.double(), exact_dw, rtol=1e-4, atol=1e-4)


def test_an_infinity_beyond_the_last_column_stays_out(isa: native.Kernels) -> None:
    """Columns that no output reads lie in a vector's idle lanes: 0 * inf would be NaN in the weight gradient."""
    for width, stride in ((10, 1), (10, 2), (37, 2)):
        x, w = torch.randn(1, 2, 9, width), torch.randn(2, 1, 3, 3)
        plan = planned(x, w, stride, 0)
        x[..., (plan.shape[-1] - 1) * stride + 3 :] = float("inf")
        g, dw = torch.randn(plan.shape), torch.empty(w.shape)
        native.check(isa.depthwise_weight_gradient(plan.address, g.data_ptr(), x.data_ptr(), dw.data_ptr()))
        assert dw.isfinite().all()


@pytest.mark.parametrize(
    ("planes", "side", "size", "kind"),
    [(960, 7, 3, "depthwise"), (16 * 960, 7, 3, "depthwise"), (16 * 960, 3, 3, None), (16 * 960, 7, 5, None)],
)
def test_the_measured_rule(compiled: native.Kernels, planes: int, side: int, size: int, kind: str | None) -> None:
    """Many planes of a few elements are torch's."""
    if compiled.isa != "avx512":
        pytest.skip("the rule of maps that are read without a band")
    x, w = torch.empty(planes // 960, 960, side, side), torch.empty(960, 1, size, size)
    plan = plan_of(
        x.shape, x.stride(), w.shape, w.stride(), False, 1, False,
        1, size // 2, 1, 960, True, None, None, None, 0, False,
    )  # fmt: skip
    assert (plan and plan.kind) == kind
