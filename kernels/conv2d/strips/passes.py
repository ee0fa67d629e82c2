"""Launching the strips kernels: channels_last memory as TMA descriptors [n, h, w, c]."""

from __future__ import annotations

import math

from torch import Tensor

from kernels.conv2d.common import descriptors
from kernels.conv2d.common.arguments import launch_gemm, strides
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.plan import Plan
from kernels.conv2d.plans.strips import rows_of
from kernels.conv2d.strips.wgrad import strips_wgrad_kernel


def wgrad(dy: Tensor, x: Tensor, dw: Tensor, partial: Tensor, g: Conv2dGeometry, plan: Plan) -> None:
    """The partial sums of dw [k, c, 3, s] over `plan.splits` parts of the strips."""
    tile = plan.block
    launch_gemm(
        strips_wgrad_kernel,
        plan.splits * g.s * math.ceil(g.c / tile.block_m) * math.ceil(g.k / tile.block_n),
        tile,
        dy_desc=descriptors.strips(dy, tile.block_k, tile.block_n),
        x_desc=descriptors.strips(x, tile.block_k, tile.block_m),
        dw_ptr=partial,
        n=g.n,
        k=g.k,
        p=g.p,
        q=g.q,
        splits=plan.splits,
        stride_dw_split=dw.numel(),
        **strides("dw", dw, "kcrs"),
        C=g.c,
        S=g.s,
        PAD_H=g.padding[0],
        PAD_W=g.padding[2],
        DIL_W=g.dilation[1],
        ROWS=rows_of(g),
        WHOLE=g.q % tile.block_k == 0,
        PRECISION=descriptors.precision(dy.dtype, False),
    )
