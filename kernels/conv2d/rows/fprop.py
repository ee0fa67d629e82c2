"""Forward convolution over few channels as a GEMM on padded rows (pack.py), pooled 2x2 if asked.

y[M, N] = windows(x)[M, K] @ w[N, K]^T
M = n * p * q   output pixels, or pooled ones with four sums each
N = k           output channels
K = r * s * c   R runs of RUN adjacent elements, padded to TOTAL

No element is tested for the image's edge: the rows carry it. Loads are as wide as the padded channels.
"""

import triton
import triton.language as tl

from kernels.common.jit import dot, near
from kernels.conv2d.common.epilogue import finish


@triton.jit
def rows_fprop_kernel(
    rows_ptr,
    matrix_ptr,
    bias_ptr,
    y_ptr,
    code_ptr,
    pixels,
    k,
    p,
    q,
    stride_x_n,
    stride_x_h,
    stride_y_n,
    stride_y_k,
    stride_y_p,
    stride_y_q,
    R: tl.constexpr,
    RUN: tl.constexpr,
    TOTAL: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STEP: tl.constexpr,
    POOL: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    RELU: tl.constexpr,
    AVERAGE: tl.constexpr,
    HAS_CODE: tl.constexpr,
    ALONG: tl.constexpr,
    INDEX: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """STEP: elements between the windows of neighbouring outputs. POOL: p and q count pooled pixels.

    ALONG: every run of so many outputs lies in one row, at adjacent addresses that are multiples of it.
    """
    num_n = tl.cdiv(k, BLOCK_N)
    i_n = tl.program_id(0) % num_n
    i_m = (tl.program_id(0) // num_n).to(INDEX)
    zero = tl.full((), 0, INDEX)
    EACH: tl.constexpr = 2 if POOL else 1
    o_m, o_i, o_p, o_q = near(i_m * BLOCK_M, p, q, BLOCK_M)
    m_m = o_m < pixels
    # Lanes beyond the last pixel read the first image again, and store nothing.
    o_i = tl.where(m_m, o_i, 0)
    o_n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    o_k = tl.arange(0, BLOCK_K)
    m_n = o_n < k
    p_x = rows_ptr + o_i * stride_x_n + ((zero + o_p * (EACH * STRIDE_H)) * stride_x_h + o_q * (EACH * STEP))
    p_w = matrix_ptr + (o_n[None, :] * TOTAL + o_k[:, None])

    b_0 = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    b_1 = b_0
    b_2 = b_0
    b_3 = b_0
    for k_0 in range(0, TOTAL, BLOCK_K):
        o_x = (k_0 + o_k) // RUN * stride_x_h + (k_0 + o_k) % RUN
        p_tap = p_x[:, None] + o_x[None, :]
        b_w = tl.load(p_w + k_0)
        if R * RUN == TOTAL:
            b_0 = dot(tl.load(p_tap), b_w, b_0, PRECISION)
            if POOL:
                b_1 = dot(tl.load(p_tap + STEP), b_w, b_1, PRECISION)
                b_2 = dot(tl.load(p_tap + STRIDE_H * stride_x_h), b_w, b_2, PRECISION)
                b_3 = dot(tl.load(p_tap + (STRIDE_H * stride_x_h + STEP)), b_w, b_3, PRECISION)
        else:
            m_x = (k_0 + o_k < R * RUN)[None, :]
            b_0 = dot(tl.load(p_tap, mask=m_x, other=0.0), b_w, b_0, PRECISION)
            if POOL:
                p_down = p_tap + STRIDE_H * stride_x_h
                b_1 = dot(tl.load(p_tap + STEP, mask=m_x, other=0.0), b_w, b_1, PRECISION)
                b_2 = dot(tl.load(p_down, mask=m_x, other=0.0), b_w, b_2, PRECISION)
                b_3 = dot(tl.load(p_down + STEP, mask=m_x, other=0.0), b_w, b_3, PRECISION)

    b_bias = tl.zeros((1, BLOCK_N), ACC)
    if HAS_BIAS:
        b_bias = tl.load(bias_ptr + o_n, mask=m_n, other=0.0).to(ACC)[None, :]
    o_y = o_i * stride_y_n + (o_p * stride_y_p + o_q * stride_y_q)
    o_column = (zero + o_n) * stride_y_k
    if ALONG > 1:
        m_m = tl.max_constancy(m_m, ALONG)
        o_y = tl.max_contiguous(tl.multiple_of(o_y, ALONG), ALONG)
        o_column = tl.multiple_of(o_column, ALONG)
    finish(b_0, b_1, b_2, b_3, b_bias, y_ptr, code_ptr, o_y, o_column, m_m, m_n, POOL, RELU, AVERAGE, HAS_CODE)
