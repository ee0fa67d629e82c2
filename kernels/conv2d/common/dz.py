"""From the gradient of an activated (and pooled) map to the gradient of the convolution's output and of its bias.

dz[M, N] = dy[M, N] where y[M, N] > 0                              after conv + ReLU
dz[M, N] = dy[window of M, N] * share of (M, N) in its window      after conv + ReLU + 2x2 pool, from the code
db[N]    = sum over M of dz[M, N]                                  in two passes, without atomics
M = n * p * q   output pixels of the convolution
N = k           output channels of all groups
"""

import triton
import triton.language as tl

from kernels.common.jit import unravel


@triton.jit
def dz_kernel(
    dy_ptr,
    y_ptr,
    dz_ptr,
    db_ptr,
    pixels,
    pixels_per_split,
    k,
    p,
    q,
    pooled_p,
    pooled_q,
    stride_dy_n,
    stride_dy_k,
    stride_dy_p,
    stride_dy_q,
    stride_y_n,
    stride_y_k,
    stride_y_p,
    stride_y_q,
    stride_dz_n,
    stride_dz_k,
    stride_dz_p,
    stride_dz_q,
    MODE: tl.constexpr,
    HAS_DZ: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """MODE "bias": dz = dy. "relu": y is the activated map. "max", "average": y is the pool's code (see fprop_pool)."""
    num_n = tl.cdiv(k, BLOCK_N)
    i_n = tl.program_id(0) % num_n
    i_split = (tl.program_id(0) // num_n).to(tl.int64)
    zero = tl.full((), 0, INDEX)
    o_n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    m_n = o_n < k
    first = i_split.to(INDEX) * pixels_per_split
    last = tl.minimum(first + pixels_per_split, pixels)
    b_db = tl.zeros((BLOCK_N,), ACC)
    for m_0 in range(0, pixels_per_split, BLOCK_M):
        o_m = first + m_0 + tl.arange(0, BLOCK_M)
        o_i, o_p, o_q = unravel(o_m, p, q)
        m = (o_m < last)[:, None] & m_n[None, :]
        if MODE == "max" or MODE == "average":
            o_u = o_p // 2
            o_v = o_q // 2
            m_y = m & ((o_u < pooled_p) & (o_v < pooled_q))[:, None]
        else:
            o_u = o_p
            o_v = o_q
            m_y = m
        o_dy = (o_i * stride_dy_n + (o_u * stride_dy_p + o_v * stride_dy_q))[:, None]
        b_dz = tl.load(dy_ptr + (o_dy + ((zero + o_n) * stride_dy_k)[None, :]), mask=m_y, other=0.0).to(ACC)
        if MODE != "bias":
            o_y = (o_i * stride_y_n + (o_u * stride_y_p + o_v * stride_y_q))[:, None]
            b_y = tl.load(y_ptr + (o_y + ((zero + o_n) * stride_y_k)[None, :]), mask=m_y, other=0)
            o_position = ((o_p % 2) * 2 + o_q % 2)[:, None]
            if MODE == "relu":
                b_dz = tl.where(b_y <= 0, 0.0, b_dz)
            elif MODE == "max":
                b_dz = tl.where(b_y.to(tl.int32) == o_position, b_dz, 0.0)
            else:
                b_dz = tl.where((b_y.to(tl.int32) >> o_position) & 1 == 1, b_dz * 0.25, 0.0)
        b_dz = tl.where(m_y, b_dz, 0.0)
        if HAS_DZ:
            o_dz = (o_i * stride_dz_n + (o_p * stride_dz_p + o_q * stride_dz_q))[:, None]
            o_dz += ((zero + o_n) * stride_dz_k)[None, :]
            tl.store(dz_ptr + o_dz, b_dz.to(dz_ptr.dtype.element_ty), mask=m)
        b_db += tl.sum(b_dz, axis=0)
    tl.store(db_ptr + i_split * k + o_n, b_db, mask=m_n)
