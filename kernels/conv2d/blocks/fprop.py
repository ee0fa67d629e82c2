"""Forward convolution over few channels on blocks of TALL x WIDE results, pooled 2x2 if asked.

y[M, N] = patches(x)[M, K] @ band(w)[K, N]
M               blocks
N = (t, u, k)   the results of a block, in NCHW (k, t, u); pooled, those of each of a window's four positions
K = (i, j, c)   the pixels that the windows of a block reach, with their channels: runs of adjacent elements

band(w), which its own kernel writes, has zeros where a pixel of the patch is not in a result's window. They must not
meet an infinite pixel or a NaN: a sum that is NaN is made again, with the other pixels left out.
"""

import triton
import triton.language as tl

from kernels.common.jit import dot, unravel
from kernels.conv2d.common.epilogue import finish


@triton.jit
def _result(o, K: tl.constexpr, TALL: tl.constexpr, WIDE: tl.constexpr, LAST_Y: tl.constexpr):
    """Number of a block's result -> its row, column and filter."""
    if LAST_Y:
        return o // (WIDE * K), o // K % WIDE, o % K
    return o // WIDE % TALL, o % WIDE, o // (TALL * WIDE)


@triton.jit
def _reached(
    o_row,
    o_place,
    o_t,
    o_u,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    R: tl.constexpr,
    S: tl.constexpr,
    INNER: tl.constexpr,
):
    """The tap's row and place in a run, and whether it is one: of the patch's element (o_row, o_place) for the output
    pixel (o_t, o_u) of a block."""
    o_r = o_row - o_t * STRIDE_H
    o_s = o_place - o_u * (STRIDE_W * INNER)
    return o_r, o_s, (o_r >= 0) & (o_r < R) & (o_s >= 0) & (o_s < S * INNER)


