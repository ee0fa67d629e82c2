"""Convolution + bias + ReLU + 2x2 pooling as one implicit GEMM.

z[j][M, N] = im2col_j(x)[M, K] @ w[N, K]^T   for the four positions j of a pooling window
y[M, N]    = pool over j of relu(z[j] + bias)
M = n * p' * q'   pooled pixels
N = k             output channels of one group
K = r * s * c     filter taps, channels fastest

Four accumulators share each weight tile, and the map before the pool is never written. Backward needs one byte per
output. Max: the position of the maximum (0..3, the first among equals, the last NaN), or 4 where ReLU cut it off.
Average: bit j is set where position j passed the ReLU.
"""

import triton
import triton.language as tl

from kernels.common.jit import dot, nothing, rolled, tap_inside, taps_inside, unravel
from kernels.conv2d.common.epilogue import pooled
from kernels.conv2d.common.order import place


@triton.jit
def fprop_pool_kernel(
    x_ptr,
    w_ptr,
    bias_ptr,
    y_ptr,
    code_ptr,
    pixels,
    h,
    w,
    k,
    p,
    q,
    stride_x_n,
    stride_x_c,
    stride_x_h,
    stride_x_w,
    stride_w_k,
    stride_w_c,
    stride_w_r,
    stride_w_s,
    stride_y_n,
    stride_y_k,
    stride_y_p,
    stride_y_q,
    C: tl.constexpr,
    R: tl.constexpr,
    S: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    DIL_H: tl.constexpr,
    DIL_W: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    AVERAGE: tl.constexpr,
    HAS_CODE: tl.constexpr,
    FLAT: tl.constexpr,
    CHUNK: tl.constexpr,
    CHUNK_Y: tl.constexpr,
    INDEX: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    num_n = tl.cdiv(k, BLOCK_N)
    num_m = tl.cdiv(pixels, BLOCK_M)
    i_m, i_n, _ = place(tl.program_id(0) % (num_m * num_n), num_m, num_n, 1)
    i_g = (tl.program_id(0) // (num_m * num_n)).to(tl.int64)

    zero = tl.full((), 0, INDEX)
    o_m = i_m.to(INDEX) * BLOCK_M + tl.arange(0, BLOCK_M)
    o_n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    o_k = tl.arange(0, BLOCK_K)
    m_m = o_m < pixels
    m_n = o_n < k
    o_i, o_p, o_q = unravel(o_m, p, q)
    o_h = o_p * (2 * STRIDE_H) - PAD_H
    o_w = o_q * (2 * STRIDE_W) - PAD_W
    o_pixel = o_i * stride_x_n + (o_h * stride_x_h + o_w * stride_x_w)
    o_filter = i_g * k * stride_w_k + (zero + o_n) * stride_w_k
    o_pixel = tl.multiple_of(o_pixel, CHUNK) if CHUNK > 1 else o_pixel
    o_filter = tl.multiple_of(o_filter, CHUNK) if CHUNK > 1 else o_filter
    p_x = x_ptr + i_g * C * stride_x_c + o_pixel  # [BLOCK_M]
    p_w = w_ptr + o_filter  # [BLOCK_N]

    b_0 = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    b_1 = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    b_2 = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    b_3 = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    o_right = (zero + STRIDE_W) * stride_x_w
    o_down = (zero + STRIDE_H) * stride_x_h
    if FLAT:
        for k_0 in range(0, R * S * C, BLOCK_K):
            o_c = (k_0 + o_k) % C
            o_tap = (k_0 + o_k) // C
            o_r = o_tap // S
            o_s = o_tap % S
            m_k = o_tap < R * S
            o_f = o_r * stride_w_r + o_s * stride_w_s + o_c * stride_w_c
            b_w = tl.load(p_w[None, :] + o_f[:, None], mask=m_n[None, :] & m_k[:, None], other=0.0)
            o_x = (zero + o_r * DIL_H) * stride_x_h + (zero + o_s * DIL_W) * stride_x_w + (zero + o_c) * stride_x_c
            p_tap = p_x[:, None] + o_x[None, :]
            o_row = o_h[:, None] + (o_r * DIL_H)[None, :]
            o_col = o_w[:, None] + (o_s * DIL_W)[None, :]
            m_mk = m_m[:, None] & m_k[None, :]
            m_top = m_mk & (o_row >= 0) & (o_row < h)
            m_bottom = m_mk & (o_row + STRIDE_H >= 0) & (o_row + STRIDE_H < h)
            m_left = (o_col >= 0) & (o_col < w)
            m_right = (o_col + STRIDE_W >= 0) & (o_col + STRIDE_W < w)
            b_x = tl.load(p_tap, mask=m_top & m_left, other=0.0)
            b_0 = dot(b_x, b_w, b_0, PRECISION)
            b_x = tl.load(p_tap + o_right, mask=m_top & m_right, other=0.0)
            b_1 = dot(b_x, b_w, b_1, PRECISION)
            b_x = tl.load(p_tap + o_down, mask=m_bottom & m_left, other=0.0)
            b_2 = dot(b_x, b_w, b_2, PRECISION)
            b_x = tl.load(p_tap + (o_down + o_right), mask=m_bottom & m_right, other=0.0)
            b_3 = dot(b_x, b_w, b_3, PRECISION)
    else:
        NUM_C: tl.constexpr = (C + BLOCK_K - 1) // BLOCK_K
        b_taps_0 = taps_inside(o_h, o_w, m_m, h, w, R, S, DIL_H, DIL_W)
        b_taps_1 = taps_inside(o_h, o_w + STRIDE_W, m_m, h, w, R, S, DIL_H, DIL_W)
        b_taps_2 = taps_inside(o_h + STRIDE_H, o_w, m_m, h, w, R, S, DIL_H, DIL_W)
        b_taps_3 = taps_inside(o_h + STRIDE_H, o_w + STRIDE_W, m_m, h, w, R, S, DIL_H, DIL_W)
        p_x = p_x[:, None] + o_k[None, :] * stride_x_c
        p_w = p_w[None, :] + o_k[:, None] * stride_w_c
        for step in range(rolled(R * S * NUM_C, k) if R * S * NUM_C > 2 and R * S * NUM_C < 9 else R * S * NUM_C):
            tap = step // NUM_C
            r = tap // S
            c_0 = (step - tap * NUM_C) * BLOCK_K
            s = tap - r * S
            o_x = (zero + r * DIL_H) * stride_x_h + (zero + s * DIL_W) * stride_x_w + (zero + c_0) * stride_x_c
            o_f = r * stride_w_r + s * stride_w_s + c_0 * stride_w_c
            if CHUNK < 16:  # Triton sees by itself that a step is a multiple of 16
                o_x, o_f = o_x + nothing(), o_f + nothing()
            o_x1 = tl.multiple_of(o_x + o_right, CHUNK)
            o_x2 = tl.multiple_of(o_x + o_down, CHUNK)
            o_x3 = tl.multiple_of(o_x + (o_down + o_right), CHUNK)
            o_x = tl.multiple_of(o_x, CHUNK)
            o_f = tl.multiple_of(o_f, CHUNK)
            m_c = (c_0 + o_k < C)[None, :]
            m_w = m_n[None, :] & (c_0 + o_k < C)[:, None] if C % BLOCK_K != 0 else m_n[None, :]
            b_w = tl.load(p_w + o_f, mask=m_w, other=0.0)
            m = tap_inside(b_taps_0, o_h, o_w, m_m, h, w, tap, r, s, R * S, DIL_H, DIL_W)[:, None]
            b_x = tl.load(p_x + o_x, mask=m & m_c if C % BLOCK_K != 0 else m, other=0.0)
            b_0 = dot(b_x, b_w, b_0, PRECISION)
            m = tap_inside(b_taps_1, o_h, o_w + STRIDE_W, m_m, h, w, tap, r, s, R * S, DIL_H, DIL_W)[:, None]
            b_x = tl.load(p_x + o_x1, mask=m & m_c if C % BLOCK_K != 0 else m, other=0.0)
            b_1 = dot(b_x, b_w, b_1, PRECISION)
            m = tap_inside(b_taps_2, o_h + STRIDE_H, o_w, m_m, h, w, tap, r, s, R * S, DIL_H, DIL_W)[:, None]
            b_x = tl.load(p_x + o_x2, mask=m & m_c if C % BLOCK_K != 0 else m, other=0.0)
            b_2 = dot(b_x, b_w, b_2, PRECISION)
            m = tap_inside(b_taps_3, o_h + STRIDE_H, o_w + STRIDE_W, m_m, h, w, tap, r, s, R * S, DIL_H, DIL_W)[:, None]
            b_x = tl.load(p_x + o_x3, mask=m & m_c if C % BLOCK_K != 0 else m, other=0.0)
            b_3 = dot(b_x, b_w, b_3, PRECISION)

    b_bias = tl.zeros((1, BLOCK_N), ACC)
    if HAS_BIAS:
        b_bias = tl.load(bias_ptr + i_g * k + o_n, mask=m_n, other=0.0).to(ACC)[None, :]
    b_y, b_code = pooled(b_0, b_1, b_2, b_3, b_bias, AVERAGE, y_ptr.dtype.element_ty)

    o_y = i_g * k * stride_y_k + (o_i * stride_y_n + o_p * stride_y_p + o_q * stride_y_q)
    o_y = tl.multiple_of(o_y, CHUNK_Y) if CHUNK_Y > 1 else o_y
    m_n = tl.max_constancy(m_n, CHUNK_Y) if CHUNK_Y > 1 else m_n
    o_y = o_y[:, None] + ((zero + o_n) * stride_y_k)[None, :]
    m_y = m_m[:, None] & m_n[None, :]
    tl.store(y_ptr + o_y, b_y.to(y_ptr.dtype.element_ty), mask=m_y)
    if HAS_CODE:
        tl.store(code_ptr + o_y, b_code.to(tl.uint8), mask=m_y)
