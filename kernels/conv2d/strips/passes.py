"""Launching the strips kernels: channels_last memory as TMA descriptors [n, h, w, c]."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from kernels.common.arithmetic import index
from kernels.conv2d.common import descriptors
from kernels.conv2d.common.arguments import launch_gemm, strides
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.plan import Plan
from kernels.conv2d.plans.strips import columns_of, rows_of, strips_count
from kernels.conv2d.strips.fprop import strips_fprop_kernel, strips_fprop_pool_kernel
from kernels.conv2d.strips.wgrad import strips_wgrad_kernel


def fprop(x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor, g: Conv2dGeometry, relu: bool, plan: Plan) -> None:
    """y [n, k, p, q] in channels_last."""
    w_desc = descriptors.filters(w, plan.block.block_n, plan.block.block_k)
    _fprop(x, w_desc, bias, y, g, plan, {"BACK": False, "SUMMED": True, "RELU": relu})


def dgrad(dy: Tensor, w: Tensor, dx: Tensor, g: Conv2dGeometry, plan: Plan) -> None:
    """dx [n, c, h, w] in channels_last."""
    w_desc, turned = descriptors.filters_for_dgrad(w, plan.block.block_n, plan.block.block_k)
    _fprop(dy, w_desc, None, dx, g.turned, plan, {"BACK": True, "SUMMED": turned, "RELU": False})


def _fprop(
    x: Tensor, w_desc: Any, bias: Tensor | None, y: Tensor, g: Conv2dGeometry, plan: Plan, flags: dict[str, bool]
) -> None:
    tile = plan.block
    columns = columns_of(g.n, g.q, tile.block_m)
    images = tile.block_m // columns
    launch_gemm(
        strips_fprop_kernel,
        strips_count(g.n, g.p, g.q, tile.block_m) * math.ceil(g.k / tile.block_n),
        tile,
        x_desc=descriptors.strips(x, columns, tile.block_k, images),
        w_desc=w_desc,
        bias_ptr=w_desc.base if bias is None else bias,
        y_desc=descriptors.strips(y, columns, tile.block_n, images, result=True),
        k=g.k,
        p=g.p,
        q=g.q,
        **_window(g),
        COLUMNS=columns,
        **flags,
        HAS_BIAS=bias is not None,
        DTYPE=descriptors.DTYPES[y.dtype],
        PRECISION=descriptors.precision(x.dtype, False),
    )


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
    columns = columns_of(n, 2 * q, tile.block_m)
    images = tile.block_m // columns
    launch_gemm(
        strips_fprop_pool_kernel,
        strips_count(n, 2 * p, 2 * q, tile.block_m) * math.ceil(k / tile.block_n),
        tile,
        x_desc=descriptors.strips(x, columns, tile.block_k, images),
        w_desc=descriptors.filters(w, tile.block_n, tile.block_k),
        bias_ptr=w if bias is None else bias,
        y_desc=descriptors.strips(y, columns // 2, tile.block_n, images, result=True),
        code_ptr=code,
        n=n,
        k=k,
        p=p,
        q=q,
        **_window(g),
        COLUMNS=columns,
        HAS_BIAS=bias is not None,
        AVERAGE=average,
        HAS_CODE=code.numel() > 0,
        DTYPE=descriptors.DTYPES[y.dtype],
        INDEX=index(y),
        PRECISION=descriptors.precision(x.dtype, False),
    )


def _window(g: Conv2dGeometry) -> dict[str, int]:
    """What of the window a kernel of three rows and stride 1 must know."""
    return {"C": g.c, "S": g.s, "PAD_H": g.padding[0], "PAD_W": g.padding[2], "DIL_W": g.dilation[1]}


def wgrad(dy: Tensor, x: Tensor, dw: Tensor, partial: Tensor, g: Conv2dGeometry, plan: Plan) -> None:
    """The partial sums of dw [k, c, 3, s] over `plan.splits` parts of the strips."""
    tile = plan.block
    columns = columns_of(g.n, g.q, tile.block_k)
    images = tile.block_k // columns
    launch_gemm(
        strips_wgrad_kernel,
        plan.splits * g.s * math.ceil(g.c / tile.block_m) * math.ceil(g.k / tile.block_n),
        tile,
        dy_desc=descriptors.strips(dy, columns, tile.block_n, images),
        x_desc=descriptors.strips(x, columns, tile.block_m, images),
        dw_ptr=partial,
        n=g.n,
        k=g.k,
        p=g.p,
        q=g.q,
        splits=plan.splits,
        stride_dw_split=dw.numel(),
        **strides("dw", dw, "kcrs"),
        **_window(g),
        ROWS=rows_of(g),
        COLUMNS=columns,
        WHOLE=g.q % columns == 0,
        PRECISION=descriptors.precision(dy.dtype, False),
    )