@triton.jit
def blocks_band_kernel(
    w_ptr,
    band_ptr,
    numel,
    stride_w_k,
    stride_w_c,
    stride_w_r,
    stride_w_s,
    K: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    RUN: tl.constexpr,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    LEAD: tl.constexpr,
    INNER: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    R: tl.constexpr,
    S: tl.constexpr,
    LAST_Y: tl.constexpr,
    POOL: tl.constexpr,
    TURNED: tl.constexpr,
    SIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """band [N, DEPTH], N in tiles of SIDE; INNER: adjacent channels of a pixel; TURNED: filters turned by 180
    degrees."""
    EACH: tl.constexpr = 2 if POOL else 1
    GROUP: tl.constexpr = SIDE // (EACH * EACH)
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    o_n = o // DEPTH
    o_k = o % DEPTH
    o_position = o_n % SIDE // GROUP
    o_result = o_n // SIDE * GROUP + o_n % GROUP
    o_t, o_u, o_f = _result(o_result, K, TALL, WIDE, LAST_Y)
    o_place = o_k % RUN - LEAD
    o_r, o_s, m = _reached(
        o_k // RUN % ROWS,
        o_place,
        o_t * EACH + o_position // 2,
        o_u * EACH + o_position % 2,
        STRIDE_H,
        STRIDE_W,
        R,
        S,
        INNER,
    )
    m = m & (o < numel) & (o_result < TALL * WIDE * K) & (o_k < WIDTH)
    o_c = o_k // (RUN * ROWS) + o_s % INNER
    o_s = o_s // INNER
    if TURNED:
        o_r = R - 1 - o_r
        o_s = S - 1 - o_s
    o_w = o_f * stride_w_k + o_c * stride_w_c + o_r * stride_w_r + o_s * stride_w_s
    tl.store(band_ptr + o, tl.load(w_ptr + o_w, mask=m, other=0.0), mask=o < numel)


@triton.jit
def blocks_fprop_kernel(
    x_ptr,
    band_ptr,
    bias_ptr,
    y_ptr,
    code_ptr,
    blocks,
    h,
    row_units,
    depth,
    stride_x_n,
    stride_x_c,
    stride_x_h,
    stride_y_n,
    stride_y_k,
    stride_y_p,
    K: tl.constexpr,
    BLOCKS_P: tl.constexpr,
    BLOCKS_Q: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    RUN: tl.constexpr,
    WIDTH: tl.constexpr,
    START: tl.constexpr,
    LEAD: tl.constexpr,
    INNER: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    R: tl.constexpr,
    S: tl.constexpr,
    STEP_H: tl.constexpr,
    STEP_W: tl.constexpr,
    PAD_H: tl.constexpr,
    LAST_Y: tl.constexpr,
    UNIT_Y: tl.constexpr,
    UNIT: tl.constexpr,
    POOL: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    RELU: tl.constexpr,
    AVERAGE: tl.constexpr,
    HAS_CODE: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Strides count UNIT (y: UNIT_Y) elements; the rest as in wgrad.py. STEP_H, STEP_W: rows and units of x between
    neighbouring blocks. depth: WIDTH in whole steps; no constant, lest the loop be unrolled and take more registers."""
    EACH: tl.constexpr = 2 if POOL else 1
    GROUP: tl.constexpr = BLOCK_N // (EACH * EACH)
    RESULTS: tl.constexpr = TALL * WIDE * K
    num_n: tl.constexpr = (RESULTS + GROUP - 1) // GROUP
    i_n = tl.program_id(0) % num_n
    i_m = tl.program_id(0) // num_n
    o_m = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
    m_m = o_m < blocks
    o_i, o_p, o_q = unravel(o_m, BLOCKS_P, BLOCKS_Q)
    o_h = o_p * STEP_H - PAD_H
    o_w = o_q * STEP_W - START
    p_x = x_ptr + (o_i * stride_x_n + o_h * stride_x_h + o_w) * UNIT
    o_h = tl.where(m_m, o_h, 1 << 30)
    o_n = tl.arange(0, BLOCK_N)
    o_k = tl.arange(0, BLOCK_K)
    p_band = band_ptr + ((i_n * BLOCK_N + o_n)[None, :] * depth + o_k[:, None])

    b_y = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    for k_0 in range(0, depth, BLOCK_K):
        o_x = k_0 + o_k
        o_row = tl.where(o_x < WIDTH, o_x // RUN % ROWS, 1 << 30)
        o_unit = o_x // UNIT % (RUN // UNIT)
        m_x = (o_h[:, None] + o_row[None, :]).to(tl.uint32) < h
        m_x = m_x & ((o_w[:, None] + o_unit[None, :]).to(tl.uint32) < row_units)
        o_run = o_x // (RUN * ROWS) * (stride_x_c * UNIT) + o_x // RUN % ROWS * (stride_x_h * UNIT) + o_x % RUN
        b_x = tl.load(p_x[:, None] + o_run[None, :], mask=m_x, other=0.0)
        b_y = dot(b_x, tl.load(p_band + k_0), b_y, PRECISION)

    o_g = i_n * GROUP + tl.arange(0, GROUP)
    m_g = o_g < RESULTS
    o_t, o_u, o_f = _result(o_g, K, TALL, WIDE, LAST_Y)
    b_bias = tl.zeros((1, GROUP), ACC)
    if HAS_BIAS:
        b_bias = tl.load(bias_ptr + o_f, mask=m_g, other=0.0).to(ACC)[None, :]
    if LAST_Y:
        o_y = o_g // (WIDE * K) * (stride_y_p * UNIT_Y) + o_g % (WIDE * K)
    else:
        o_y = o_g // (TALL * WIDE) * (stride_y_k * UNIT_Y) + o_g // WIDE % TALL * (stride_y_p * UNIT_Y) + o_g % WIDE
    WIDE_Y: tl.constexpr = WIDE * K // UNIT_Y if LAST_Y else WIDE // UNIT_Y
    o_block = (o_i * stride_y_n + o_p * (TALL * stride_y_p) + o_q * WIDE_Y) * UNIT_Y
    found = tl.max(tl.where(b_y != b_y, 1, 0), axis=None)
    if POOL:
        b_even, b_odd = tl.split(b_y.reshape(BLOCK_M, 2, 2, GROUP).permute(0, 1, 3, 2))
        b_0, b_2 = tl.split(b_even.permute(0, 2, 1))
        b_1, b_3 = tl.split(b_odd.permute(0, 2, 1))
        finish(b_0, b_1, b_2, b_3, b_bias, y_ptr, code_ptr, o_block, o_y, m_m, m_g, POOL, RELU, AVERAGE, HAS_CODE)
    else:
        finish(b_y, b_y, b_y, b_y, b_bias, y_ptr, code_ptr, o_block, o_y, m_m, m_g, POOL, RELU, AVERAGE, HAS_CODE)

    # Seldom entered: once more for each result of a block, of the windows of that alone.
    o_n = tl.arange(0, GROUP)
    p_band = band_ptr + ((i_n * BLOCK_N + o_n)[None, :] * depth + o_k[:, None])
    for result in tl.range(0, TALL * WIDE * found, num_stages=1):
        b_0 = tl.zeros((BLOCK_M, GROUP), ACC)
        b_1 = b_0
        b_2 = b_0
        b_3 = b_0
        for k_0 in tl.range(0, depth * found, BLOCK_K, num_stages=1):
            o_x = k_0 + o_k
            o_row = o_x // RUN % ROWS
            o_unit = o_x // UNIT % (RUN // UNIT)
            o_run = o_x // (RUN * ROWS) * (stride_x_c * UNIT) + o_row * (stride_x_h * UNIT) + o_x % RUN
            m_w = ((o_w[:, None] + o_unit[None, :]).to(tl.uint32) < row_units) & (o_x < WIDTH)[None, :]
            m_x = ((o_h[:, None] + o_row[None, :]).to(tl.uint32) < h) & m_w
            p_run = p_x[:, None] + o_run[None, :]
            o_place = o_x % RUN - LEAD
            row = result // WIDE * EACH
            column = result % WIDE * EACH
            _r, _s, m_0 = _reached(o_row, o_place, row, column, STRIDE_H, STRIDE_W, R, S, INNER)
            b_x = tl.load(p_run, mask=m_x & m_0[None, :], other=0.0)
            b_0 = dot(b_x, tl.load(p_band + k_0), b_0, PRECISION)
            if POOL:
                _r, _s, m_1 = _reached(o_row, o_place, row, column + 1, STRIDE_H, STRIDE_W, R, S, INNER)
                _r, _s, m_2 = _reached(o_row, o_place, row + 1, column, STRIDE_H, STRIDE_W, R, S, INNER)
                _r, _s, m_3 = _reached(o_row, o_place, row + 1, column + 1, STRIDE_H, STRIDE_W, R, S, INNER)
                p_next = p_band + (k_0 + GROUP * depth)
                b_x = tl.load(p_run, mask=m_x & m_1[None, :], other=0.0)
                b_1 = dot(b_x, tl.load(p_next), b_1, PRECISION)
                b_x = tl.load(p_run, mask=m_x & m_2[None, :], other=0.0)
                b_2 = dot(b_x, tl.load(p_next + GROUP * depth), b_2, PRECISION)
                b_x = tl.load(p_run, mask=m_x & m_3[None, :], other=0.0)
                b_3 = dot(b_x, tl.load(p_next + 2 * GROUP * depth), b_3, PRECISION)
        m_own = m_g & (o_t * WIDE + o_u == result)
        finish(b_0, b_1, b_2, b_3, b_bias, y_ptr, code_ptr, o_block, o_y, m_m, m_own, POOL, RELU, AVERAGE, HAS_CODE)
