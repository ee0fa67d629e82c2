"""The second pass of LeNet-5's weight gradients: the partial sums of wgrad.py added in a fixed order.

A filter tap is the sum of its entries in the matrix of a pool window, or of two side by side.
"""

import triton
import triton.language as tl


@triton.jit
def _fold(
    part_ptr,
    out_ptr,
    o,
    splits,
    C: tl.constexpr,
    CPAD: tl.constexpr,
    K: tl.constexpr,
    KPAD: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Entries o of a convolution's gradients, weight [K, C, 5, 5] then bias [K], from the parts of its windows."""
    WEIGHTS: tl.constexpr = K * C * 25
    SIDE: tl.constexpr = 4 + 2 * WIDE
    N: tl.constexpr = 4 * WIDE * KPAD
    m_w = o < WEIGHTS
    m = o < WEIGHTS + K
    o_f = tl.where(m_w, o // (C * 25), o - WEIGHTS)
    o_c = o // 25 % C
    o_r = o // 5 % 5
    o_s = o % 5
    b_sum = tl.zeros((BLOCK,), tl.float32)
    for s_0 in range(0, splits, 16):
        o_split = s_0 + tl.arange(0, 16)
        for j in range(4 * WIDE):  # (dy, window, dx)
            o_k = ((o_r + j // (2 * WIDE)) * SIDE + o_s + j % (2 * WIDE)) * CPAD + o_c
            o_part = tl.where(m_w, o_k // 64 * splits, 0)[None, :] + o_split[:, None]
            o_n = (j // 2 % WIDE * KPAD + o_f) * 4 + (j // (2 * WIDE) * 2 + j % 2)
            o_entry = tl.where(m_w, o_k % 64, 64) * N + o_n
            p_part = part_ptr + (o_part * (65 * N) + o_entry[None, :])
            b_sum += tl.sum(tl.load(p_part, mask=(o_split < splits)[:, None] & m[None, :], other=0.0), axis=0)
    tl.store(out_ptr + o, b_sum.to(out_ptr.dtype.element_ty), mask=m)


@triton.jit
def reduce_kernel(
    part1_ptr,
    part2_ptr,
    part3_ptr,
    out_ptr,
    splits1,
    splits2,
    splits3,
    C1: tl.constexpr,
    C2: tl.constexpr,
    LINEAR: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out: the ten gradients one after the other. LINEAR: how many entries those of fc1 to fc3 have together."""
    CONV_1: tl.constexpr = C1 * 25 + C1
    CONV_2: tl.constexpr = C2 * C1 * 25 + C2
    BLOCKS_1: tl.constexpr = (CONV_1 + BLOCK - 1) // BLOCK
    BLOCKS_2: tl.constexpr = (CONV_2 + BLOCK - 1) // BLOCK
    pid = tl.program_id(0)
    o = tl.arange(0, BLOCK)
    if pid < BLOCKS_1:
        _fold(part1_ptr, out_ptr, pid * BLOCK + o, splits1, 1, 1, C1, 8, 2, BLOCK)
    elif pid < BLOCKS_1 + BLOCKS_2:
        _fold(part2_ptr, out_ptr + CONV_1, (pid - BLOCKS_1) * BLOCK + o, splits2, C1, 8, C2, 16, 1, BLOCK)
    else:
        o = (pid - BLOCKS_1 - BLOCKS_2) * BLOCK + o
        m = o < LINEAR
        b_sum = tl.zeros((BLOCK,), tl.float32)
        for i_split in range(splits3):
            b_sum += tl.load(part3_ptr + (i_split * LINEAR + o), mask=m, other=0.0)
        tl.store(out_ptr + (CONV_1 + CONV_2) + o, b_sum.to(out_ptr.dtype.element_ty), mask=m)
