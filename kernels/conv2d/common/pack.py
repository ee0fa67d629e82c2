"""Channels innermost: the form in which a gather reads 16 bytes at a time, for maps and weights alike.

[n, c, h * w] -> [n, h * w, c]; a tile is read along h * w and written along c. Weights are packed by every call that
needs it rather than kept: a kept copy would miss a write through `weight.data`, and the pass costs less than a
launch's latency. A model in channels_last pays nothing.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl
from torch import Tensor

from kernels.common.launch import launch
from kernels.common.layout import empty, span

BLOCK_C, BLOCK_P = 32, 64


@triton.jit
def pack_kernel(
    x_ptr,
    y_ptr,
    c,
    h,
    w,
    stride_x_n,
    stride_x_c,
    stride_x_h,
    stride_x_w,
    INDEX: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    num_c = tl.cdiv(c, BLOCK_C)
    num_p = tl.cdiv(h * w, BLOCK_P)
    i_c = tl.program_id(0) % num_c
    i_p = tl.program_id(0) // num_c % num_p
    i_n = (tl.program_id(0) // num_c // num_p).to(tl.int64)
    zero = tl.full((), 0, INDEX)
    o_c = i_c * BLOCK_C + tl.arange(0, BLOCK_C)
    o_p = i_p * BLOCK_P + tl.arange(0, BLOCK_P)
    m = (o_c < c)[:, None] & (o_p < h * w)[None, :]
    o_x = (zero + o_p // w) * stride_x_h + (zero + o_p % w) * stride_x_w
    p_x = x_ptr + i_n * stride_x_n + ((zero + o_c)[:, None] * stride_x_c + o_x[None, :])
    b_x = tl.load(p_x, mask=m, other=0.0)  # [BLOCK_C, BLOCK_P]
    p_y = y_ptr + i_n * (h * w) * c + ((zero + o_p)[:, None] * c + o_c[None, :])
    tl.store(p_y, tl.trans(b_x), mask=tl.trans(m))


def channels_innermost(x: Tensor) -> Tensor:
    """`x` [n, c, h, w] itself when its channels are adjacent, else a dense channels_last copy."""
    return x if x.stride(1) == 1 or x.shape[1] == 1 else dense_channels_innermost(x, copy=True)


def dense_channels_innermost(x: Tensor, copy: bool = False) -> Tensor:
    """`x` itself when it is dense with its channels adjacent, else (or if `copy`) a dense copy with that order."""
    if x.numel() == 0 or (not copy and x.permute(0, 2, 3, 1).is_contiguous()):
        return x
    n, c, h, w = x.shape
    y = empty(x, x.shape, True)
    launch(
        pack_kernel,
        n * math.ceil(c / BLOCK_C) * math.ceil(h * w / BLOCK_P),
        x_ptr=x,
        y_ptr=y,
        c=c,
        h=h,
        w=w,
        **{f"stride_x_{axis}": stride for axis, stride in zip("nchw", x.stride(), strict=True)},
        INDEX=tl.int64 if max(span(x), x.numel()) > 2**31 - 2**20 else tl.int32,
        BLOCK_C=BLOCK_C,
        BLOCK_P=BLOCK_P,
    )
    return y


def channels_outermost(x: Tensor) -> Tensor:
    """A dense contiguous copy of `x` [n, c, h, w], which is dense in channels_last: the way back."""
    n, c, h, w = x.shape
    swapped = x.permute(0, 2, 3, 1).reshape(n, h * w, 1, c)  # a view: its "channels" are the pixels
    return channels_innermost(swapped).permute(0, 2, 3, 1).reshape(n, c, h, w)
