"""The window matrices of conv1, conv2 and conv2 transposed, prepared once a call instead of gathered at every tile."""

import triton
import triton.language as tl

from kernels.lenet.jit import window_weight


@triton.jit
def pack_kernel(
    w1_ptr,
    w2_ptr,
    packed_ptr,
    C1: tl.constexpr,
    C2: tl.constexpr,
    DTYPE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The window matrices of conv1 [48, 32], conv2 [384, 64] and its transpose [768, 32], one after the other."""
    SIZE_1: tl.constexpr = 48 * 32
    SIZE_2: tl.constexpr = 48 * 8 * 64
    start = tl.program_id(0) * BLOCK
    if start < SIZE_1:
        _pack(w1_ptr, packed_ptr, start, 1, 1, C1, 8, False, DTYPE, BLOCK)
    elif start < SIZE_1 + SIZE_2:
        _pack(w2_ptr, packed_ptr + SIZE_1, start - SIZE_1, C1, 8, C2, 16, False, DTYPE, BLOCK)
    else:
        _pack(w2_ptr, packed_ptr + (SIZE_1 + SIZE_2), start - (SIZE_1 + SIZE_2), C2, 16, C1, 8, True, DTYPE, BLOCK)


@triton.jit
def _pack(
    w_ptr,
    packed_ptr,
    start,
    C: tl.constexpr,
    CPAD: tl.constexpr,
    K: tl.constexpr,
    KPAD: tl.constexpr,
    FLIP: tl.constexpr,
    DTYPE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """BLOCK entries of one matrix; BLOCK is a multiple of its width."""
    o_k = start // (4 * KPAD) + tl.arange(0, BLOCK // (4 * KPAD))
    o_n = tl.arange(0, 4 * KPAD)
    b_w = window_weight(w_ptr, o_k, o_n, C, CPAD, K, KPAD, FLIP)
    tl.store(packed_ptr + (o_k[:, None] * (4 * KPAD) + o_n[None, :]), b_w.to(DTYPE))
