"""Forward convolution as an implicit GEMM.

y[M, N] = im2col(x)[M, K] @ w[N, K]^T
M = n * p * q   output pixels
N = k           output channels of one group
K = r * s * c   filter taps, channels fastest

A small problem is cut along K as well (SPLIT): y is then float32 partial sums, which splits.reduce adds up before bias
and ReLU.

Two orders of K. Blocked: one flat loop over taps x channel blocks, so that a step reads one tap and its image test is
one comparison per pixel. Flat (few channels): a step takes BLOCK_K consecutive (r, s, c), so that little is padding.
"""

import triton
import triton.language as tl

from kernels.common.jit import dot, nothing, relu, tap_inside, taps_inside, unravel
from kernels.conv2d.common.order import place, share


@triton.jit
def fprop_kernel(
    x_ptr,
    w_ptr,
    bias_ptr,
    y_ptr,
    pixels,
    h,
    w,
    k,
    p,
    q,
    splits,
    stride_x_n,
    stride_x_c,
    stride_x_h,
    stride_x_w,
    stride_w_k,
    stride_w_c,
    stride_w_r,
    stride_w_s,
    stride_y_split,
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
    RELU: tl.constexpr,
    FLAT: tl.constexpr,
    SPLIT: tl.constexpr,
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
    i_rest = tl.program_id(0) // (num_m * num_n)
    i_split = i_rest % splits
    i_g = (i_rest // splits).to(tl.int64)

    zero = tl.full((), 0, INDEX)  # makes an offset as wide as INDEX
    o_m = i_m.to(INDEX) * BLOCK_M + tl.arange(0, BLOCK_M)
    o_n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    o_k = tl.arange(0, BLOCK_K)
    m_m = o_m < pixels
    m_n = o_n < k
    o_i, o_p, o_q = unravel(o_m, p, q)
    o_h = o_p * STRIDE_H - PAD_H
    o_w = o_q * STRIDE_W - PAD_W
    o_pixel = o_i * stride_x_n + (o_h * stride_x_h + o_w * stride_x_w)
    o_filter = i_g * k * stride_w_k + (zero + o_n) * stride_w_k
    if CHUNK > 1:
        o_pixel = tl.multiple_of(o_pixel, CHUNK)
        o_filter = tl.multiple_of(o_filter, CHUNK)
    p_x = x_ptr + i_g * C * stride_x_c + o_pixel  # [BLOCK_M]
    p_w = w_ptr + o_filter  # [BLOCK_N]

    b_y = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    if FLAT:
        for k_0 in range(0, R * S * C, BLOCK_K):
            o_c = (k_0 + o_k) % C
            o_tap = (k_0 + o_k) // C
            o_r = o_tap // S
            o_s = o_tap % S
            m_k = o_tap < R * S
            o_row = o_h[:, None] + o_r[None, :] * DIL_H
            o_col = o_w[:, None] + o_s[None, :] * DIL_W
            m_x = m_m[:, None] & m_k[None, :] & (o_row >= 0) & (o_row < h) & (o_col >= 0) & (o_col < w)
            o_x = (zero + o_r * DIL_H) * stride_x_h + (zero + o_s * DIL_W) * stride_x_w + (zero + o_c) * stride_x_c
            o_f = o_r * stride_w_r + o_s * stride_w_s + o_c * stride_w_c
            b_x = tl.load(p_x[:, None] + o_x[None, :], mask=m_x, other=0.0)
            b_w = tl.load(p_w[None, :] + o_f[:, None], mask=m_n[None, :] & m_k[:, None], other=0.0)
            b_y = dot(b_x, b_w, b_y, PRECISION)
    else:
        NUM_C: tl.constexpr = (C + BLOCK_K - 1) // BLOCK_K
        b_taps = taps_inside(o_h, o_w, m_m, h, w, R, S, DIL_H, DIL_W)
        p_x = p_x[:, None] + o_k[None, :] * stride_x_c
        p_w = p_w[None, :] + o_k[:, None] * stride_w_c
        first = 0
        last = R * S * NUM_C
        if SPLIT:
            first, last = share(R * S * NUM_C, i_split, splits)
        for step in range(first, last):
            tap = step // NUM_C
            r = tap // S
            c_0 = (step - tap * NUM_C) * BLOCK_K
            s = tap - r * S
            o_x = (zero + r * DIL_H) * stride_x_h + (zero + s * DIL_W) * stride_x_w + (zero + c_0) * stride_x_c
            o_f = r * stride_w_r + s * stride_w_s + c_0 * stride_w_c
            if NUM_C == 1:
                o_x += nothing()
                o_f += nothing()
            o_x = tl.multiple_of(o_x, CHUNK)
            o_f = tl.multiple_of(o_f, CHUNK)
            m_x = tap_inside(b_taps, o_h, o_w, m_m, h, w, tap, r, s, R * S, DIL_H, DIL_W)[:, None]
            m_w = m_n[None, :]
            if C % BLOCK_K != 0:
                m_x = m_x & (c_0 + o_k < C)[None, :]
                m_w = m_w & (c_0 + o_k < C)[:, None]
            b_x = tl.load(p_x + o_x, mask=m_x, other=0.0)
            b_w = tl.load(p_w + o_f, mask=m_w, other=0.0)
            b_y = dot(b_x, b_w, b_y, PRECISION)

    if HAS_BIAS:
        b_y += tl.load(bias_ptr + i_g * k + o_n, mask=m_n, other=0.0).to(ACC)[None, :]
    if RELU:
        b_y = relu(b_y)
    o_first = i_g * k * stride_y_k
    if SPLIT:
        o_first += i_split.to(tl.int64) * stride_y_split
    o_y = o_first + (o_i * stride_y_n + o_p * stride_y_p + o_q * stride_y_q)
    if CHUNK_Y > 1:
        o_y = tl.multiple_of(o_y, CHUNK_Y)
        m_n = tl.max_constancy(m_n, CHUNK_Y)
    p_y = y_ptr + o_y[:, None] + ((zero + o_n) * stride_y_k)[None, :]
    tl.store(p_y, b_y.to(y_ptr.dtype.element_ty), mask=m_m[:, None] & m_n[None, :])
