"""Launching 1x1 convolutions as matrix products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels.common.splits import partial_sums, reduce
from kernels.conv2d.common import descriptors
from kernels.conv2d.common.arguments import launch_gemm, tiles
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.plan import Plan
from kernels.conv2d.pointwise.matmul import matmul_kernel


def fprop(x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor, g: Conv2dGeometry, relu: bool, plan: Plan) -> None:
    """y [n, k, h, w] in channels_last."""
    tile = plan.block
    whole = plan.splits == 1
    out = y if whole else partial_sums(y, plan.splits)
    a = descriptors.pixels(x, tile.block_m, tile.block_k)
    b = descriptors.filters(w, tile.block_n, tile.block_k)
    sizes = (g.n * g.h * g.w, g.k, g.c)
    _launch(a, b, bias if whole else None, out, sizes, plan, x.dtype, relu and whole, A_ROWS=True, B_ROWS=True)
    if not whole:
        reduce(out, y, bias, relu)


def dgrad(dy: Tensor, w: Tensor, dx: Tensor, g: Conv2dGeometry, plan: Plan) -> None:
    """dx [n, c, h, w] in channels_last."""
    tile = plan.block
    whole = plan.splits == 1
    out = dx if whole else partial_sums(dx, plan.splits)
    b, turned = descriptors.filters_for_dgrad(w, tile.block_n, tile.block_k)
    a = descriptors.pixels(dy, tile.block_m, tile.block_k)
    _launch(a, b, None, out, (g.n * g.h * g.w, g.c, g.k), plan, dy.dtype, False, A_ROWS=True, B_ROWS=turned)
    if not whole:
        reduce(out, dx)


def wgrad(dy: Tensor, x: Tensor, partial: Tensor, g: Conv2dGeometry, plan: Plan) -> None:
    """The partial sums of dw [k, c, 1, 1] over `plan.splits` parts of the pixels."""
    tile = plan.block
    a = descriptors.pixels(dy, tile.block_k, tile.block_m)
    b = descriptors.pixels(x, tile.block_k, tile.block_n)
    sizes = (g.k, g.c, g.n * g.h * g.w)
    _launch(a, b, None, partial, sizes, plan, dy.dtype, False, A_ROWS=False, B_ROWS=False)


def _launch(
    a: Any,
    b: Any,
    bias: Tensor | None,
    out: Tensor,
    sizes: tuple[int, int, int],
    plan: Plan,
    dtype: torch.dtype,
    relu: bool,
    **rows: bool,
) -> None:
    tile, (m, n, depth) = plan.block, sizes
    launch_gemm(
        matmul_kernel,
        plan.splits * tiles(m, n, tile),
        tile,
        a_desc=a,
        b_desc=b,
        bias_ptr=out if bias is None else bias,
        y_desc=descriptors.boxes(out, [plan.splits, m, n], [m * n, n, 1], [1, tile.block_m, tile.block_n], True),
        m=m,
        n=n,
        depth=depth,
        splits=plan.splits,
        **rows,
        HAS_BIAS=bias is not None,
        RELU=relu,
        DTYPE=descriptors.DTYPES[out.dtype],
        PRECISION=descriptors.precision(dtype, plan.tf32x3),
    )
