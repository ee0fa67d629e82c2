"""Arguments that the pooling kernels have in common: how a map is cut in chunks, the divisor, the arithmetic."""

from __future__ import annotations

import math
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from kernels.common.layout import memory_format
from kernels.pool2d.geometry import Pool2dGeometry

THREADS = 128
NEAR = 2**21
"""Chunks of a row and rows of a plane, to which lanes find their place by float32."""


def chunk(like: Tensor, channels_last: bool, length: int = 1) -> tuple[int, int, int]:
    """Planes of a map, elements of a chunk, chunks of a pixel: 16 bytes where the sizes allow.

    A chunk lies along the channels in channels_last, else along a row, of which it takes a divisor of `length`.
    """
    n, c = like.shape[:2]
    wide = 16 // like.element_size()
    if not channels_last:
        return n * c, math.gcd(length, wide), 1
    v = math.gcd(c, wide)
    return n, v, c // v


def block(v: int) -> int:
    """Lanes of a program: what it takes to find its place, some 150 instructions, is shared by 4 elements a thread."""
    return THREADS * max(1, 4 // v)


def dense(t: Tensor, channels_last: bool) -> Tensor:
    """`t` itself where it is dense in that layout, or empty; else a copy."""
    return t.contiguous(memory_format=memory_format(channels_last)) if t.numel() else t


def comparable(t: Tensor) -> Any:
    """The dtype in which elements are compared: their own, but that the interpreter compares bfloat16's bits."""
    return {torch.float16: tl.float16, torch.float64: tl.float64}.get(t.dtype, tl.float32)


def count(g: Pool2dGeometry, h: int, w: int, count_pad: bool, divisor: int) -> dict[str, Any]:
    """The divisor of averages over planes [h, w], and what it depends on: nothing, if every window is whole."""
    room = g.padding if count_pad else (0, 0)
    ends = (
        (size - 1) * s - pad + k for size, s, pad, k in zip(g.output(h, w), g.stride, g.padding, g.kernel, strict=True)
    )
    whole = all(end <= size + r for end, size, r in zip(ends, (h, w), room, strict=True))
    if not divisor and whole and (count_pad or g.padding == (0, 0)):
        divisor = g.kernel[0] * g.kernel[1]
    return {"divisor": divisor, "COUNT": "divisor" if divisor else "padded" if count_pad else "inside"}


def is_clipped(g: Pool2dGeometry, h: int, w: int) -> bool:
    """Whether a window reaches out of planes [h, w]."""
    p, q = g.output(h, w)
    bottom = (p - 1) * g.stride[0] + g.dilation[0] * (g.kernel[0] - 1) >= h
    right = (q - 1) * g.stride[1] + g.dilation[1] * (g.kernel[1] - 1) >= w
    return g.padding != (0, 0) or bottom or right


def window(g: Pool2dGeometry) -> dict[str, Any]:
    """The constexprs that describe the window."""
    pairs = {"K": g.kernel, "STRIDE_": g.stride, "PAD_": g.padding}
    return {f"{name}{axis}": value for name, values in pairs.items() for axis, value in zip("HW", values, strict=True)}
