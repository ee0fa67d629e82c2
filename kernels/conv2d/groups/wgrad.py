"""Weight gradient of thin groups, several at once, in two deterministic passes.

dw[split][M, N] = dy[K, M]^T @ x[K, N] for one tap; of the product only the blocks on the diagonal are kept
M = PACK * OUT   output channels of PACK neighbouring groups
N = PACK * IN    their input channels
K = n * p * q    output pixels, divided among the splits
"""

import triton
import triton.language as tl

from kernels.common.jit import dot, near


@triton.jit
def groups_wgrad_kernel(
    dy_ptr,
    x_ptr,
    dw_ptr,
    pixels,
    pixels_per_split,
    h,
    w,
    c,
    k,
    p,
    q,
    stride_dy_n,
    stride_dy_p,
    stride_dy_q,
    stride_x_n,
    stride_x_h,
    stride_x_w,
    stride_dw_split,
    stride_dw_k,
    stride_dw_c,
    stride_dw_r,
    stride_dw_s,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    R: tl.constexpr,
    S: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    DIL_H: tl.constexpr,
    DIL_W: tl.constexpr,
    INDEX: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Maps have adjacent channels: c of x, k of dy, IN and OUT in each group."""
    num_m = tl.cdiv(k, BLOCK_M)
    tap = tl.program_id(0) % (R * S)
    i_m = tl.program_id(0) // (R * S) % num_m
    i_split = (tl.program_id(0) // (R * S) // num_m).to(tl.int64)
    zero = tl.full((), 0, INDEX)
    r = tap // S
    s = tap - r * S
    o_m = tl.arange(0, BLOCK_M)
    o_n = tl.arange(0, BLOCK_N)
    m_m = i_m * BLOCK_M + o_m < k
    m_n = i_m * BLOCK_N + o_n < c
    p_dy = dy_ptr + (i_m * BLOCK_M + o_m)[:, None]
    p_x = x_ptr + (i_m * BLOCK_N + o_n)[None, :]
    first = i_split.to(INDEX) * pixels_per_split
    last = tl.minimum(first + pixels_per_split, pixels)
    b_dw = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    for k_0 in range(0, pixels_per_split, BLOCK_K):
        o_k, o_i, o_p, o_q = near(first + k_0, p, q, BLOCK_K)
        m_k = o_k < last
        o_h = o_p * STRIDE_H - PAD_H + r * DIL_H
        o_w = o_q * STRIDE_W - PAD_W + s * DIL_W
        m_x = m_k & (o_h >= 0) & (o_h < h) & (o_w >= 0) & (o_w < w)
        o_dy = o_i * stride_dy_n + (zero + o_p) * stride_dy_p + (zero + o_q) * stride_dy_q
        o_x = o_i * stride_x_n + (zero + o_h) * stride_x_h + (zero + o_w) * stride_x_w
        b_dy = tl.load(p_dy + o_dy[None, :], mask=m_m[:, None] & m_k[None, :], other=0.0)
        b_x = tl.load(p_x + o_x[:, None], mask=m_x[:, None] & m_n[None, :], other=0.0)
        b_dw = dot(b_dy, b_x, b_dw, PRECISION)

    o_dw = (zero + i_m * BLOCK_M + o_m) * stride_dw_k + r * stride_dw_r + s * stride_dw_s
    p_dw = dw_ptr + i_split * stride_dw_split + o_dw[:, None] + (o_n % IN * stride_dw_c)[None, :]
    m_dw = ((o_m // OUT)[:, None] == (o_n // IN)[None, :]) & m_m[:, None] & m_n[None, :]
    tl.store(p_dw, b_dw.to(dw_ptr.dtype.element_ty), mask=m_dw)
