"""Average pooling with any window, forward and backward, one lane a chunk of elements in memory order (lanes.py).

forward   y[e] = sum over the window's taps inside the image / d        e over n * c * p * q
backward  dx[e] = sum over the windows that hold e of dy[window] / d    e over n * c * h * w

d is the divisor of `averaged` in lanes.py.
"""

import triton
import triton.language as tl

from kernels.common.jit import first_tap, rolled
from kernels.pool2d.lanes import averaged, places


@triton.jit
def _tap(p_x, o_h, o_w, h, w, step_h, step_w, i, j, b_sum, m, CLIPPED: tl.constexpr, V: tl.constexpr):
    o_row = o_h + i
    o_col = o_w + j
    m_x = m & (o_row >= 0) & (o_row < h) & (o_col >= 0) & (o_col < w) if CLIPPED else m
    p_tap = p_x + (i * step_h + j * step_w) + tl.arange(0, V)[None, :]
    return b_sum + tl.load(p_tap, mask=m_x, other=0.0).to(b_sum.dtype)


@triton.jit
def avg_pool_kernel(
    x_ptr,
    y_ptr,
    chunks,
    h,
    w,
    p,
    q,
    cc,
    divisor,
    KH: tl.constexpr,
    KW: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    COUNT: tl.constexpr,
    CLIPPED: tl.constexpr,
    UNROLL: tl.constexpr,
    NEAR: tl.constexpr,
    INDEX: tl.constexpr,
    TYPE: tl.constexpr,
    BLOCK: tl.constexpr,
    V: tl.constexpr,
):
    """CLIPPED: whether taps may lie outside of the image."""
    zero = tl.full((), 0, INDEX)
    o, o_i, o_p, o_q, o_c = places(p, q, cc, NEAR, INDEX, BLOCK)
    m = (o < chunks)[:, None]
    o_p = o_p[:, None]
    o_q = o_q[:, None]
    o_h = o_p * STRIDE_H - PAD_H
    o_w = o_q * STRIDE_W - PAD_W
    step_w = (zero + cc) * V
    step_h = step_w * w
    p_x = x_ptr + (((o_i[:, None] * h + o_h) * w + o_w) * cc + o_c[:, None]) * V
    b_sum = tl.zeros((BLOCK, V), TYPE)
    if UNROLL:
        for i in tl.static_range(KH):
            for j in tl.static_range(KW):
                b_sum = _tap(p_x, o_h, o_w, h, w, step_h, step_w, i, j, b_sum, m, CLIPPED, V)
    else:
        cols = rolled(KW, w) if tl.int64 == INDEX else KW
        for i in range(KH):
            for j in range(cols):
                b_sum = _tap(p_x, o_h, o_w, h, w, step_h, step_w, i, j, b_sum, m, CLIPPED, V)
    b_y = averaged(b_sum, o_p, o_q, h, w, divisor, KH, KW, STRIDE_H, STRIDE_W, PAD_H, PAD_W, COUNT, TYPE)
    tl.store(y_ptr + (o[:, None] * V + tl.arange(0, V)[None, :]), b_y.to(y_ptr.dtype.element_ty), mask=m)


@triton.jit
def _window(
    p_dy, i_0, j_0, a, b, o_h, o_w, h, w, p, q, step_p, step_q, divisor, b_dx, m, KH, KW, STRIDE_H, STRIDE_W, PAD_H,
    PAD_W, COUNT: tl.constexpr, TYPE: tl.constexpr, V: tl.constexpr,
):  # fmt: skip
    """b_dx and what the window sends whose tap here is the a-th possible row and the b-th possible column."""
    o_p = (o_h + PAD_H - i_0) // STRIDE_H - a
    o_q = (o_w + PAD_W - j_0) // STRIDE_W - b
    m_dy = m & (i_0 + a * STRIDE_H < KH) & (o_p >= 0) & (o_p < p) & (j_0 + b * STRIDE_W < KW) & (o_q >= 0) & (o_q < q)
    b_dy = tl.load(p_dy + (o_p * step_p + o_q * step_q) + tl.arange(0, V)[None, :], mask=m_dy, other=0.0).to(TYPE)
    return b_dx + averaged(b_dy, o_p, o_q, h, w, divisor, KH, KW, STRIDE_H, STRIDE_W, PAD_H, PAD_W, COUNT, TYPE)


@triton.jit
def avg_pool_backward_kernel(
    dy_ptr,
    dx_ptr,
    chunks,
    h,
    w,
    p,
    q,
    cc,
    divisor,
    KH: tl.constexpr,
    KW: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    COUNT: tl.constexpr,
    UNROLL: tl.constexpr,
    NEAR: tl.constexpr,
    INDEX: tl.constexpr,
    TYPE: tl.constexpr,
    BLOCK: tl.constexpr,
    V: tl.constexpr,
):
    zero = tl.full((), 0, INDEX)
    o, o_i, o_h, o_w, o_c = places(h, w, cc, NEAR, INDEX, BLOCK)
    m = (o < chunks)[:, None]
    o_h = o_h[:, None]
    o_w = o_w[:, None]
    step_q = (zero + cc) * V
    step_p = step_q * q
    p_dy = dy_ptr + (o_i * p * q * cc + o_c)[:, None] * V
    i_0 = first_tap(o_h + PAD_H, STRIDE_H, 1, STRIDE_H, KH)
    j_0 = first_tap(o_w + PAD_W, STRIDE_W, 1, STRIDE_W, KW)
    b_dx = tl.zeros((BLOCK, V), TYPE)
    if UNROLL:
        for a in tl.static_range((KH + STRIDE_H - 1) // STRIDE_H):
            for b in tl.static_range((KW + STRIDE_W - 1) // STRIDE_W):
                b_dx = _window(
                    p_dy, i_0, j_0, a, b, o_h, o_w, h, w, p, q, step_p, step_q, divisor, b_dx, m, KH, KW, STRIDE_H,
                    STRIDE_W, PAD_H, PAD_W, COUNT, TYPE, V,
                )  # fmt: skip
    else:
        cols = rolled((KW + STRIDE_W - 1) // STRIDE_W, w) if tl.int64 == INDEX else (KW + STRIDE_W - 1) // STRIDE_W
        for a in range((KH + STRIDE_H - 1) // STRIDE_H):
            for b in range(cols):
                b_dx = _window(
                    p_dy, i_0, j_0, a, b, o_h, o_w, h, w, p, q, step_p, step_q, divisor, b_dx, m, KH, KW, STRIDE_H,
                    STRIDE_W, PAD_H, PAD_W, COUNT, TYPE, V,
                )  # fmt: skip
    tl.store(dx_ptr + (o[:, None] * V + tl.arange(0, V)[None, :]), b_dx.to(dx_ptr.dtype.element_ty), mask=m)
