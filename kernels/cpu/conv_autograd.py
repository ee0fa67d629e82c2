"""The convolutions of conv_plan.py, run and differentiated."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.cpu import native, pool
from kernels.cpu.conv_plan import Plan, spreads
from kernels.cpu.guard import plain_gradient
from kernels.cpu.pool_plan import strides_of

Gradients: TypeAlias = "tuple[Tensor | None, Tensor | None, Tensor | None]"
Mask: TypeAlias = "tuple[bool, bool, bool]"


def address(tensor: Tensor | None) -> int | None:
    """Where a tensor's elements lie; None for None."""
    return None if tensor is None else tensor.data_ptr()


def run(
    kernels: native.Kernels, plan: Plan, x: Tensor, w: Tensor, b: Tensor | None, coded: bool
) -> tuple[Tensor, Tensor | None]:
    """The output and, when asked and pooled, its codes. Records no gradient."""
    if plan.kind == "pool":
        assert plan.after is not None
        z = F.conv2d(x, w, b, *plan.geometry)
        stride = strides_of(z.shape, plan.after.channels_last)
        if z.stride() != stride:
            z = pool.dense(z, stride)
        return pool.run_forward(kernels, plan.after, z, coded)
    y = torch.empty_strided(plan.shape, plan.stride, dtype=x.dtype)
    if plan.kind == "depthwise":
        native.check(kernels.depthwise_forward(plan.address, x.data_ptr(), w.data_ptr(), address(b), y.data_ptr()))
        return y, None
    code = torch.empty_strided(plan.shape, plan.stride, dtype=torch.uint8) if coded else None
    native.check(
        kernels.conv_forward(plan.address, x.data_ptr(), w.data_ptr(), address(b), y.data_ptr(), address(code))
    )
    return y, code


def convolution_backward(dz: Tensor, x: Tensor, w: Tensor, plan: Plan, mask: Mask) -> Gradients:
    """torch's gradients of a convolution, themselves differentiable."""
    stride, padding, dilation, groups = plan.geometry
    gradients: Gradients = torch.ops.aten.convolution_backward(
        dz, x, w, [w.shape[0]], stride, padding, dilation, False, (0, 0), groups, mask
    )
    return gradients


def aten_gradients(plan: Plan, x: Tensor, w: Tensor, b: Tensor | None, g: Tensor, mask: Mask) -> Gradients:
    """All gradients by torch's differentiable operators, from the inputs alone."""
    with torch.no_grad():
        z = F.conv2d(x, w, b, *plan.geometry)
        y = torch.relu(z) if plan.epilogue.relu else z
    dy = g if plan.epilogue.window is None else pool.aten_backward(g, y, plan.epilogue.window)
    dz = torch.ops.aten.threshold_backward(dy, y, 0) if plan.epilogue.relu else dy
    return convolution_backward(dz, x, w, plan, mask)


def depthwise_gradients(kernels: native.Kernels, plan: Plan, x: Tensor, w: Tensor, dz: Tensor, mask: Mask) -> Gradients:
    """Gradients of a depthwise convolution by the compiled kernels; torch's for the input of an unusual stride."""
    dx = dw = None
    assert plan.fields is not None
    if mask[0] and plan.transposed is not None:
        dx, _ = run(kernels, plan.transposed, dz, w.flip(2, 3), None, False)
    elif mask[0] and spreads(kernels.isa, plan.fields, plan.geometry):
        dx = torch.empty(x.shape, dtype=x.dtype)
        native.check(kernels.depthwise_input_gradient(plan.address, dz.data_ptr(), w.data_ptr(), dx.data_ptr()))
    elif mask[0]:
        dx = convolution_backward(dz, x, w, plan, (True, False, False))[0]
    if mask[1]:
        total = torch.empty(w.shape, dtype=torch.float32)
        native.check(kernels.depthwise_weight_gradient(plan.address, dz.data_ptr(), x.data_ptr(), total.data_ptr()))
        dw = total.to(w.dtype)
    return dx, dw, dz.sum((0, 2, 3)) if mask[2] else None


class Convolution(torch.autograd.Function):
    """Convolution, ReLU and pool as one node: saves the inputs, and one byte per output for the pool."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, plan: Plan, kernels: native.Kernels) -> Tensor:
        """The output of `plan`."""
        coded = plan.after is not None and (plan.epilogue.relu or not plan.after.window.average)
        y, code = run(kernels, plan, x, w, b, coded)
        ctx.plan, ctx.kernels = plan, kernels
        ctx.save_for_backward(x, w, b, code, y if plan.kind == "depthwise" and plan.epilogue.relu else None)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """By the compiled kernels; by torch's operators where the gradient is differentiated or transformed."""
        x, w, b, code, y = ctx.saved_tensors
        plan, kernels = ctx.plan, ctx.kernels
        mask = (ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.needs_input_grad[2])
        if torch.is_grad_enabled() or not plain_gradient(g):
            return (*aten_gradients(plan, x, w, b, g, mask), None, None)
        if plan.kind == "depthwise":
            dz = torch.ops.aten.threshold_backward(g, y, 0) if plan.epilogue.relu else g
            return (*depthwise_gradients(kernels, plan, x, w, dz.contiguous(), mask), None, None)
        n, k, p, q = plan.after.fields.n, plan.after.fields.c, plan.after.fields.h, plan.after.fields.w
        dz = pool.run_backward(kernels, plan.after, g, code, (n, k, p, q))
        return (*convolution_backward(dz, x, w, plan, mask), None, None)
