"""Launching convolutions whose groups are too thin for a matrix product: depthwise by streaming, the rest directly."""

from __future__ import annotations

import math

import triton.language as tl
from torch import Tensor

from kernels.common.arithmetic import accumulator, index
from kernels.common.launch import launch
from kernels.common.layout import is_channels_last
from kernels.common.splits import partial_sums, reduce
from kernels.conv2d.common.arguments import DIRECT_BLOCK, per_split, strides, window
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.few import streams
from kernels.conv2d.thin import depthwise_passes as depthwise
from kernels.conv2d.thin.direct import direct_dgrad_kernel, direct_fprop_kernel, direct_wgrad_kernel


def fprop(x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor, g: Conv2dGeometry, relu: bool) -> None:
    """y, dense in either layout, of a convolution in thin groups."""
    if streams(g):
        depthwise.fprop(x, w, bias, y, g, relu)
        return
    launch(
        direct_fprop_kernel,
        math.ceil(y.numel() / DIRECT_BLOCK),
        x_ptr=x,
        w_ptr=w,
        bias_ptr=x if bias is None else bias,
        y_ptr=y,
        numel=y.numel(),
        h=g.h,
        w=g.w,
        k=g.k,
        p=g.p,
        q=g.q,
        k_group=g.k_group,
        **strides("x", x, "nchw"),
        **strides("w", w, "kcrs"),
        C=g.c_group,
        **window(g),
        HAS_BIAS=bias is not None,
        RELU=relu,
        CHANNELS_LAST=is_channels_last(y),
        INDEX=index(x, w, y),
        ACC=accumulator(x),
        BLOCK=DIRECT_BLOCK,
    )


def dgrad(dy: Tensor, w: Tensor, dx: Tensor, g: Conv2dGeometry) -> None:
    """dx, dense in either layout."""
    if streams(g):
        depthwise.dgrad(dy, w, dx, g)
        return
    launch(
        direct_dgrad_kernel,
        math.ceil(dx.numel() / DIRECT_BLOCK),
        dy_ptr=dy,
        w_ptr=w,
        dx_ptr=dx,
        numel=dx.numel(),
        c=g.c,
        h=g.h,
        w=g.w,
        p=g.p,
        q=g.q,
        c_group=g.c_group,
        **strides("dy", dy, "nkpq"),
        **strides("w", w, "kcrs"),
        K=g.k_group,
        **window(g),
        CHANNELS_LAST=is_channels_last(dx),
        INDEX=index(dy, w, dx),
        ACC=accumulator(dy),
        BLOCK=DIRECT_BLOCK,
    )


def wgrad(dy: Tensor, x: Tensor, dw: Tensor, g: Conv2dGeometry, splits: int) -> None:
    """dw, dense; the direct kernel sums over `splits` parts of the pixels."""
    if depthwise.streams_wgrad(dy, g):
        depthwise.wgrad(dy, x, dw, g)
        return
    pixels = g.n * g.p * g.q
    block_m, block_n = sum_block(is_channels_last(dy))
    offsets = index(dy, x, dw)
    if offsets is tl.int64:  # addresses of twice the registers
        block_m //= 2
    partial = partial_sums(dw, splits)
    launch(
        direct_wgrad_kernel,
        splits * g.c_group * g.r * g.s * math.ceil(g.k / block_n),
        dy_ptr=dy,
        x_ptr=x,
        dw_ptr=partial,
        pixels=pixels,
        pixels_per_split=per_split(pixels, splits, block_m),
        h=g.h,
        w=g.w,
        k=g.k,
        p=g.p,
        q=g.q,
        k_group=g.k_group,
        **strides("dy", dy, "nkpq"),
        **strides("x", x, "nchw"),
        stride_dw_split=dw.numel(),
        **strides("dw", dw, "kcrs"),
        C=g.c_group,
        **window(g),
        INDEX=offsets,
        ACC=accumulator(dy),
        BLOCK_M=block_m,
        BLOCK_N=block_n,
    )
    reduce(partial, dw)


def sum_block(channels_last: bool) -> tuple[int, int]:
    """Pixels x channels of a program that sums over pixels: the long side lies along memory."""
    return (32, 64) if channels_last else (256, 4)
