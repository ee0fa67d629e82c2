"""Channels innermost: the form in which a gather reads 16 bytes at a time, for maps and weights alike.

[n, c, h * w] -> [n, h * w, c]; a tile is read along h * w and written along c. Weights are packed by every call that
needs it rather than kept: a kept copy would miss a write through `weight.data`, and the pass costs less than a
launch's latency, and nothing at all in one launch with the map's. A model in channels_last pays nothing.
"""

from __future__ import annotations

import math
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from kernels.common.arithmetic import index
from kernels.common.launch import launch
from kernels.common.layout import empty

TILE = 2048
"""Elements of a program, of at most LONG channels or pixels side by side."""
LONG = 64


@triton.jit
def _pack(
    i,
    x_ptr,
    y_ptr,
    channels,
    pixels,
    w,
    stride_x_n,
    stride_x_c,
    stride_x_h,
    stride_x_w,
    FLAT: tl.constexpr,
    INDEX: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
    V_C: tl.constexpr,
    V_P: tl.constexpr,
):
    """Tile i. channels: of an image, in blocks of V_C. FLAT: pixel p lies at p * stride_x_w; then pixels, stride_x_n
    and stride_x_c count blocks of V_P elements. So the compiler sees which runs of elements are aligned.
    """
    num_c = tl.cdiv(channels * V_C, BLOCK_C)
    num_p = tl.cdiv(pixels * V_P, BLOCK_P)
    i_c = i % num_c
    i_p = i // num_c % num_p
    i_n = (i // num_c // num_p).to(tl.int64)
    zero = tl.full((), 0, INDEX)
    o_c = i_c * BLOCK_C + tl.arange(0, BLOCK_C)
    o_p = i_p * BLOCK_P + tl.arange(0, BLOCK_P)
    m = (o_c < channels * V_C)[:, None] & (o_p < pixels * V_P)[None, :]
    if FLAT:
        o_x = (zero + o_p) * stride_x_w
    else:
        o_x = (zero + o_p // w) * stride_x_h + (zero + o_p % w) * stride_x_w
    p_x = x_ptr + i_n * stride_x_n * V_P + ((zero + o_c)[:, None] * stride_x_c * V_P + o_x[None, :])
    b_x = tl.load(p_x, mask=m, other=0.0)  # [BLOCK_C, BLOCK_P]
    p_y = y_ptr + i_n * (pixels * V_P) * (channels * V_C) + ((zero + o_p)[:, None] * (channels * V_C) + o_c[None, :])
    tl.store(p_y, tl.trans(b_x), mask=tl.trans(m))


@triton.jit
def pack_kernel(
    x_ptr,
    y_ptr,
    channels,
    pixels,
    w,
    stride_x_n,
    stride_x_c,
    stride_x_h,
    stride_x_w,
    FLAT: tl.constexpr,
    INDEX: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
    V_C: tl.constexpr,
    V_P: tl.constexpr,
):
    _pack(
        tl.program_id(0), x_ptr, y_ptr, channels, pixels, w, stride_x_n, stride_x_c, stride_x_h, stride_x_w, FLAT,
        INDEX, BLOCK_C, BLOCK_P, V_C, V_P,
    )  # fmt: skip


@triton.jit
def pack_two_kernel(
    x_ptr,
    y_ptr,
    channels,
    pixels,
    w,
    stride_x_n,
    stride_x_c,
    stride_x_h,
    stride_x_w,
    programs,
    other_x_ptr,
    other_y_ptr,
    other_channels,
    other_pixels,
    other_w,
    other_stride_x_n,
    other_stride_x_c,
    other_stride_x_h,
    other_stride_x_w,
    FLAT: tl.constexpr,
    INDEX: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
    V_C: tl.constexpr,
    V_P: tl.constexpr,
    OTHER_FLAT: tl.constexpr,
    OTHER_INDEX: tl.constexpr,
    OTHER_BLOCK_C: tl.constexpr,
    OTHER_BLOCK_P: tl.constexpr,
    OTHER_V_C: tl.constexpr,
    OTHER_V_P: tl.constexpr,
):
    """The first `programs` take x, the others the other tensor."""
    i = tl.program_id(0)
    if i < programs:
        _pack(
            i, x_ptr, y_ptr, channels, pixels, w, stride_x_n, stride_x_c, stride_x_h, stride_x_w, FLAT, INDEX, BLOCK_C,
            BLOCK_P, V_C, V_P,
        )  # fmt: skip
    else:
        _pack(
            i - programs, other_x_ptr, other_y_ptr, other_channels, other_pixels, other_w, other_stride_x_n,
            other_stride_x_c, other_stride_x_h, other_stride_x_w, OTHER_FLAT, OTHER_INDEX, OTHER_BLOCK_C,
            OTHER_BLOCK_P, OTHER_V_C, OTHER_V_P,
        )  # fmt: skip


def _is_innermost(x: Tensor) -> bool:
    return x.stride(1) == 1 or x.shape[1] == 1


def _is_dense(x: Tensor) -> bool:
    return x.numel() == 0 or x.permute(0, 2, 3, 1).is_contiguous()


def channels_innermost(x: Tensor) -> Tensor:
    """`x` [n, c, h, w] itself when its channels are adjacent, else a dense channels_last copy."""
    return x if _is_innermost(x) else dense_channels_innermost(x, copy=True)


def dense_channels_innermost(x: Tensor, copy: bool = False) -> Tensor:
    """`x` itself when it is dense with its channels adjacent, else (or if `copy`) a dense copy with that order."""
    if x.numel() == 0 or (not copy and _is_dense(x)):
        return x
    y = empty(x, x.shape, True)
    grid, arguments = _arguments(x, y)
    launch(pack_kernel, grid, **arguments)
    return y


def both_innermost(x: Tensor, w: Tensor, dense: bool = False) -> tuple[Tensor, Tensor]:
    """channels_innermost of both (dense_channels_innermost of x if `dense`): one launch where both are copied."""
    ready = _is_dense(x) if dense else _is_innermost(x)
    if ready or _is_innermost(w) or x.numel() == 0 or w.numel() == 0:
        return dense_channels_innermost(x) if dense else channels_innermost(x), channels_innermost(w)
    y, other = empty(x, x.shape, True), empty(w, w.shape, True)
    grid, arguments = _arguments(x, y)
    more, others = _arguments(w, other)
    named = {f"OTHER_{name}" if name.isupper() else f"other_{name}": value for name, value in others.items()}
    launch(pack_two_kernel, grid + more, **arguments, programs=grid, **named)
    return y, other


def _arguments(x: Tensor, y: Tensor) -> tuple[int, dict[str, Any]]:
    """The programs of pack_kernel and its arguments."""
    n, c, h, w = x.shape
    stride_n, stride_c, stride_h, stride_w = x.stride()
    wide = 16 // x.element_size()
    flat = h == 1 or w == 1 or stride_h == w * stride_w
    step = stride_h if w == 1 else stride_w
    v_c, v_p = math.gcd(c, wide), math.gcd(h * w, stride_n, stride_c, wide) if flat and step == 1 else 1
    block_p = min(LONG, max(4, triton.next_power_of_2(h * w)))
    block_c = min(TILE // block_p, max(4, triton.next_power_of_2(c)))
    return n * math.ceil(c / block_c) * math.ceil(h * w / block_p), {
        "x_ptr": x,
        "y_ptr": y,
        "channels": c // v_c,
        "pixels": h * w // v_p,
        "w": w,
        "stride_x_n": stride_n // v_p,
        "stride_x_c": stride_c // v_p,
        "stride_x_h": stride_h,
        "stride_x_w": step,
        "FLAT": flat,
        "INDEX": index(x),
        "BLOCK_C": block_c,
        "BLOCK_P": block_p,
        "V_C": v_c,
        "V_P": v_p,
    }


def channels_outermost(x: Tensor) -> Tensor:
    """A dense contiguous copy of `x` [n, c, h, w], which is dense in channels_last: the way back."""
    return _back(channels_innermost(_swapped(x)), x)


def both_outermost(x: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
    """channels_outermost of both in one launch; `code` itself if it is empty."""
    if code.numel() == 0:
        return channels_outermost(x), code
    y, other = both_innermost(_swapped(x), _swapped(code))
    return _back(y, x), _back(other, code)


def _swapped(x: Tensor) -> Tensor:
    """A view of `x` whose "channels" are its pixels, as one row of channels."""
    n, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).reshape(n, h * w, 1, c)


def _back(swapped: Tensor, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return swapped.permute(0, 2, 3, 1).reshape(n, c, h, w)
