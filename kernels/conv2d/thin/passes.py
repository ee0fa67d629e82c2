"""Launching convolutions whose groups are too thin for a matrix product: depthwise by streaming, the rest directly."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from kernels.common.device import card_of
from kernels.common.launch import launch
from kernels.common.layout import is_channels_last
from kernels.conv2d.common.arguments import DIRECT_BLOCK, accumulator, index, strides, undilated_window, window
from kernels.conv2d.common.pack import channels_innermost
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.thin.depthwise import depthwise_kernel, depthwise_wgrad_kernel
from kernels.conv2d.thin.depthwise_dgrad import depthwise_dgrad_kernel
from kernels.conv2d.thin.direct import direct_dgrad_kernel, direct_fprop_kernel, direct_wgrad_kernel

STREAMED_TAPS = 49
"""Windows up to 7x7 are unrolled in registers."""
SUMMED_TAPS = 21
"""A program of wgrad holds the sums of about so many taps: some rows of larger windows."""
SCATTERED_TAPS = 9
"""Weights of more taps are packed where channels are adjacent: read one by one they would take all registers."""
STREAMED_STRIDE = 4
"""Up to this stride the input gradient holds a block of whole periods in registers."""


def _streams(g: Conv2dGeometry, most: int) -> bool:
    depthwise = g.c_group == 1 and g.k_group == 1 and g.dilation == (1, 1)
    return depthwise and g.r * g.s <= most


def fprop(x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor, g: Conv2dGeometry, relu: bool) -> None:
    """y, dense in either layout, of a convolution in thin groups."""
    if _streams(g, STREAMED_TAPS):
        _stream(x, w, bias, y, g, relu)
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
    if _streams(g, STREAMED_TAPS) and max(g.stride) <= STREAMED_STRIDE:
        _stream_dgrad(dy, w, dx, g)
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


def wgrad(dy: Tensor, x: Tensor, dw: Tensor, partial: Tensor, g: Conv2dGeometry, splits: int) -> None:
    """The partial sums of dw over `splits` parts of the pixels."""
    pixels = g.n * g.p * g.q
    channels_last = is_channels_last(dy)
    arguments: dict[str, Any] = {"dy_ptr": dy, "x_ptr": x, "dw_ptr": partial, "pixels": pixels}
    if _streams(g, STREAMED_TAPS):
        narrow = dy.element_size() == 8  # twice the registers an element
        block_p, block_c = (8, 32 if narrow else 64) if channels_last else (64 if narrow else 128, 4)
        tap_rows = math.ceil(g.r / math.ceil(g.r * g.s / SUMMED_TAPS))
        launch(
            depthwise_wgrad_kernel,
            splits * math.ceil(g.r / tap_rows) * math.ceil(g.k / block_c),
            **arguments,
            pixels_per_split=per_split(pixels, splits, block_p),
            c=g.c,
            h=g.h,
            w=g.w,
            p=g.p,
            q=g.q,
            **strides("dy", dy, "ncpq"),
            **strides("x", x, "nchw"),
            stride_dw_split=dw.numel(),
            **_tap_strides("dw", dw),
            **undilated_window(g),
            INDEX=index(dy, x, dw),
            ACC=accumulator(dy),
            TAP_ROWS=tap_rows,
            BLOCK_P=block_p,
            BLOCK_C=block_c,
        )
        return
    block_m, block_n = sum_block(channels_last)
    launch(
        direct_wgrad_kernel,
        splits * g.c_group * g.r * g.s * math.ceil(g.k / block_n),
        **arguments,
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
        INDEX=index(dy, x, dw),
        ACC=accumulator(dy),
        BLOCK_M=block_m,
        BLOCK_N=block_n,
    )


def sum_block(channels_last: bool) -> tuple[int, int]:
    """Pixels x channels of a program that sums over pixels: the long side lies along memory."""
    return (32, 64) if channels_last else (256, 4)


def per_split(pixels: int, splits: int, block: int) -> int:
    """Pixels of one split, a multiple of the block."""
    return math.ceil(pixels / splits / block) * block


def _stream(x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor, g: Conv2dGeometry, relu: bool) -> None:
    n, c, p, q = y.shape
    channels_last = is_channels_last(y)
    w = _packed(w, channels_last)
    rows = 4 if g.r * g.s <= 9 else 2
    block_q, block_c = _stream_block(g, channels_last, x.element_size())
    if not channels_last and rows == 2 and g.stride[1] > 1 and not card_of(x.device).tma:
        block_q = 32  # sm_86 and sm_89 keep 8 bytes of 64 columns on the stack
    launch(
        depthwise_kernel,
        n * math.ceil(c / block_c) * math.ceil(q / block_q) * math.ceil(p / rows),
        x_ptr=x,
        w_ptr=w,
        bias_ptr=x if bias is None else bias,
        y_ptr=y,
        c=c,
        h=x.shape[2],
        w=x.shape[3],
        p=p,
        q=q,
        **strides("x", x, "nchw"),
        **_tap_strides("w", w),
        **strides("y", y, "ncpq"),
        **undilated_window(g),
        HAS_BIAS=bias is not None,
        RELU=relu,
        INDEX=index(x, w, y),
        ACC=accumulator(x),
        ROWS=rows,
        BLOCK_Q=block_q,
        BLOCK_C=block_c,
    )


def _stream_dgrad(dy: Tensor, w: Tensor, dx: Tensor, g: Conv2dGeometry) -> None:
    channels_last = is_channels_last(dx)
    w = _packed(w, channels_last)
    period = g.stride[0] * g.stride[1]
    rows = max(1, (4 if g.r * g.s <= 9 else 2) * 2 // period) if period > 1 else 4 if g.r * g.s <= 9 else 2
    block_q, block_c = _stream_block(g, channels_last, dy.element_size())
    first_p, num_p = _reach(rows * g.stride[0], g.r, g.stride[0], g.padding[0])
    first_q, num_q = _reach(g.stride[1], g.s, g.stride[1], g.padding[2])
    blocks = math.ceil(g.h / (rows * g.stride[0])) * math.ceil(g.w / (block_q * g.stride[1]))
    launch(
        depthwise_dgrad_kernel,
        g.n * math.ceil(g.c / block_c) * blocks,
        dy_ptr=dy,
        w_ptr=w,
        dx_ptr=dx,
        c=g.c,
        h=g.h,
        w=g.w,
        p=g.p,
        q=g.q,
        **strides("dy", dy, "ncpq"),
        **_tap_strides("w", w),
        **strides("dx", dx, "nchw"),
        **undilated_window(g),
        FIRST_P=first_p,
        FIRST_Q=first_q,
        NUM_P=num_p,
        NUM_Q=num_q,
        PAIRS=g.stride[1] == 2 and not channels_last,
        INDEX=index(dy, w, dx),
        ACC=accumulator(dy),
        ROWS=rows,
        BLOCK_Q=block_q,
        BLOCK_C=block_c,
    )


def _stream_block(g: Conv2dGeometry, channels_last: bool, itemsize: int) -> tuple[int, int]:
    """Columns x channels of a streaming program: fewer where float64 and a large window would fill the registers."""
    if not channels_last:
        return 64, 4
    return (8 if itemsize == 8 and g.r * g.s > 25 else 16), 64


def _packed(w: Tensor, channels_last: bool) -> Tensor:
    """Depthwise weights [c, 1, r, s], with adjacent channels if that pays."""
    if not channels_last or w.shape[2] * w.shape[3] <= SCATTERED_TAPS:
        return w
    return channels_innermost(w.transpose(0, 1)).transpose(0, 1)


def _reach(size: int, taps: int, stride: int, padding: int) -> tuple[int, int]:
    """The first and the number of the outputs that the inputs 0 .. size - 1 feed, edges of the map aside."""
    first = -((taps - 1 - padding) // stride)
    return first, max(0, (size - 1 + padding) // stride - first + 1)


def _tap_strides(name: str, w: Tensor) -> dict[str, int]:
    """Strides of a depthwise weight [c, 1, r, s], whose second axis has one element."""
    return {key: step for key, step in strides(name, w, "c-rs").items() if not key.endswith("-")}
