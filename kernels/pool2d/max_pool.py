"""Max pooling with any window, forward and backward, one lane a chunk of elements in memory order (lanes.py).

forward   y[e] = max over the window's taps inside the image      e over n * c * p * q
backward  dx[e] = sum of dy over the windows whose maximum is e   e over n * c * h * w

The window position of the maximum is kept as a code i * KW + j: one byte for windows up to 255 taps, int32 beyond;
KH * KW means that no tap lies inside the image. As in torch the first of equal maxima wins, and any later NaN. The
backward pass gathers: every input element asks the windows that hold it, so there are no atomics.
"""

import triton
import triton.language as tl

from kernels.common.jit import first_tap
from kernels.pool2d.lanes import added, met, places


@triton.jit
def _tap(
    p_x,
    o_h,
    o_w,
    h,
    w,
    step_h,
    step_w,
    i,
    j,
    b_best,
    o_best,
    m,
    KW,
    DIL_H,
    DIL_W,
    CODED: tl.constexpr,
    CLIPPED: tl.constexpr,
    V: tl.constexpr,
):
    o_row = o_h + i * DIL_H
    o_col = o_w + j * DIL_W
    m_x = m & (o_row >= 0) & (o_row < h) & (o_col >= 0) & (o_col < w) if CLIPPED else m
    p_tap = p_x + (i * DIL_H * step_h + j * DIL_W * step_w) + tl.arange(0, V)[None, :]
    b_x = tl.load(p_tap, mask=m_x, other=float("-inf")).to(b_best.dtype)
    return met(b_x, i * KW + j, b_best, o_best, CODED)


@triton.jit
def max_pool_kernel(
    x_ptr,
    y_ptr,
    code_ptr,
    indices_ptr,
    chunks,
    h,
    w,
    p,
    q,
    cc,
    KH: tl.constexpr,
    KW: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    DIL_H: tl.constexpr,
    DIL_W: tl.constexpr,
    WANT_CODE: tl.constexpr,
    WANT_INDICES: tl.constexpr,
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
    o_h = (o_p * STRIDE_H - PAD_H)[:, None]
    o_w = (o_q * STRIDE_W - PAD_W)[:, None]
    step_w = (zero + cc) * V
    step_h = step_w * w
    p_x = x_ptr + (((o_i[:, None] * h + o_h) * w + o_w) * cc + o_c[:, None]) * V
    b_best = tl.full((BLOCK, V), float("-inf"), TYPE)
    o_best = tl.zeros((BLOCK, V), tl.int32)
    CODED: tl.constexpr = WANT_CODE or WANT_INDICES
    if CLIPPED and CODED:
        # Until a tap beats -inf, the answer is the first tap inside the image.
        i_first = (tl.maximum(-o_h, 0) + DIL_H - 1) // DIL_H
        j_first = (tl.maximum(-o_w, 0) + DIL_W - 1) // DIL_W
        m_some = (o_h + i_first * DIL_H < h) & (i_first < KH) & (o_w + j_first * DIL_W < w) & (j_first < KW)
        o_best += tl.where(m_some, i_first * KW + j_first, KH * KW)
    if UNROLL:
        for i in tl.static_range(KH):
            for j in tl.static_range(KW):
                b_best, o_best = _tap(
                    p_x, o_h, o_w, h, w, step_h, step_w, i, j, b_best, o_best, m, KW, DIL_H, DIL_W, CODED, CLIPPED, V
                )
    else:
        for i in range(KH):
            for j in range(KW):
                b_best, o_best = _tap(
                    p_x, o_h, o_w, h, w, step_h, step_w, i, j, b_best, o_best, m, KW, DIL_H, DIL_W, CODED, CLIPPED, V
                )
    o_y = o[:, None] * V + tl.arange(0, V)[None, :]
    tl.store(y_ptr + o_y, b_best.to(y_ptr.dtype.element_ty), mask=m)
    if WANT_CODE:
        tl.store(code_ptr + o_y, o_best.to(code_ptr.dtype.element_ty), mask=m)
    if WANT_INDICES:
        o_row = o_h + o_best // KW * DIL_H
        o_col = o_w + o_best % KW * DIL_W
        b_index = tl.where(o_best == KH * KW, -1, (zero + o_row) * w + o_col)
        tl.store(indices_ptr + o_y, b_index.to(tl.int64), mask=m)


@triton.jit
def _window(
    p_dy, p_code, i_0, j_0, a, b, o_h, o_w, p, q, step_p, step_q, b_dx, m, KH, KW, STRIDE_H, STRIDE_W, PAD_H, PAD_W,
    DIL_H, DIL_W, STEP_H, STEP_W, V: tl.constexpr,
):  # fmt: skip
    """b_dx and what the window sends whose tap here is the a-th possible row and the b-th possible column."""
    o_tap_i = i_0 + a * STEP_H
    o_tap_j = j_0 + b * STEP_W
    o_top = o_h + PAD_H - o_tap_i * DIL_H
    o_left = o_w + PAD_W - o_tap_j * DIL_W
    o_p = o_top // STRIDE_H
    o_q = o_left // STRIDE_W
    m_dy = m & (o_tap_i < KH) & (o_top >= 0) & (o_p < p) & (o_tap_j < KW) & (o_left >= 0) & (o_q < q)
    o_dy = o_p * step_p + o_q * step_q + tl.arange(0, V)[None, :]
    b_code = tl.load(p_code + o_dy, mask=m_dy, other=0).to(tl.int32)
    b_dy = tl.load(p_dy + o_dy, mask=m_dy, other=0.0).to(b_dx.dtype)
    return added(b_dx, b_dy, b_code == o_tap_i * KW + o_tap_j)


@triton.jit
def max_pool_backward_kernel(
    dy_ptr,
    code_ptr,
    dx_ptr,
    chunks,
    h,
    w,
    p,
    q,
    cc,
    KH: tl.constexpr,
    KW: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    DIL_H: tl.constexpr,
    DIL_W: tl.constexpr,
    STEP_H: tl.constexpr,
    STEP_W: tl.constexpr,
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
    o_image = (o_i * p * q * cc + o_c)[:, None] * V
    p_dy = dy_ptr + o_image
    p_code = code_ptr + o_image
    i_0 = first_tap(o_h + PAD_H, STRIDE_H, DIL_H, STEP_H, KH)
    j_0 = first_tap(o_w + PAD_W, STRIDE_W, DIL_W, STEP_W, KW)
    b_dx = tl.zeros((BLOCK, V), TYPE)
    if UNROLL:
        for a in tl.static_range((KH + STEP_H - 1) // STEP_H):
            for b in tl.static_range((KW + STEP_W - 1) // STEP_W):
                b_dx = _window(
                    p_dy, p_code, i_0, j_0, a, b, o_h, o_w, p, q, step_p, step_q, b_dx, m, KH, KW, STRIDE_H, STRIDE_W,
                    PAD_H, PAD_W, DIL_H, DIL_W, STEP_H, STEP_W, V,
                )  # fmt: skip
    else:
        for a in range((KH + STEP_H - 1) // STEP_H):
            for b in range((KW + STEP_W - 1) // STEP_W):
                b_dx = _window(
                    p_dy, p_code, i_0, j_0, a, b, o_h, o_w, p, q, step_p, step_q, b_dx, m, KH, KW, STRIDE_H, STRIDE_W,
                    PAD_H, PAD_W, DIL_H, DIL_W, STEP_H, STEP_W, V,
                )  # fmt: skip
    tl.store(dx_ptr + (o[:, None] * V + tl.arange(0, V)[None, :]), b_dx.to(dx_ptr.dtype.element_ty), mask=m)
