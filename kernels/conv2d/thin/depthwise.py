"""Depthwise convolution (one input and one output channel a group) by rows that stream through registers.

fprop   y[t, q, c] += x[t * stride + r - pad, q * stride + s - pad, c] * w[c, r, s]
wgrad   dw[split][c, r, s] = sum over the split's pixels of dy[p, q, c] * x[...]

A program of fprop holds ROWS output rows of BLOCK_Q columns and BLOCK_C channels, and reads each input row once for all
the output rows that it touches. A program of wgrad keeps one sum for each of TAP_ROWS * S taps and reads dy once for
all of them. The input gradient is in depthwise_dgrad.py.
"""

import triton
import triton.language as tl

from kernels.common.jit import relu, unravel


@triton.jit
def depthwise_kernel(
    x_ptr,
    w_ptr,
    bias_ptr,
    y_ptr,
    c,
    h,
    w,
    p,
    q,
    stride_x_n,
    stride_x_c,
    stride_x_h,
    stride_x_w,
    stride_w_c,
    stride_w_r,
    stride_w_s,
    stride_y_n,
    stride_y_c,
    stride_y_p,
    stride_y_q,
    R: tl.constexpr,
    S: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    RELU: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    num_c = tl.cdiv(c, BLOCK_C)
    num_q = tl.cdiv(q, BLOCK_Q)
    num_p = tl.cdiv(p, ROWS)
    i_c = tl.program_id(0) % num_c
    i_q = tl.program_id(0) // num_c % num_q
    i_p = tl.program_id(0) // num_c // num_q % num_p
    zero = tl.full((), 0, INDEX)
    i_n = zero + tl.program_id(0) // num_c // num_q // num_p
    o_c = i_c * BLOCK_C + tl.arange(0, BLOCK_C)
    o_q = i_q * BLOCK_Q + tl.arange(0, BLOCK_Q)
    m_c = o_c < c
    p_x = x_ptr + (i_n * stride_x_n + (zero + o_c) * stride_x_c)[None, :]  # [1, BLOCK_C]
    p_w = w_ptr + (zero + o_c) * stride_w_c

    b_y = ()
    for _ in tl.static_range(ROWS):
        b_y = b_y + (tl.zeros((BLOCK_Q, BLOCK_C), ACC),)
    for row in tl.static_range((ROWS - 1) * STRIDE_H + R):
        o_h = i_p * (ROWS * STRIDE_H) - PAD_H + row
        for s in tl.static_range(S):
            o_w = o_q * STRIDE_W - PAD_W + s
            m_x = ((o_h >= 0) & (o_h < h) & (o_w >= 0) & (o_w < w))[:, None] & m_c[None, :]
            o_x = ((zero + o_h) * stride_x_h + (zero + o_w) * stride_x_w)[:, None]
            b_x = tl.load(p_x + o_x, mask=m_x, other=0.0).to(ACC)
            b_next = ()
            for t in tl.static_range(ROWS):
                if row - t * STRIDE_H >= 0 and row - t * STRIDE_H < R:
                    o_f = (row - t * STRIDE_H) * stride_w_r + s * stride_w_s
                    b_w = tl.load(p_w + o_f, mask=m_c, other=0.0).to(ACC)
                    b_next = b_next + (b_y[t] + b_x * b_w[None, :],)
                else:
                    b_next = b_next + (b_y[t],)
            b_y = b_next
    b_bias = tl.zeros((1, BLOCK_C), ACC)
    if HAS_BIAS:
        b_bias = tl.load(bias_ptr + o_c, mask=m_c, other=0.0).to(ACC)[None, :]
    o_y = (i_n * stride_y_n + (zero + o_c) * stride_y_c)[None, :] + ((zero + o_q) * stride_y_q)[:, None]
    for t in tl.static_range(ROWS):
        b_out = b_y[t] + b_bias
        if RELU:
            b_out = relu(b_out)
        o_p = i_p * ROWS + t
        m_y = ((o_q < q) & (o_p < p))[:, None] & m_c[None, :]
        tl.store(y_ptr + (o_y + (zero + o_p) * stride_y_p), b_out.to(y_ptr.dtype.element_ty), mask=m_y)


@triton.jit
def depthwise_wgrad_kernel(
    dy_ptr,
    x_ptr,
    dw_ptr,
    pixels,
    pixels_per_split,
    c,
    h,
    w,
    p,
    q,
    stride_dy_n,
    stride_dy_c,
    stride_dy_p,
    stride_dy_q,
    stride_x_n,
    stride_x_c,
    stride_x_h,
    stride_x_w,
    stride_dw_split,
    stride_dw_c,
    stride_dw_r,
    stride_dw_s,
    R: tl.constexpr,
    S: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    TAP_ROWS: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    num_c = tl.cdiv(c, BLOCK_C)
    i_c = tl.program_id(0) % num_c
    num_r: tl.constexpr = (R + TAP_ROWS - 1) // TAP_ROWS
    i_r = tl.program_id(0) // num_c % num_r * TAP_ROWS
    i_split = (tl.program_id(0) // num_c // num_r).to(tl.int64)
    zero = tl.full((), 0, INDEX)
    o_c = i_c * BLOCK_C + tl.arange(0, BLOCK_C)
    m_c = o_c < c
    p_dy = dy_ptr + ((zero + o_c) * stride_dy_c)[None, :]
    p_x = x_ptr + ((zero + o_c) * stride_x_c)[None, :]
    first = i_split.to(INDEX) * pixels_per_split
    last = tl.minimum(first + pixels_per_split, pixels)
    b_dw = ()
    for _ in tl.static_range(TAP_ROWS * S):
        b_dw = b_dw + (tl.zeros((BLOCK_P, BLOCK_C), ACC),)
    for p_0 in range(0, pixels_per_split, BLOCK_P):
        o = first + p_0 + tl.arange(0, BLOCK_P)
        m_p = o < last
        o_i, o_p, o_q = unravel(o, p, q)
        o_dy = o_i * stride_dy_n + o_p * stride_dy_p + o_q * stride_dy_q
        b_dy = tl.load(p_dy + o_dy[:, None], mask=m_p[:, None] & m_c[None, :], other=0.0).to(ACC)
        o_h = o_p * STRIDE_H - PAD_H + i_r
        o_w = o_q * STRIDE_W - PAD_W
        o_x = o_i * stride_x_n + o_h * stride_x_h + o_w * stride_x_w
        b_next = ()
        for t in tl.static_range(TAP_ROWS * S):
            m_row = m_p & (o_h + t // S >= 0) & (o_h + t // S < h)
            m_x = (m_row & (o_w + t % S >= 0) & (o_w + t % S < w))[:, None] & m_c[None, :]
            o_tap = o_x + (zero + t // S) * stride_x_h + (zero + t % S) * stride_x_w
            b_x = tl.load(p_x + o_tap[:, None], mask=m_x, other=0.0).to(ACC)
            b_next = b_next + (b_dw[t] + b_dy * b_x,)
        b_dw = b_next
    p_dw = dw_ptr + i_split * stride_dw_split + o_c * stride_dw_c
    for t in tl.static_range(TAP_ROWS * S):
        b_sum = tl.sum(b_dw[t], axis=0)
        o_tap = (i_r + t // S) * stride_dw_r + t % S * stride_dw_s
        tl.store(p_dw + o_tap, b_sum.to(dw_ptr.dtype.element_ty), mask=m_c & (i_r + t // S < R))
