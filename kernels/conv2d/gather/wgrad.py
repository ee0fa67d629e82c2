"""Weight gradient as a GEMM whose sum runs over the output pixels, in two deterministic passes.

dw[split][M, N] = dy[K, M]^T @ im2col(x)[K, N]
M = k           output channels of one group
N = r * s * c   filter taps x input channels of one group, channels fastest
K = n * p * q   output pixels, divided among the splits

A program sums the pixels of one split; splits.reduce adds the splits in order. No atomics: equal bits from run to run.

Two orders of N, as in fprop. Blocked: a tile of N lies within one tap, so that where a pixel's input lies, and whether
that is inside the image, is one test a pixel; dy is dense in channels_last. Flat (few channels): N walks (r, s, c),
with a test for every element.
"""

import triton
import triton.language as tl

from kernels.common.jit import dot, unravel
from kernels.conv2d.common.order import place


@triton.jit
def wgrad_kernel(
    dy_ptr,
    x_ptr,
    dw_ptr,
    pixels,
    pixels_per_split,
    h,
    w,
    k,
    groups,
    stride_dy_n,
    stride_dy_k,
    stride_dy_p,
    stride_dy_q,
    stride_x_n,
    stride_x_c,
    stride_x_h,
    stride_x_w,
    stride_dw_split,
    stride_dw_k,
    stride_dw_c,
    stride_dw_r,
    stride_dw_s,
    P: tl.constexpr,
    Q: tl.constexpr,
    C: tl.constexpr,
    R: tl.constexpr,
    S: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    DIL_H: tl.constexpr,
    DIL_W: tl.constexpr,
    FLAT: tl.constexpr,
    CHUNK: tl.constexpr,
    INDEX: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    num_m = tl.cdiv(k, BLOCK_M)
    NUM_C: tl.constexpr = (C + BLOCK_N - 1) // BLOCK_N
    num_n: tl.constexpr = (R * S * C + BLOCK_N - 1) // BLOCK_N if FLAT else R * S * NUM_C
    i_m, i_n, _ = place(tl.program_id(0) % (num_m * num_n), num_m, num_n, 1)
    i_rest = tl.program_id(0) // (num_m * num_n)
    i_g = (i_rest % groups).to(tl.int64)
    i_split = (i_rest // groups).to(tl.int64)

    zero = tl.full((), 0, INDEX)
    o_m = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
    if FLAT:
        o_n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
        o_c = o_n % C
        o_tap = o_n // C
        m_n = o_tap < R * S
    else:
        o_c = i_n % NUM_C * BLOCK_N + tl.arange(0, BLOCK_N)
        o_tap = i_n // NUM_C
        m_n = o_c < C
    o_r = o_tap // S
    o_s = o_tap % S
    m_m = o_m < k
    o_g = i_g * k
    if CHUNK > 1:
        m_m = tl.max_constancy(m_m, CHUNK)
        o_g = tl.multiple_of(o_g, CHUNK)
    p_dy = dy_ptr + o_g * stride_dy_k + (zero + o_m) * stride_dy_k  # [BLOCK_M]
    p_x = x_ptr + i_g * C * stride_x_c + (zero + o_c) * stride_x_c  # [BLOCK_N]

    first = i_split.to(INDEX) * pixels_per_split
    last = tl.minimum(first + pixels_per_split, pixels)
    b_dw = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    for k_0 in range(0, pixels_per_split, BLOCK_K):
        o_k = first + k_0 + tl.arange(0, BLOCK_K)
        m_k = o_k < last
        o_i, o_p, o_q = unravel(o_k, P, Q)
        if FLAT:
            o_dy = o_i * stride_dy_n + (o_p * stride_dy_p + o_q * stride_dy_q)
        else:
            o_dy = o_k * (k * groups)
            if CHUNK > 1:
                o_dy = tl.multiple_of(o_dy, CHUNK)
        b_dy = tl.load(p_dy[:, None] + o_dy[None, :], mask=m_m[:, None] & m_k[None, :], other=0.0)
        o_h = o_p * STRIDE_H - PAD_H
        o_w = o_q * STRIDE_W - PAD_W
        o_image = o_i * stride_x_n
        if FLAT:
            o_h = o_h[:, None] + o_r[None, :] * DIL_H
            o_w = o_w[:, None] + o_s[None, :] * DIL_W
            m_x = m_k[:, None] & (o_h >= 0) & (o_h < h) & (o_w >= 0) & (o_w < w)
            o_x = o_image[:, None] + ((zero + o_h) * stride_x_h + (zero + o_w) * stride_x_w)
        else:
            o_h += o_r * DIL_H
            o_w += o_s * DIL_W
            # A negative row is a large one without its sign: one comparison in place of two.
            m_x = (m_k & (o_h.to(tl.uint32) < h) & (o_w.to(tl.uint32) < w))[:, None]
            o_x = o_image + ((zero + o_h) * stride_x_h + (zero + o_w) * stride_x_w)
            if CHUNK > 1:
                o_x = tl.multiple_of(o_x, CHUNK)
            o_x = o_x[:, None]
        b_x = tl.load(p_x[None, :] + o_x, mask=m_x & m_n[None, :], other=0.0)
        b_dw = dot(b_dy, b_x, b_dw, PRECISION)

    p_dw = dw_ptr + i_split * stride_dw_split + (i_g * k + o_m) * stride_dw_k
    o_dw = o_c * stride_dw_c + o_r * stride_dw_r + o_s * stride_dw_s
    tl.store(p_dw[:, None] + o_dw[None, :], b_dw.to(dw_ptr.dtype.element_ty), mask=m_m[:, None] & m_n[None, :])
