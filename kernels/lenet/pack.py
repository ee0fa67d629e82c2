"""The window matrices of conv1, conv2 and conv2 transposed, prepared once a call instead of gathered at every tile."""

import triton
import triton.language as tl

from kernels.lenet.jit import operand
from kernels.lenet.windows import window_weight


@triton.jit
def pack_kernel(
    w1_ptr,
    w2_ptr,
    packed_ptr,
    C1: tl.constexpr,
    C2: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The window matrices of conv1 [48, 64], conv2 [288, 64] and its transpose [768, 64], one after the other.

    Each by columns: tensor cores take TF32 only with the inputs of a column side by side.
    """
    SIZE_1: tl.constexpr = 48 * 64
    SIZE_2: tl.constexpr = 36 * 8 * 64
    start = tl.program_id(0) * BLOCK
    if start < SIZE_1:
        _pack(w1_ptr, packed_ptr, start, 1, 1, C1, 8, 2, False, DTYPE, PRECISION, BLOCK)
    elif start < SIZE_1 + SIZE_2:
        _pack(w2_ptr, packed_ptr + SIZE_1, start - SIZE_1, C1, 8, C2, 16, 1, False, DTYPE, PRECISION, BLOCK)
    else:
        _pack(
            w2_ptr,
            packed_ptr + (SIZE_1 + SIZE_2),
            start - (SIZE_1 + SIZE_2),
            C2,
            16,
            C1,
            8,
            2,
            True,
            DTYPE,
            PRECISION,
            BLOCK,
        )


@triton.jit
def _pack(
    w_ptr,
    packed_ptr,
    start,
    C: tl.constexpr,
    CPAD: tl.constexpr,
    K: tl.constexpr,
    KPAD: tl.constexpr,
    WIDE: tl.constexpr,
    FLIP: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """BLOCK entries of one matrix."""
    SIZE: tl.constexpr = 6 * (4 + 2 * WIDE) * CPAD
    o = start + tl.arange(0, BLOCK)
    b_w = window_weight(w_ptr, o % SIZE, o // SIZE, C, CPAD, K, KPAD, WIDE, FLIP)
    tl.store(packed_ptr + o, operand(b_w, DTYPE, PRECISION))
