"""The forward passes on real tensors: plan, allocate, and leave the rest to the plan's algorithm."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.common.layout import empty, is_channels_last
from kernels.conv2d.batch import passes as batch
from kernels.conv2d.blocks import passes as blocks
from kernels.conv2d.common.arguments import Epilogue, planning_card
from kernels.conv2d.common.pack import both_innermost, both_outermost, channels_outermost, dense_channels_innermost
from kernels.conv2d.gather import passes as gather
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.groups import passes as groups
from kernels.conv2d.patch import passes as patch
from kernels.conv2d.plans.choose import plan
from kernels.conv2d.pointwise import passes as pointwise
from kernels.conv2d.rows import passes as rows
from kernels.conv2d.strips import passes as strips
from kernels.conv2d.thin import passes as thin


def fprop(x: Tensor, w: Tensor, bias: Tensor | None, g: Conv2dGeometry, relu: bool) -> Tensor:
    """y [n, k, p, q] = conv(x [n, c, h, w], w [k, c / groups, r, s]) + bias, then ReLU if asked."""
    channels_last = is_channels_last(x) or is_channels_last(w)
    shape = (g.n, g.k, g.p, g.q)
    if g.c == 0 or 0 in shape:  # a sum over no channels, or no results
        y = empty(x, shape, channels_last)
        y.zero_() if bias is None else y.copy_(bias[:, None, None])
        return y.relu_() if relu else y
    chosen = plan("fprop", g, x.element_size(), planning_card(x, "fprop", g))
    y = empty(x, shape, channels_last or chosen.packed)
    if chosen.packed and chosen.algorithm != "matmul":
        x, w = both_innermost(x, w)
    match chosen.algorithm:
        case "direct":
            thin.fprop(x, w, bias, y, g, relu)
        case "patch":
            patch.fprop(x, w, y, g, Epilogue(bias, relu))
        case "rows":
            rows.fprop(x, w, y, g, chosen, Epilogue(bias, relu))
        case "blocks":
            blocks.fprop(x, w, y, g, chosen, Epilogue(bias, relu))
        case "matmul":
            pointwise.fprop(x, w, bias, y, g, relu, chosen)
        case "batch":
            batch.fprop(x, w, bias, y, g, relu, chosen)
        case "strips":
            strips.fprop(x, w, bias, y, g, relu, chosen)
        case "groups":
            groups.fprop(x, dense_channels_innermost(w), bias, y, g, relu, chosen.block)
        case _:
            gather.fprop(x, w, bias, y, g, relu, chosen)
    return channels_outermost(y) if chosen.packed and not channels_last else y


def fprop_pool(
    x: Tensor, w: Tensor, bias: Tensor | None, g: Conv2dGeometry, average: bool, want_code: bool
) -> tuple[Tensor, Tensor]:
    """2x2 pool of relu(conv + bias): y and its uint8 code, both [n, k, p // 2, q // 2] (code empty if not wanted)."""
    channels_last = is_channels_last(x) or is_channels_last(w)
    shape = (g.n, g.k, g.p // 2, g.q // 2)
    of_code = shape if want_code else (0,) * 4
    if 0 in shape:
        return empty(x, shape, channels_last), empty(x, of_code, channels_last, torch.uint8)
    chosen = plan("fprop_pool", g, x.element_size(), planning_card(x, "fprop_pool", g))
    assert chosen.algorithm != "direct", "the op composes convolution and pool where the convolution is direct"
    y = empty(x, shape, channels_last or chosen.packed)
    code = empty(x, of_code, channels_last or chosen.packed, torch.uint8)
    end = Epilogue(bias, relu=True, pool=True, average=average, code=code if want_code else None)
    if chosen.packed:
        x, w = both_innermost(x, w)
    match chosen.algorithm:
        case "patch":
            patch.fprop(x, w, y, g, end)
        case "rows":
            rows.fprop(x, w, y, g, chosen, end)
        case "blocks":
            blocks.fprop(x, w, y, g, chosen, end)
        case "batch":
            batch.fprop_pool(x, w, bias, y, code, g, average, chosen)
        case "strips":
            strips.fprop_pool(x, w, bias, y, code, g, average, chosen)
        case _:
            gather.fprop_pool(x, w, bias, y, code, g, average, chosen)
    return both_outermost(y, code) if chosen.packed and not channels_last else (y, code)
