"""Convolution + bias + ReLU + 2x2 pool with the batch as the tall side, by TMA: fprop.py with four accumulators.

z[j][M, N] = sum over taps of x[h_j, w_j][M, K] @ w[r, s][N, K]^T     for the four positions j of one pooling window
y[M, N]    = pool over j of relu(z[j] + bias)
M = n   images; N = k output channels; K = c input channels for each tap

The four products of a step share the weight tile. TMA fills with zeros what lies outside the image.
"""

import triton
import triton.language as tl

from kernels.common.jit import dot, unravel
from kernels.conv2d.common.epilogue import pooled
from kernels.conv2d.common.order import place


@triton.jit
def batch_fprop_pool_kernel(
    x_desc,
    w_desc,
    bias_ptr,
    y_desc,
    code_ptr,
    n,
    k,
    p,
    q,
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
    DTYPE: tl.constexpr,
    INDEX: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    NUM_C: tl.constexpr = C // BLOCK_K
    num_n = tl.cdiv(k, BLOCK_N)
    i_row, i_n, _ = place(tl.program_id(0), tl.cdiv(n, BLOCK_M) * p * q, num_n, 1)
    i_m, i_p, i_q = unravel(i_row, p, q)
    o_h = i_p * 2 * STRIDE_H - PAD_H
    o_w = i_q * 2 * STRIDE_W - PAD_W
    m_0 = i_m * BLOCK_M

    b_0 = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    b_1 = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    b_2 = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    b_3 = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for step in range(R * S * NUM_C):
        tap = step // NUM_C
        c_0 = (step - tap * NUM_C) * BLOCK_K
        o_row = o_h + tap // S * DIL_H
        o_col = o_w + tap % S * DIL_W
        b_w = w_desc.load([i_n * BLOCK_N, tap * C + c_0]).T
        b_0 = dot(x_desc.load([o_row, o_col, m_0, c_0]).reshape(BLOCK_M, BLOCK_K), b_w, b_0, PRECISION)
        b_1 = dot(x_desc.load([o_row, o_col + STRIDE_W, m_0, c_0]).reshape(BLOCK_M, BLOCK_K), b_w, b_1, PRECISION)
        o_row += STRIDE_H
        b_2 = dot(x_desc.load([o_row, o_col, m_0, c_0]).reshape(BLOCK_M, BLOCK_K), b_w, b_2, PRECISION)
        b_3 = dot(x_desc.load([o_row, o_col + STRIDE_W, m_0, c_0]).reshape(BLOCK_M, BLOCK_K), b_w, b_3, PRECISION)

    o_n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    b_bias = tl.zeros((1, BLOCK_N), tl.float32)
    if HAS_BIAS:
        b_bias = tl.load(bias_ptr + o_n, mask=o_n < k, other=0.0).to(tl.float32)[None, :]
    b_y, b_code = pooled(b_0, b_1, b_2, b_3, b_bias, AVERAGE, DTYPE)
    y_desc.store([i_p, i_q, m_0, i_n * BLOCK_N], b_y.to(DTYPE).reshape(1, 1, BLOCK_M, BLOCK_N))
    if HAS_CODE:
        zero = tl.full((), 0, INDEX)
        o_m = zero + m_0 + tl.arange(0, BLOCK_M)
        o_code = (((o_m * p + i_p) * q + i_q) * k)[:, None] + o_n[None, :]
        tl.store(code_ptr + o_code, b_code.to(tl.uint8), mask=(o_m < n)[:, None] & (o_n < k)[None, :])
