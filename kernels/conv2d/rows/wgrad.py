"""Weight gradient over few channels from padded rows (pack.py), in two deterministic passes.

dw[split][M, N] = dz[K, M]^T @ windows(x)[K, N]
M = k           output channels
N = r * s * c   R runs of RUN adjacent elements
K = n * p * q   output pixels, BLOCK_K of one output row a step; the steps are divided among the splits

Within an output row the windows are evenly spaced, so that a step's addresses are the tile's plus one number.
"""

import triton
import triton.language as tl

from kernels.common.jit import dot


@triton.jit
def rows_wgrad_kernel(
    dy_ptr,
    rows_ptr,
    dw_ptr,
    steps,
    steps_per_split,
    k,
    p,
    q,
    stride_dy_n,
    stride_dy_k,
    stride_dy_p,
    stride_dy_q,
    stride_x_n,
    stride_x_h,
    stride_dw_split,
    stride_dw_k,
    stride_dw_c,
    stride_dw_r,
    stride_dw_s,
    C: tl.constexpr,
    CPAD: tl.constexpr,
    R: tl.constexpr,
    RUN: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STEP: tl.constexpr,
    INDEX: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    num_m = tl.cdiv(k, BLOCK_M)
    num_n: tl.constexpr = (R * RUN + BLOCK_N - 1) // BLOCK_N
    i_n = tl.program_id(0) % num_n
    i_m = tl.program_id(0) // num_n % num_m
    i_split = (tl.program_id(0) // num_n // num_m).to(tl.int64)
    zero = tl.full((), 0, INDEX)
    o_m = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
    o_n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    m_m = o_m < k
    m_n = o_n < R * RUN
    o_k = tl.arange(0, BLOCK_K)
    p_dy = dy_ptr + ((zero + o_m) * stride_dy_k)[:, None] + (o_k * stride_dy_q)[None, :]
    p_x = rows_ptr + (o_k * STEP)[:, None] + (o_n // RUN * stride_x_h + o_n % RUN)[None, :]

    num_q = tl.cdiv(q, BLOCK_K)
    first = i_split.to(INDEX) * steps_per_split
    b_dw = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    for step in range(first, tl.minimum(first + steps_per_split, steps)):
        row = step // num_q
        q_0 = (step - row * num_q) * BLOCK_K
        i = row // p
        o_dy = i * stride_dy_n + (row - i * p) * stride_dy_p + q_0 * stride_dy_q
        o_x = i * stride_x_n + (row - i * p) * STRIDE_H * stride_x_h + q_0 * STEP
        m_k = o_k < q - q_0
        b_dy = tl.load(p_dy + o_dy, mask=m_m[:, None] & m_k[None, :], other=0.0)
        b_x = tl.load(p_x + o_x, mask=m_k[:, None] & m_n[None, :], other=0.0)
        b_dw = dot(b_dy, b_x, b_dw, PRECISION)

    o_c = o_n % CPAD
    o_dw = o_n // RUN * stride_dw_r + o_n % RUN // CPAD * stride_dw_s + o_c * stride_dw_c
    p_dw = dw_ptr + i_split * stride_dw_split + o_m * stride_dw_k
    m_dw = m_m[:, None] & (m_n & (o_c < C))[None, :]
    tl.store(p_dw[:, None] + o_dw[None, :], b_dw.to(dw_ptr.dtype.element_ty), mask=m_dw)
