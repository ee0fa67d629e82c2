"""The gradient passes on real tensors: plan, allocate, and leave the rest to the plan's algorithm."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.common.layout import empty
from kernels.common.splits import partial_sums, reduce
from kernels.conv2d.batch import passes as batch
from kernels.conv2d.blocks import passes as blocks
from kernels.conv2d.common.arguments import planning_card
from kernels.conv2d.common.pack import both_innermost, channels_outermost, dense_channels_innermost
from kernels.conv2d.gather import passes as gather
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.groups import passes as groups
from kernels.conv2d.plans.choose import plan
from kernels.conv2d.pointwise import passes as pointwise
from kernels.conv2d.rows import passes as rows
from kernels.conv2d.strips import passes as strips
from kernels.conv2d.thin import passes as thin


def dgrad(dy: Tensor, w: Tensor, g: Conv2dGeometry, channels_last: bool) -> Tensor:
    """dx [n, c, h, w] from dy [n, k, p, q] and w [k, c / groups, r, s]."""
    shape = (g.n, g.c, g.h, g.w)
    if 0 in shape:
        return empty(dy, shape, channels_last)
    chosen = plan("dgrad", g, dy.element_size(), planning_card(dy, "dgrad", g))
    dx = empty(dy, shape, channels_last or chosen.packed)
    if chosen.packed and chosen.algorithm != "matmul":
        dy, w = both_innermost(dy, w) if chosen.algorithm == "groups" else _packed_for_dgrad(dy, w)
    match chosen.algorithm:
        case "direct":
            thin.dgrad(dy, w, dx, g)
        case "rows":
            rows.dgrad(dy, w, dx, g, chosen)
        case "blocks":
            blocks.dgrad(dy, w, dx, g, chosen)
        case "matmul":
            pointwise.dgrad(dy, w, dx, g, chosen)
        case "batch":
            batch.dgrad(dy, w, dx, g, chosen)
        case "strips":
            strips.dgrad(dy, w, dx, g, chosen)
        case "groups":
            groups.dgrad(dy, dense_channels_innermost(w), dx, g, chosen.block)
        case _:
            gather.dgrad(dy, w, dx, g, chosen)
    return channels_outermost(dx) if chosen.packed and not channels_last else dx


def _packed_for_dgrad(dy: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Both with the axis innermost that tiles want: c in w, or k in float32, since TF32 takes no other order."""
    if w.dtype != torch.float32:
        return both_innermost(dy, w)
    dy, turned = both_innermost(dy, w.transpose(0, 1))
    return dy, turned.transpose(0, 1)


def wgrad(dy: Tensor, x: Tensor, g: Conv2dGeometry, channels_last: bool) -> Tensor:
    """dw [k, c / groups, r, s] from dy [n, k, p, q] and x [n, c, h, w]."""
    dw = empty(dy, (g.k, g.c_group, g.r, g.s), channels_last)
    if dw.numel() == 0 or g.n * g.p * g.q == 0:
        return dw.zero_()
    chosen = plan("wgrad", g, dy.element_size(), planning_card(dy, "wgrad", g))
    if chosen.packed:
        dy, x = both_innermost(dy, x, dense=chosen.algorithm not in ("batch", "strips"))
    if chosen.algorithm == "direct":
        thin.wgrad(dy, x, dw, g, chosen.splits)
        return dw
    if chosen.algorithm == "blocks":
        blocks.wgrad(dy, x, dw, g, chosen)
        return dw
    partial = partial_sums(dw, chosen.splits)
    match chosen.algorithm:
        case "rows":
            rows.wgrad(dy, x, dw, partial, g, chosen)
        case "matmul":
            pointwise.wgrad(dy, x, partial, g, chosen)
        case "batch":
            batch.wgrad(dy, x, dw, partial, g, chosen)
        case "strips":
            strips.wgrad(dy, x, dw, partial, g, chosen)
        case "groups":
            groups.wgrad(dy, x, dw, partial, g, chosen)
        case _:
            gather.wgrad(dy, x, dw, partial, g, chosen)
    reduce(partial, dw)
    return dw
