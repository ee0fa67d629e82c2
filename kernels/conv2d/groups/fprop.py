"""Convolution in thin groups as a GEMM over several groups at once: the weights form a block diagonal.

y[M, N] = sum over taps of x[M, BLOCK_K] @ w[BLOCK_K, N]     w[c, k] = 0 where c and k are of different groups
M = n * p * q         output pixels
N = PACK * OUT        output channels of PACK neighbouring groups
K = PACK * IN         their input channels, in each of r * s taps

The zeros cost products that tensor cores have to spare, and save what a thin group cannot have: long rows of adjacent
channels. In one thing they are no zeros: an infinity or NaN times zero is NaN, in groups that do not hold it. A program
that finds a NaN among its sums therefore computes them again, group by group.

TRANSPOSED is the input gradient of stride 1: x is dy, and the weights are read with channels exchanged, taps flipped.
"""

import triton
import triton.language as tl

from kernels.common.jit import dot, near, relu, tap_inside, taps_inside


@triton.jit
def groups_fprop_kernel(
    x_ptr,
    w_ptr,
    bias_ptr,
    y_ptr,
    pixels,
    h,
    w,
    c,
    k,
    p,
    q,
    stride_x_n,
    stride_x_h,
    stride_x_w,
    stride_y_n,
    stride_y_p,
    stride_y_q,
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
    TRANSPOSED: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    RELU: tl.constexpr,
    INDEX: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Maps have adjacent channels: c of x, k of y, IN and OUT in each group. w is dense [channels, R, S, group]."""
    WIDTH: tl.constexpr = OUT if TRANSPOSED else IN
    FILTER: tl.constexpr = R * S * WIDTH
    PACK: tl.constexpr = BLOCK_K // IN
    num_n = tl.cdiv(k, BLOCK_N)
    i_n = tl.program_id(0) % num_n
    zero = tl.full((), 0, INDEX)
    o_m, o_i, o_p, o_q = near((tl.program_id(0) // num_n).to(INDEX) * BLOCK_M, p, q, BLOCK_M)
    m_m = o_m < pixels
    o_n = tl.arange(0, BLOCK_N)
    o_k = tl.arange(0, BLOCK_K)
    m_n = i_n * BLOCK_N + o_n < k
    m_k = i_n * BLOCK_K + o_k < c
    o_h = o_p * STRIDE_H - PAD_H
    o_w = o_q * STRIDE_W - PAD_W
    p_x = x_ptr + (o_i * stride_x_n + (zero + o_h) * stride_x_h + (zero + o_w) * stride_x_w)
    p_x = p_x[:, None] + (i_n * BLOCK_K + o_k)[None, :]
    if TRANSPOSED:
        p_w = w_ptr + (R * S - 1) * WIDTH + ((i_n * BLOCK_K + o_k) * FILTER)[:, None] + (o_n % OUT)[None, :]
    else:
        p_w = w_ptr + (o_k % IN)[:, None] + ((i_n * BLOCK_N + o_n) * FILTER)[None, :]
    m_w = (o_k // IN)[:, None] == (o_n // OUT)[None, :]
    m_w = m_w & m_k[:, None] & m_n[None, :]
    b_taps = taps_inside(o_h, o_w, m_m, h, w, R, S, DIL_H, DIL_W)

    b_y = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    for tap in range(R * S):
        r = tap // S
        s = tap - r * S
        m_x = tap_inside(b_taps, o_h, o_w, m_m, h, w, tap, r, s, R * S, DIL_H, DIL_W)[:, None] & m_k[None, :]
        o_x = (zero + r * DIL_H) * stride_x_h + (zero + s * DIL_W) * stride_x_w
        b_x = tl.load(p_x + o_x, mask=m_x, other=0.0)
        b_w = tl.load(p_w - tap * WIDTH if TRANSPOSED else p_w + tap * WIDTH, mask=m_w, other=0.0)
        b_y = dot(b_x, b_w, b_y, PRECISION)
    # Seldom entered. A branch around the loops would take more registers.
    found = tl.max(tl.where(b_y != b_y, 1, 0), axis=None)
    for group in tl.range(0, PACK * found, num_stages=1):
        m_own = (o_k // IN == group)[None, :] & m_k[None, :]
        b_own = tl.zeros((BLOCK_M, BLOCK_N), ACC)
        for tap in tl.range(0, R * S * found, num_stages=1):
            r = tap // S
            s = tap - r * S
            m_x = tap_inside(b_taps, o_h, o_w, m_m, h, w, tap, r, s, R * S, DIL_H, DIL_W)[:, None] & m_own
            o_x = (zero + r * DIL_H) * stride_x_h + (zero + s * DIL_W) * stride_x_w
            b_x = tl.load(p_x + o_x, mask=m_x, other=0.0)
            b_w = tl.load(p_w - tap * WIDTH if TRANSPOSED else p_w + tap * WIDTH, mask=m_w, other=0.0)
            b_own = dot(b_x, b_w, b_own, PRECISION)
        b_y = tl.where((o_n // OUT == group)[None, :], b_own, b_y)

    if HAS_BIAS:
        b_y += tl.load(bias_ptr + i_n * BLOCK_N + o_n, mask=m_n, other=0.0).to(ACC)[None, :]
    if RELU:
        b_y = relu(b_y)
    o_y = (o_i * stride_y_n + (zero + o_p) * stride_y_p + (zero + o_q) * stride_y_q)[:, None]
    p_y = y_ptr + o_y + (i_n * BLOCK_N + o_n)[None, :]
    tl.store(p_y, b_y.to(y_ptr.dtype.element_ty), mask=m_m[:, None] & m_n[None, :])
