"""The gradient passes on real tensors: allocate, plan, launch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.common.layout import empty
from kernels.common.splits import partial_sums, reduce
from kernels.conv2d.batch import passes as batch
from kernels.conv2d.blocks import passes as blocks
from kernels.conv2d.common.arguments import (
    chunk,
    launch_gemm,
    numerics,
    planning_card,
    strides,
    tiles,
    window,
)
from kernels.conv2d.common.pack import both_innermost, channels_outermost, dense_channels_innermost
from kernels.conv2d.gather.dgrad import dgrad_kernel
from kernels.conv2d.gather.wgrad import wgrad_kernel
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.groups import passes as groups
from kernels.conv2d.plans.choose import plan
from kernels.conv2d.plans.plan import wgrad_tiles
from kernels.conv2d.pointwise import passes as pointwise
from kernels.conv2d.rows import passes as rows
from kernels.conv2d.strips import passes as strips
from kernels.conv2d.thin import passes as thin
from kernels.conv2d.thin.passes import per_split


def dgrad(dy: Tensor, w: Tensor, g: Conv2dGeometry, channels_last: bool) -> Tensor:
    """dx [n, c, h, w] from dy [n, k, p, q] and w [k, c / groups, r, s]."""
    dx = empty(dy, (g.n, g.c, g.h, g.w), channels_last)
    if dx.numel() == 0:
        return dx
    chosen = plan("dgrad", g, dy.element_size(), planning_card(dy, "dgrad", g))
    if chosen.tile is None:
        thin.dgrad(dy, w, dx, g)
        return dx
    if chosen.algorithm == "rows":
        rows.dgrad(dy, w, dx, g, chosen)
        return dx
    if chosen.algorithm == "blocks":
        blocks.dgrad(dy, w, dx, g, chosen)
        return dx
    if chosen.algorithm == "matmul":
        dx = pointwise.dgrad(dy, w, g, chosen)
        return dx if channels_last else channels_outermost(dx)
    if chosen.algorithm == "groups":
        dy, w = both_innermost(dy, w)
    elif chosen.packed or chosen.algorithm == "batch":
        dy, w = _packed_for_dgrad(dy, w)
    if chosen.algorithm == "batch":
        dx = batch.dgrad(dy, w, g, chosen)
        return dx if channels_last else channels_outermost(dx)
    if chosen.algorithm == "strips":
        dx = strips.dgrad(dy, w, g, chosen)
        return dx if channels_last else channels_outermost(dx)
    if chosen.algorithm == "groups":
        dx = dx if channels_last else empty(dx, dx.shape, True)
        groups.dgrad(dy, dense_channels_innermost(w), dx, g, chosen.tile)
        return dx if channels_last else channels_outermost(dx)
    if chosen.packed:
        dx = dx if channels_last else empty(dx, dx.shape, True)
    out = partial_sums(dx, chosen.splits) if chosen.splits > 1 else dx
    phase_pixels = g.n * math.ceil(g.h / g.stride[0]) * math.ceil(g.w / g.stride[1])
    phases = g.stride[0] * g.stride[1]
    operands = chunk(dy, w.transpose(0, 1) if w.dtype == torch.float32 else w) if chosen.packed else 1
    launch_gemm(
        dgrad_kernel,
        phases * g.groups * chosen.splits * tiles(phase_pixels, g.c_group, chosen.tile),
        chosen.tile,
        dy_ptr=dy,
        w_ptr=w,
        dx_ptr=out,
        n=g.n,
        h=g.h,
        w=g.w,
        c=g.c_group,
        p=g.p,
        q=g.q,
        splits=chosen.splits,
        **strides("dy", dy, "nkpq"),
        **strides("w", w, "kcrs"),
        stride_dx_split=dx.numel(),
        **strides("dx", dx, "nchw"),
        K=g.k_group,
        **window(g),
        STEP_H=g.stride[0] // math.gcd(g.stride[0], g.dilation[0]),
        STEP_W=g.stride[1] // math.gcd(g.stride[1], g.dilation[1]),
        SPLIT=chosen.splits > 1,
        CHUNK=operands,
        CHUNK_X=math.gcd(operands, g.c_group),
        **numerics(chosen.tf32x3, dy, w, dx),
    )
    if chosen.splits > 1:
        reduce(out, dx)
    return dx if channels_last or not chosen.packed else channels_outermost(dx)


def _packed_for_dgrad(dy: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Both with the axis innermost that tiles want: c in w, or k in float32, since TF32 takes no other order."""
    if w.dtype != torch.float32:
        return both_innermost(dy, w)
    dy, turned = both_innermost(dy, w.transpose(0, 1))
    return dy, turned.transpose(0, 1)


def wgrad(dy: Tensor, x: Tensor, g: Conv2dGeometry, channels_last: bool) -> Tensor:
    """dw [k, c / groups, r, s] from dy [n, k, p, q] and x [n, c, h, w]."""
    dw = empty(dy, (g.k, g.c_group, g.r, g.s), channels_last)
    pixels = g.n * g.p * g.q
    if dw.numel() == 0 or pixels == 0:
        return dw.zero_()
    chosen = plan("wgrad", g, dy.element_size(), planning_card(dy, "wgrad", g))
    if chosen.algorithm != "rows" and chosen.packed:
        dy, x = both_innermost(dy, x, dense=chosen.algorithm not in ("batch", "strips"))
    if chosen.tile is None:
        thin.wgrad(dy, x, dw, g, chosen.splits)
        return dw
    if chosen.algorithm == "blocks":
        blocks.wgrad(dy, x, dw, g, chosen)
        return dw
    partial = partial_sums(dw, chosen.splits)
    if chosen.algorithm == "matmul":
        pointwise.wgrad(dy, x, partial, g, chosen)
    elif chosen.algorithm == "groups":
        groups.wgrad(dy, x, dw, partial, g, chosen)
    elif chosen.algorithm == "rows":
        rows.wgrad(dy, x, dw, partial, g, chosen)
    elif chosen.algorithm == "batch":
        batch.wgrad(dy, x, dw, partial, g, chosen)
    elif chosen.algorithm == "strips":
        strips.wgrad(dy, x, dw, partial, g, chosen)
    else:
        launch_gemm(
            wgrad_kernel,
            chosen.splits * g.groups * wgrad_tiles(g, chosen.tile, chosen.packed),
            chosen.tile,
            dy_ptr=dy,
            x_ptr=x,
            dw_ptr=partial,
            pixels=pixels,
            pixels_per_split=per_split(pixels, chosen.splits, chosen.tile.block_k),
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
            FLAT=not chosen.packed,
            CHUNK=math.gcd(chunk(dy, x), g.k_group) if chosen.packed else 1,
            **numerics(chosen.tf32x3, dy, x, dw),
        )
    reduce(partial, dw)
    return dw
