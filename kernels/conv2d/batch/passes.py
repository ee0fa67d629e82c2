"""Launching the batch kernels: channels_last memory as TMA descriptors [h, w, n, c]."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from kernels.common.arithmetic import index
from kernels.common.splits import partial_sums, reduce
from kernels.conv2d.batch.dgrad import batch_dgrad_kernel
from kernels.conv2d.batch.fprop import batch_fprop_kernel
from kernels.conv2d.batch.fprop_pool import batch_fprop_pool_kernel
from kernels.conv2d.batch.wgrad import batch_wgrad_kernel
from kernels.conv2d.common import descriptors
from kernels.conv2d.common.arguments import launch_gemm, phase_steps, strides, window
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.box import Box, box_of
from kernels.conv2d.plans.plan import Plan


def fprop(x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor, g: Conv2dGeometry, relu: bool, plan: Plan) -> None:
    """y [n, k, p, q] in channels_last."""
    tile = plan.block
    box = box_of("fprop", g, tile.block_m, x.element_size())
    whole = plan.splits == 1
    out = y if whole else partial_sums(y, plan.splits)
    _launch(
        batch_fprop_kernel,
        plan.splits * box.count(g.p, g.q, g.n) * math.ceil(g.k / tile.block_n),
        plan,
        x,
        x_desc=descriptors.images(x, box.images, tile.block_k, box.rows, box.columns),
        w_desc=descriptors.filters(w, tile.block_n, tile.block_k),
        bias_ptr=w if bias is None else bias,
        y_desc=_parts(out, y, plan, box),
        n=g.n,
        h=g.h,
        w=g.w,
        k=g.k,
        p=g.p,
        q=g.q,
        splits=plan.splits,
        C=g.c,
        **window(g),
        HAS_BIAS=bias is not None and whole,
        RELU=relu and whole,
        DTYPE=descriptors.DTYPES[out.dtype],
        BOX_ROWS=box.rows,
        BOX_COLUMNS=box.columns,
    )
    if not whole:
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
    """y and its code [n, k, p // 2, q // 2] in channels_last; the code has no element if it is not wanted."""
    tile = plan.block
    n, k, p, q = y.shape
    _launch(
        batch_fprop_pool_kernel,
        p * q * math.ceil(n / tile.block_m) * math.ceil(k / tile.block_n),
        plan,
        x,
        x_desc=descriptors.images(x, tile.block_m, tile.block_k),
        w_desc=descriptors.filters(w, tile.block_n, tile.block_k),
        bias_ptr=w if bias is None else bias,
        y_desc=descriptors.images(y, tile.block_m, tile.block_n, result=True),
        code_ptr=code,
        n=n,
        k=k,
        p=p,
        q=q,
        C=g.c,
        **window(g),
        HAS_BIAS=bias is not None,
        AVERAGE=average,
        HAS_CODE=code.numel() > 0,
        DTYPE=descriptors.DTYPES[x.dtype],
        INDEX=index(y),
    )


def dgrad(dy: Tensor, w: Tensor, dx: Tensor, g: Conv2dGeometry, plan: Plan) -> None:
    """dx [n, c, h, w] in channels_last."""
    tile = plan.block
    box = box_of("dgrad", g, tile.block_m, dy.element_size())
    out = dx if plan.splits == 1 else partial_sums(dx, plan.splits)
    w_desc, turned = descriptors.filters_for_dgrad(w, tile.block_n, tile.block_k)
    _launch(
        batch_dgrad_kernel,
        plan.splits * box.count(g.h, g.w, g.n) * math.ceil(g.c / tile.block_n),
        plan,
        dy,
        dy_desc=descriptors.images(dy, box.images, tile.block_k, box.rows, box.columns),
        w_desc=w_desc,
        dx_desc=_parts(out, dx, plan, box),
        n=g.n,
        h=g.h,
        w=g.w,
        c=g.c,
        p=g.p,
        q=g.q,
        splits=plan.splits,
        K=g.k,
        **window(g),
        **phase_steps(g),
        TURNED=turned,
        DTYPE=descriptors.DTYPES[out.dtype],
        BOX_ROWS=box.rows,
        BOX_COLUMNS=box.columns,
    )
    if out is not dx:
        reduce(out, dx)


def wgrad(dy: Tensor, x: Tensor, dw: Tensor, partial: Tensor, g: Conv2dGeometry, plan: Plan) -> None:
    """The partial sums of dw [k, c, r, s] over `plan.splits` parts of the output pixels."""
    tile = plan.block
    _launch(
        batch_wgrad_kernel,
        plan.splits * g.r * g.s * math.ceil(g.k / tile.block_m) * math.ceil(g.c / tile.block_n),
        plan,
        dy,
        dy_desc=descriptors.images(dy, tile.block_k, tile.block_m),
        x_desc=descriptors.images(x, tile.block_k, tile.block_n),
        dw_ptr=partial,
        n=g.n,
        h=g.h,
        w=g.w,
        k=g.k,
        p=g.p,
        q=g.q,
        splits=plan.splits,
        stride_dw_split=dw.numel(),
        **strides("dw", dw, "kcrs"),
        C=g.c,
        **window(g),
    )


def _parts(out: Tensor, y: Tensor, plan: Plan, box: Box) -> Any:
    """Where a pass writes: [splits, h, w, n, c] over a result in channels_last, or over its partial sums."""
    n, c, h, w = y.shape
    steps = [n * h * w * c, w * c, c, h * w * c, 1]
    sides = [1, box.rows, box.columns, box.images, plan.block.block_n]
    return descriptors.boxes(out, [plan.splits, h, w, n, c], steps, sides, True)


def _launch(kernel: Any, grid: int, plan: Plan, operand: Tensor, **arguments: Any) -> None:
    launch_gemm(kernel, grid, plan.block, **arguments, PRECISION=descriptors.precision(operand.dtype, plan.tf32x3))
