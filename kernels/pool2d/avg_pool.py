"""Average pooling, forward and backward, one lane an element in memory order.

forward   y[e] = sum over the window's taps inside the image / d        e over n * c * p * q
backward  dx[e] = sum over the windows that hold e of dy[window] / d    e over n * c * h * w

The divisor d is torch's: `divisor` when it is not 0; else the window clipped to the padded image (COUNT_PAD), or the
taps inside the image.
"""

import triton
import triton.language as tl

from kernels.common.jit import coordinates, first_tap


@triton.jit
def divisor_of(o_p, o_q, h, w, divisor, KH, KW, STRIDE_H, STRIDE_W, PAD_H, PAD_W, COUNT_PAD: tl.constexpr):
    """d of the window at output (o_p, o_q), as float32: window sizes are exact there."""
    o_top = o_p * STRIDE_H - PAD_H
    o_left = o_q * STRIDE_W - PAD_W
    if COUNT_PAD:
        rows = tl.minimum(o_top + KH, h + PAD_H) - o_top
        cols = tl.minimum(o_left + KW, w + PAD_W) - o_left
    else:
        rows = tl.minimum(o_top + KH, h) - tl.maximum(o_top, 0)
        cols = tl.minimum(o_left + KW, w) - tl.maximum(o_left, 0)
    return tl.where(divisor != 0, divisor, rows * cols)


@triton.jit
def avg_pool_kernel(
    x_ptr,
    y_ptr,
    numel,
    c,
    h,
    w,
    p,
    q,
    divisor,
    stride_x_n,
    stride_x_c,
    stride_x_h,
    stride_x_w,
    KH: tl.constexpr,
    KW: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    COUNT_PAD: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    zero = tl.full((), 0, INDEX)
    o = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    m = o < numel
    o_i, o_c, o_p, o_q = coordinates(o, c, p, q, CHANNELS_LAST)
    p_x = x_ptr + o_i * stride_x_n + (zero + o_c) * stride_x_c
    b_sum = tl.zeros((BLOCK,), ACC)
    for i in range(KH):
        o_h = o_p * STRIDE_H - PAD_H + i
        m_row = m & (o_h >= 0) & (o_h < h)
        for j in range(KW):
            o_w = o_q * STRIDE_W - PAD_W + j
            o_x = (zero + o_h) * stride_x_h + (zero + o_w) * stride_x_w
            b_sum += tl.load(p_x + o_x, mask=m_row & (o_w >= 0) & (o_w < w), other=0.0).to(ACC)
    b_d = divisor_of(o_p, o_q, h, w, divisor, KH, KW, STRIDE_H, STRIDE_W, PAD_H, PAD_W, COUNT_PAD)
    tl.store(y_ptr + o, (b_sum / b_d.to(ACC)).to(y_ptr.dtype.element_ty), mask=m)


@triton.jit
def avg_pool_backward_kernel(
    dy_ptr,
    dx_ptr,
    numel,
    c,
    h,
    w,
    p,
    q,
    divisor,
    stride_dy_n,
    stride_dy_c,
    stride_dy_p,
    stride_dy_q,
    KH: tl.constexpr,
    KW: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    COUNT_PAD: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    zero = tl.full((), 0, INDEX)
    o = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    m = o < numel
    o_i, o_c, o_h, o_w = coordinates(o, c, h, w, CHANNELS_LAST)
    p_dy = dy_ptr + o_i * stride_dy_n + (zero + o_c) * stride_dy_c
    i_first = first_tap(o_h + PAD_H, STRIDE_H, 1, STRIDE_H, KH)
    j_first = first_tap(o_w + PAD_W, STRIDE_W, 1, STRIDE_W, KW)
    b_dx = tl.zeros((BLOCK,), ACC)
    for a in range((KH + STRIDE_H - 1) // STRIDE_H):
        o_p = (o_h + PAD_H - i_first) // STRIDE_H - a
        m_row = m & (i_first + a * STRIDE_H < KH) & (o_p >= 0) & (o_p < p)
        for b in range((KW + STRIDE_W - 1) // STRIDE_W):
            o_q = (o_w + PAD_W - j_first) // STRIDE_W - b
            m_dy = m_row & (j_first + b * STRIDE_W < KW) & (o_q >= 0) & (o_q < q)
            o_dy = (zero + o_p) * stride_dy_p + (zero + o_q) * stride_dy_q
            b_dy = tl.load(p_dy + o_dy, mask=m_dy, other=0.0).to(ACC)
            b_d = divisor_of(o_p, o_q, h, w, divisor, KH, KW, STRIDE_H, STRIDE_W, PAD_H, PAD_W, COUNT_PAD)
            b_dx += tl.where(m_dy, b_dy / tl.where(m_dy, b_d, 1).to(ACC), 0.0)
    tl.store(dx_ptr + o, b_dx.to(dx_ptr.dtype.element_ty), mask=m)
