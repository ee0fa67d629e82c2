"""Pooling on CPU tensors: the compiled kernels, else strided maxima, else torch's operators, by measured rule."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels import aten
from kernels.common.arguments import IntOrPair
from kernels.cpu import native
from kernels.cpu.guard import eager, plain
from kernels.cpu.pool_plan import (
    PAIR,
    SLICE_ELEMENTS,
    Plan,
    UnusualError,
    Window,
    avg_plan,
    layout,
    max_plan,
    sizes,
    small,
    strides_of,
)


def dense(x: Tensor, stride: tuple[int, ...]) -> Tensor:
    """The same values at these strides."""
    return torch.empty_strided(x.shape, stride, dtype=x.dtype).copy_(x)


def run_forward(kernels: native.Kernels, plan: Plan, x: Tensor, coded: bool) -> tuple[Tensor, Tensor | None]:
    """The pooled map and, when asked, its codes."""
    y = torch.empty_strided(plan.shape, plan.stride, dtype=x.dtype)
    code = torch.empty_strided(plan.shape, plan.stride, dtype=torch.uint8) if coded else None
    kernels.pool_forward(plan.address, x.data_ptr(), y.data_ptr(), None if code is None else code.data_ptr())
    return y, code


def run_backward(
    kernels: native.Kernels, plan: Plan, dy: Tensor, code: Tensor | None, shape: tuple[int, ...]
) -> Tensor:
    """The gradient of the pool's input, which has this shape, in the plan's memory format."""
    if dy.stride() != plan.stride:
        dy = dense(dy, plan.stride)
    dx = torch.empty_strided(shape, strides_of(shape, plan.channels_last), dtype=dy.dtype)
    kernels.pool_backward(plan.address, dy.data_ptr(), None if code is None else code.data_ptr(), dx.data_ptr())
    return dx


def aten_backward(g: Tensor, x: Tensor, window: Window) -> Tensor:
    """The same gradient by torch's differentiable operators."""
    w = window
    ops = torch.ops.aten
    if w.average:
        return ops.avg_pool2d_backward(  # type: ignore[no-any-return]
            g, x, w.kernel, w.stride, w.padding, w.ceil_mode, w.include_pad, w.divisor
        )
    with torch.no_grad():
        _, indices = ops.max_pool2d_with_indices(x, w.kernel, w.stride, w.padding, (1, 1), w.ceil_mode)
    return ops.max_pool2d_with_indices_backward(  # type: ignore[no-any-return]
        g, x, w.kernel, w.stride, w.padding, (1, 1), w.ceil_mode, indices
    )


class Pool(torch.autograd.Function):
    """A pool whose backward reads one byte per output element."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: Plan, kernels: native.Kernels) -> Tensor:
        """The pooled map; saves the input, which is alive anyway, for derivatives of the backward."""
        y, code = run_forward(kernels, plan, x, coded=not plan.window.average)
        ctx.plan, ctx.kernels = plan, kernels
        ctx.save_for_backward(x, code)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        """By the codes; by torch's operators where the gradient is itself differentiated or transformed."""
        x, code = ctx.saved_tensors
        if torch.is_grad_enabled() or not (eager() and plain(g)):
            return aten_backward(g, x, ctx.plan.window), None, None
        return run_backward(ctx.kernels, ctx.plan, g, code, x.shape), None, None


def _slices(x: Tensor, average: bool) -> Tensor | None:
    """A 2x2 pool with stride 2 by elementwise operators on strided slices, or None where torch's pool is as fast.

    Never under autograd: the derivative of torch.maximum splits ties in halves.
    """
    if x.dim() != 4 or x.shape[2] % 2 or x.shape[3] % 2 or x.numel() < SLICE_ELEMENTS:
        return None
    channels_last = layout(x.shape, x.stride())
    if channels_last is None or (channels_last and (average or x.shape[1] >= 64)):
        return None
    if average:
        if x.dtype is not torch.float32:
            return None
        rows = x[:, :, ::2] + x[:, :, 1::2]
        return (rows[..., ::2] + rows[..., 1::2]).mul_(0.25)
    rows = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])


def _apply(plan: Plan, x: Tensor, training: bool) -> Tensor:
    kernels = native.KERNELS
    assert kernels is not None
    if training:
        return Pool.apply(x, plan, kernels)  # type: ignore[no-any-return, no-untyped-call]
    return run_forward(kernels, plan, x, coded=False)[0]


def max_pool2d(
    input: Tensor,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """torch.nn.functional.max_pool2d on a CPU tensor."""
    if not (return_indices or small(input, False)) and dilation in (1, (1, 1)) and eager() and plain(input):
        training = input.requires_grad and torch.is_grad_enabled()
        if native.KERNELS is not None:
            try:
                plan = max_plan(
                    input.shape, input.stride(), input.dtype is torch.bfloat16, torch.get_num_threads(), training,
                    sizes(kernel_size), sizes(stride), sizes(padding), ceil_mode,
                )  # fmt: skip
            except UnusualError:
                plan = None
            if plan is not None:
                return _apply(plan, input, training)
        elif kernel_size in PAIR and stride in (None, *PAIR) and padding in (0, (0, 0)) and not training:
            pooled = _slices(input, average=False)
            if pooled is not None:
                return pooled
    return aten.max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def avg_pool2d(
    input: Tensor,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """torch.nn.functional.avg_pool2d on a CPU tensor."""
    if not small(input, True) and eager() and plain(input):
        training = input.requires_grad and torch.is_grad_enabled()
        if native.KERNELS is not None:
            try:
                plan = avg_plan(
                    input.shape, input.stride(), input.dtype is torch.bfloat16, torch.get_num_threads(), training,
                    sizes(kernel_size), sizes(stride), sizes(padding), ceil_mode, count_include_pad, divisor_override,
                )  # fmt: skip
            except UnusualError:
                plan = None
            if plan is not None:
                return _apply(plan, input, training)
        elif kernel_size in PAIR and stride in (None, *PAIR) and padding in (0, (0, 0)) and divisor_override is None:
            pooled = None if training else _slices(input, average=True)
            if pooled is not None:
                return pooled
    sizes_: Any = (kernel_size, stride, padding)
    return aten.avg_pool2d(input, *sizes_, ceil_mode, count_include_pad, divisor_override)
