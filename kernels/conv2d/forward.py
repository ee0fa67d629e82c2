"""The forward passes on real tensors: allocate, plan, launch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.common.layout import empty, is_channels_last
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
from kernels.conv2d.common.pack import both_innermost, both_outermost, channels_outermost, dense_channels_innermost
from kernels.conv2d.gather.fprop import fprop_kernel
from kernels.conv2d.gather.fprop_pool import fprop_pool_kernel
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
    y = empty(x, (g.n, g.k, g.p, g.q), channels_last)
    if y.numel() == 0:
        return y
    if g.c == 0:  # a sum over no channels
        y.zero_() if bias is None else y.copy_(bias[:, None, None])
        return y.relu_() if relu else y
    chosen = plan("fprop", g, x.element_size(), planning_card(x, "fprop", g))
    if chosen.algorithm == "patch":
        patch.fprop(x, w, bias, y, g, relu)
        return y
    if chosen.tile is None:
        thin.fprop(x, w, bias, y, g, relu)
        return y
    if chosen.algorithm == "matmul":
        y = pointwise.fprop(x, w, bias, g, relu, chosen)
        return y if channels_last else channels_outermost(y)
    if chosen.algorithm == "rows":
        rows.fprop(x, w, bias, y, g, relu, chosen)
        return y
    if chosen.algorithm == "blocks":
        blocks.fprop(x, w, bias, y, g, relu, chosen)
        return y
    if chosen.packed or chosen.algorithm == "batch":
        x, w = both_innermost(x, w)
    if chosen.algorithm == "batch":
        y = batch.fprop(x, w, bias, g, relu, chosen)
        return y if channels_last else channels_outermost(y)
    if chosen.algorithm == "strips":
        y = strips.fprop(x, w, bias, g, relu, chosen)
        return y if channels_last else channels_outermost(y)
    if chosen.packed:
        y = y if channels_last else empty(y, y.shape, True)
    if chosen.algorithm == "groups":
        groups.fprop(x, dense_channels_innermost(w), bias, y, g, relu, chosen.tile)
        return y if channels_last else channels_outermost(y)
    split = chosen.splits > 1
    out = partial_sums(y, chosen.splits) if split else y
    pixels = g.n * g.p * g.q
    launch_gemm(
        fprop_kernel,
        g.groups * chosen.splits * tiles(pixels, g.k_group, chosen.tile),
        chosen.tile,
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
        splits=chosen.splits,
        **strides("x", x, "nchw"),
        **strides("w", w, "kcrs"),
        stride_y_split=y.numel(),
        **strides("y", y, "nkpq"),
        C=g.c_group,
        **window(g),
        HAS_BIAS=bias is not None and not split,
        RELU=relu and not split,
        FLAT=not chosen.packed,
        SPLIT=split,
        CHUNK=chunk(x, w) if chosen.packed else 1,
        CHUNK_Y=math.gcd(chunk(y), g.k_group) if chosen.packed else 1,
        **numerics(chosen.tf32x3, x, w, y),
    )
    if split:
        reduce(out, y, bias, relu)
    return y if channels_last or not chosen.packed else channels_outermost(y)


def fprop_pool(
    x: Tensor, w: Tensor, bias: Tensor | None, g: Conv2dGeometry, average: bool, want_code: bool
) -> tuple[Tensor, Tensor]:
    """2x2 pool of relu(conv + bias): y and its uint8 code, both [n, k, p // 2, q // 2] (code empty if not wanted)."""
    channels_last = is_channels_last(x) or is_channels_last(w)
    shape = (g.n, g.k, g.p // 2, g.q // 2)
    y = empty(x, shape, channels_last)
    code = empty(x, shape if want_code else (0,) * 4, channels_last, torch.uint8)
    if y.numel() == 0:
        return y, code
    chosen = plan("fprop_pool", g, x.element_size(), planning_card(x, "fprop_pool", g))
    if chosen.algorithm == "patch":
        patch.fprop_pool(x, w, bias, y, code, g, average, want_code)
        return y, code
    assert chosen.tile is not None, "the op composes convolution and pool where the convolution is direct"
    if chosen.algorithm == "rows":
        rows.fprop_pool(x, w, bias, y, code, g, average, want_code, chosen)
        return y, code
    if chosen.algorithm == "blocks":
        blocks.fprop_pool(x, w, bias, y, code, g, average, want_code, chosen)
        return y, code
    if chosen.packed or chosen.algorithm == "batch":
        x, w = both_innermost(x, w)
    if chosen.algorithm in ("batch", "strips"):
        run = batch.fprop_pool if chosen.algorithm == "batch" else strips.fprop_pool
        y, code = run(x, w, bias, g, average, want_code, chosen)
        return (y, code) if channels_last else both_outermost(y, code)
    if chosen.packed and not channels_last:
        y, code = empty(y, y.shape, True), empty(code, code.shape, True)
    pixels = g.n * shape[2] * shape[3]
    launch_gemm(
        fprop_pool_kernel,
        g.groups * tiles(pixels, g.k_group, chosen.tile),
        chosen.tile,
        x_ptr=x,
        w_ptr=w,
        bias_ptr=x if bias is None else bias,
        y_ptr=y,
        code_ptr=code,
        pixels=pixels,
        h=g.h,
        w=g.w,
        k=g.k_group,
        p=shape[2],
        q=shape[3],
        **strides("x", x, "nchw"),
        **strides("w", w, "kcrs"),
        **strides("y", y, "nkpq"),
        C=g.c_group,
        **window(g),
        HAS_BIAS=bias is not None,
        AVERAGE=average,
        HAS_CODE=want_code,
        FLAT=not chosen.packed,
        CHUNK=chunk(x, w) if chosen.packed else 1,
        CHUNK_Y=math.gcd(chunk(y), g.k_group) if chosen.packed else 1,
        **numerics(chosen.tf32x3, x, w, y),
    )
    if chosen.packed and not channels_last:
        y, code = both_outermost(y, code)
    return y, code
