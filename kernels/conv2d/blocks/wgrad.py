"""Weight gradient over few channels from blocks of TALL x WIDE output pixels, in two deterministic passes.

band[split][M, N] = dz[K, M]^T @ patches(x)[K, N]
M = (t, u, k)   the pixels of a block, each with its output channels
N = (i, j, c)   the pixels that the windows of a block reach, with their input channels
K               blocks of pixels, divided among the splits

A block's patch is read once for all its pixels and taps, in runs of adjacent elements. Only entries with
i = t * STRIDE_H + r and j = u * STRIDE_W + s are products of a tap: the second pass (sums.py) adds those up. The others
are never read, so that an infinite pixel reaches no weight but its own.
"""

import triton
import triton.language as tl

from kernels.common.jit import dot, unravel


@triton.jit
def blocks_wgrad_kernel(
    dy_ptr,
    x_ptr,
    dw_ptr,
    blocks,
    steps_per_split,
    h,
    row_units,
    stride_dy_n,
    stride_dy_k,
    stride_dy_p,
    stride_x_n,
    stride_x_c,
    stride_x_h,
    K: tl.constexpr,
    BLOCKS_P: tl.constexpr,
    BLOCKS_Q: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    RUN: tl.constexpr,
    WIDTH: tl.constexpr,
    START: tl.constexpr,
    STEP_H: tl.constexpr,
    STEP_W: tl.constexpr,
    PAD_H: tl.constexpr,
    LAST_Y: tl.constexpr,
    UNIT_Y: tl.constexpr,
    UNIT: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Strides count UNIT (dy: UNIT_Y) elements, as do row_units, the length of a row of x, STEP_W, the distance of
    neighbouring blocks, and START, that from a block's first run to the first column. A patch is WIDTH elements: runs
    of RUN in ROWS rows, in NCHW of each channel."""
    M: tl.constexpr = TALL * WIDE * K
    num_m: tl.constexpr = (M + BLOCK_M - 1) // BLOCK_M
    num_n: tl.constexpr = (WIDTH + BLOCK_N - 1) // BLOCK_N
    i_n = tl.program_id(0) % num_n
    i_m = tl.program_id(0) // num_n % num_m
    i_split = tl.program_id(0) // (num_n * num_m)
    o_m = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
    o_n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    m_m = o_m < M
    m_n = o_n < WIDTH
    o_k = tl.arange(0, BLOCK_K)
    if LAST_Y:
        o_dy = o_m // (WIDE * K) * (stride_dy_p * UNIT_Y) + o_m % (WIDE * K)
    else:
        o_t = o_m // WIDE % TALL
        o_dy = o_m // (WIDE * TALL) * (stride_dy_k * UNIT_Y) + o_t * (stride_dy_p * UNIT_Y) + o_m % WIDE
    o_row = o_n // RUN % ROWS
    o_x = o_n // (RUN * ROWS) * (stride_x_c * UNIT) + o_row * (stride_x_h * UNIT) + o_n % RUN
    # What lies outside fails the one comparison of its row.
    o_row = tl.where(m_n, o_row, 1 << 30)
    o_unit = o_n // UNIT % (RUN // UNIT)
    WIDE_Y: tl.constexpr = WIDE * K // UNIT_Y if LAST_Y else WIDE // UNIT_Y

    first = i_split * steps_per_split
    b_band = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    for step in range(first, tl.minimum(first + steps_per_split, tl.cdiv(blocks, BLOCK_K))):
        o_b = step * BLOCK_K + o_k
        m_b = o_b < blocks
        o_i, o_p, o_q = unravel(o_b, BLOCKS_P, BLOCKS_Q)
        p_dy = dy_ptr + (o_i * stride_dy_n + o_p * (TALL * stride_dy_p) + o_q * WIDE_Y) * UNIT_Y
        b_dy = tl.load(p_dy[:, None] + o_dy[None, :], mask=m_b[:, None] & m_m[None, :], other=0.0)
        o_h = o_p * (TALL * STEP_H) - PAD_H
        o_w = o_q * STEP_W - START
        p_x = x_ptr + (o_i * stride_x_n + o_h * stride_x_h + o_w) * UNIT
        m_h = (tl.where(m_b, o_h, 1 << 30)[:, None] + o_row[None, :]).to(tl.uint32) < h
        m_w = (o_w[:, None] + o_unit[None, :]).to(tl.uint32) < row_units
        b_x = tl.load(p_x[:, None] + o_x[None, :], mask=m_h & m_w, other=0.0)
        b_band = dot(tl.trans(b_dy), b_x, b_band, PRECISION)

    p_band = dw_ptr + i_split.to(tl.int64) * (M * WIDTH)
    tl.store(p_band + (o_m[:, None] * WIDTH + o_n[None, :]), b_band, mask=m_m[:, None] & m_n[None, :])
