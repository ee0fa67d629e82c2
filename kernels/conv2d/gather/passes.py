"""Launching the gather: tiles of either layout, or of packed operands whose channels are adjacent."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.common.splits import partial_sums, reduce
from kernels.conv2d.common.arguments import (
    chunk,
    launch_gemm,
    numerics,
    per_split,
    phase_steps,
    strides,
    tiles,
    window,
)
from kernels.conv2d.gather.dgrad import dgrad_kernel
from kernels.conv2d.gather.fprop import fprop_kernel
from kernels.conv2d.gather.fprop_pool import fprop_pool_kernel
from kernels.conv2d.gather.wgrad import wgrad_kernel
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.plan import Plan, wgrad_tiles


def fprop(x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor, g: Conv2dGeometry, relu: bool, plan: Plan) -> None:
    """y [n, k, p, q], dense; x, w and y have adjacent channels if the plan is packed."""
    split = plan.splits > 1
    out = partial_sums(y, plan.splits) if split else y
    pixels = g.n * g.p * g.q
    launch_gemm(
        fprop_kernel,
        g.groups * plan.splits * tiles(pixels, g.k_group, plan.block),
        plan.block,
        x_ptr=x,
        w_ptr=w,
        bias_ptr=x if bias is None else bias,
        y_ptr=out,
        pixels=pixels,
        h=g.h,
        w=g.w,
        k=g.k_group,
        p=g.p,
        q=g.q,
        splits=plan.splits,
        **strides("x", x, "nchw"),
        **strides("w", w, "kcrs"),
        stride_y_split=y.numel(),
        **strides("y", y, "nkpq"),
        C=g.c_group,
        **window(g),
        HAS_BIAS=bias is not None and not split,
        RELU=relu and not split,
        FLAT=not plan.packed,
        SPLIT=split,
        CHUNK=chunk(x, w) if plan.packed else 1,
        CHUNK_Y=math.gcd(chunk(y), g.k_group) if plan.packed else 1,
        **numerics(plan.tf32x3, x, w, y),
    )
    if split:
        reduce(out, y, bias, relu)


def fprop_pool(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    y: Tensor,
    code: Tensor,
    g: Conv2dGeometry,
    average: bool,
    plan: Plan,
) -> None:
    """y and its code [n, k, p // 2, q // 2] of one layout, dense; the code has no element if it is not wanted."""
    pixels = g.n * y.shape[2] * y.shape[3]
    launch_gemm(
        fprop_pool_kernel,
        g.groups * tiles(pixels, g.k_group, plan.block),
        plan.block,
        x_ptr=x,
        w_ptr=w,
        bias_ptr=x if bias is None else bias,
        y_ptr=y,
        code_ptr=code,
        pixels=pixels,
        h=g.h,
        w=g.w,
        k=g.k_group,
        p=y.shape[2],
        q=y.shape[3],
        **strides("x", x, "nchw"),
        **strides("w", w, "kcrs"),
        **strides("y", y, "nkpq"),
        C=g.c_group,
        **window(g),
        HAS_BIAS=bias is not None,
        AVERAGE=average,
        HAS_CODE=code.numel() > 0,
        FLAT=not plan.packed,
        CHUNK=chunk(x, w) if plan.packed else 1,
        CHUNK_Y=math.gcd(chunk(y), g.k_group) if plan.packed else 1,
        **numerics(plan.tf32x3, x, w, y),
    )


def dgrad(dy: Tensor, w: Tensor, dx: Tensor, g: Conv2dGeometry, plan: Plan) -> None:
    """dx [n, c, h, w], dense; all have adjacent channels if the plan is packed (of w, in float32, those of dy)."""
    split = plan.splits > 1
    out = partial_sums(dx, plan.splits) if split else dx
    operands = chunk(dy, w.transpose(0, 1) if w.dtype == torch.float32 else w) if plan.packed else 1
    launch_gemm(
        dgrad_kernel,
        g.phases * g.groups * plan.splits * tiles(g.phase_pixels, g.c_group, plan.block),
        plan.block,
        dy_ptr=dy,
        w_ptr=w,
        dx_ptr=out,
        n=g.n,
        h=g.h,
        w=g.w,
        c=g.c_group,
        p=g.p,
        q=g.q,
        splits=plan.splits,
        **strides("dy", dy, "nkpq"),
        **strides("w", w, "kcrs"),
        stride_dx_split=dx.numel(),
        **strides("dx", dx, "nchw"),
        K=g.k_group,
        **window(g),
        **phase_steps(g),
        SPLIT=split,
        CHUNK=operands,
        CHUNK_X=math.gcd(operands, g.c_group),
        **numerics(plan.tf32x3, dy, w, dx),
    )
    if split:
        reduce(out, dx)


def wgrad(dy: Tensor, x: Tensor, dw: Tensor, partial: Tensor, g: Conv2dGeometry, plan: Plan) -> None:
    """The partial sums of dw over `plan.splits` parts of the pixels; dy is dense, and both have adjacent channels, if
    the plan is packed."""
    pixels = g.n * g.p * g.q
    launch_gemm(
        wgrad_kernel,
        plan.splits * g.groups * wgrad_tiles(g, plan.block, plan.packed),
        plan.block,
        dy_ptr=dy,
        x_ptr=x,
        dw_ptr=partial,
        pixels=pixels,
        pixels_per_split=per_split(pixels, plan.splits, plan.block.block_k),
        h=g.h,
        w=g.w,
        k=g.k_group,
        groups=g.groups,
        **strides("dy", dy, "nkpq"),
        **strides("x", x, "nchw"),
        stride_dw_split=dw.numel(),
        **strides("dw", dw, "kcrs"),
        P=g.p,
        Q=g.q,
        C=g.c_group,
        **window(g),
        FLAT=not plan.packed,
        CHUNK=math.gcd(chunk(dy, x), g.k_group) if plan.packed else 1,
        **numerics(plan.tf32x3, dy, x, dw),
    )
