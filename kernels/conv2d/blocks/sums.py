"""The second pass of wgrad.py: a weight's products lie on a diagonal of the band, one for each pixel of a block."""

from __future__ import annotations

import math
from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from kernels.common.arithmetic import index
from kernels.common.jit import coordinates
from kernels.common.launch import launch
from kernels.common.layout import is_channels_last
from kernels.common.splits import MAXNREG, TILE, parts_at_once


@triton.jit
def blocks_sum_kernel(
    band_ptr,
    out_ptr,
    numel,
    parts,
    first,
    c,
    r,
    s,
    stride_split,
    stride_t,
    stride_u,
    stride_k,
    stride_c,
    stride_r,
    stride_s,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    INDEX: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out[k, c, r, s] = sum over the parts (split, t, u) of band[...], in the order of `reduce_splits_kernel`."""
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = o < numel
    o_k, o_c, o_r, o_s = coordinates(o, c, r, s, CHANNELS_LAST)
    o_band = first + o_k * stride_k + o_c * stride_c + o_r * stride_r + o_s * stride_s
    o_part = tl.arange(0, PARTS)
    b_rows = tl.zeros((PARTS, BLOCK), tl.float32)
    for part in range(0, parts, PARTS):
        o_split = (part + o_part) // (TALL * WIDE)
        o_pixel = (part + o_part) // WIDE % TALL * stride_t + (part + o_part) % WIDE * stride_u
        p_rows = band_ptr + ((o_split.to(INDEX) * stride_split + o_pixel)[:, None] + o_band[None, :])
        b_rows += tl.load(p_rows, mask=(part + o_part < parts)[:, None] & m[None, :], other=0.0)
    tl.store(out_ptr + o, tl.sum(b_rows, axis=0).to(out_ptr.dtype.element_ty), mask=m)


def add_up(band: Tensor, dw: Tensor, tall: int, wide: int, steps: Sequence[int], first: int) -> None:
    """dw [k, c, r, s], dense, from the parts [splits, M, N] of the band; steps: elements of it from one t, u, k, c, r
    and s to the next, the first of which lies at element `first`."""
    parts = band.shape[0] * tall * wide
    rows = parts_at_once(parts, dw.numel())
    names = ("t", "u", "k", "c", "r", "s")
    launch(
        blocks_sum_kernel,
        math.ceil(dw.numel() / (TILE // rows)),
        maxnreg=MAXNREG,
        band_ptr=band,
        out_ptr=dw,
        numel=dw.numel(),
        parts=parts,
        first=first,
        **dict(zip("crs", dw.shape[1:], strict=True)),
        stride_split=band.stride(0),
        **{f"stride_{name}": step for name, step in zip(names, steps, strict=True)},
        TALL=tall,
        WIDE=wide,
        CHANNELS_LAST=is_channels_last(dw),
        INDEX=index(band),
        PARTS=rows,
        BLOCK=TILE // rows,
    )
