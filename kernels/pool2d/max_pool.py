"""Max pooling, forward and backward, one lane an element in memory order.

forward   y[e] = max over the window's taps inside the image      e over n * c * p * q
backward  dx[e] = sum of dy over the windows whose maximum is e   e over n * c * h * w

The window position of the maximum is kept as a code i * KW + j: one byte for windows up to 255 taps, int32 beyond;
KH * KW means that no tap lies inside the image. As in torch the first of equal maxima wins, and any later NaN. The
backward pass gathers: every input element asks the windows that hold it, so there are no atomics.
"""

import triton
import triton.language as tl

from kernels.common.jit import coordinates, first_tap


@triton.jit
def _tap(p_x, o_h, o_w, h, w, i, j, stride_x_h, stride_x_w, b_best, b_code, m, KW, DIL_H, DIL_W, INDEX: tl.constexpr):
    zero = tl.full((), 0, INDEX)
    o_row = o_h + i * DIL_H
    o_col = o_w + j * DIL_W
    m_x = m & (o_row >= 0) & (o_row < h) & (o_col >= 0) & (o_col < w)
    o_x = (zero + o_row) * stride_x_h + (zero + o_col) * stride_x_w
    b_x = tl.load(p_x + o_x, mask=m_x, other=float("-inf")).to(b_best.dtype)
    m_taken = m_x & ((b_x > b_best) | (b_x != b_x))
    return tl.where(m_taken, b_x, b_best), tl.where(m_taken, i * KW + j, b_code)


@triton.jit
def max_pool_kernel(
    x_ptr,
    y_ptr,
    code_ptr,
    indices_ptr,
    numel,
    c,
    h,
    w,
    p,
    q,
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
    DIL_H: tl.constexpr,
    DIL_W: tl.constexpr,
    WANT_CODE: tl.constexpr,
    WANT_INDICES: tl.constexpr,
    UNROLL: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    zero = tl.full((), 0, INDEX)
    o = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    m = o < numel
    o_i, o_c, o_p, o_q = coordinates(o, c, p, q, CHANNELS_LAST)
    o_h = o_p * STRIDE_H - PAD_H
    o_w = o_q * STRIDE_W - PAD_W
    p_x = x_ptr + o_i * stride_x_n + (zero + o_c) * stride_x_c
    # Until a tap beats -inf, the answer is the first tap inside the image.
    i_first = (tl.maximum(-o_h, 0) + DIL_H - 1) // DIL_H
    j_first = (tl.maximum(-o_w, 0) + DIL_W - 1) // DIL_W
    m_some = (o_h + i_first * DIL_H < h) & (i_first < KH) & (o_w + j_first * DIL_W < w) & (j_first < KW)
    b_code = tl.where(m_some, i_first * KW + j_first, KH * KW).to(tl.int32)
    b_best = tl.full((BLOCK,), float("-inf"), ACC)
    if UNROLL:
        for i in tl.static_range(KH):
            for j in tl.static_range(KW):
                b_best, b_code = _tap(
                    p_x, o_h, o_w, h, w, i, j, stride_x_h, stride_x_w, b_best, b_code, m, KW, DIL_H, DIL_W, INDEX
                )
    else:
        for i in range(KH):
            for j in range(KW):
                b_best, b_code = _tap(
                    p_x, o_h, o_w, h, w, i, j, stride_x_h, stride_x_w, b_best, b_code, m, KW, DIL_H, DIL_W, INDEX
                )
    tl.store(y_ptr + o, b_best.to(y_ptr.dtype.element_ty), mask=m)
    if WANT_CODE:
        tl.store(code_ptr + o, b_code.to(code_ptr.dtype.element_ty), mask=m)
    if WANT_INDICES:
        o_row = o_h + b_code // KW * DIL_H
        o_col = o_w + b_code % KW * DIL_W
        b_index = tl.where(b_code == KH * KW, -1, (zero + o_row) * w + o_col)
        tl.store(indices_ptr + o, b_index.to(tl.int64), mask=m)


@triton.jit
def max_pool_backward_kernel(
    dy_ptr,
    code_ptr,
    dx_ptr,
    numel,
    c,
    h,
    w,
    p,
    q,
    stride_dy_n,
    stride_dy_c,
    stride_dy_p,
    stride_dy_q,
    stride_code_n,
    stride_code_c,
    stride_code_p,
    stride_code_q,
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
    p_code = code_ptr + o_i * stride_code_n + (zero + o_c) * stride_code_c
    i_first = first_tap(o_h + PAD_H, STRIDE_H, DIL_H, STEP_H, KH)
    j_first = first_tap(o_w + PAD_W, STRIDE_W, DIL_W, STEP_W, KW)
    b_dx = tl.zeros((BLOCK,), ACC)
    for a in range((KH + STEP_H - 1) // STEP_H):
        o_tap_i = i_first + a * STEP_H
        o_top = o_h + PAD_H - o_tap_i * DIL_H
        o_p = o_top // STRIDE_H
        m_row = m & (o_tap_i < KH) & (o_top >= 0) & (o_p < p)
        for b in range((KW + STEP_W - 1) // STEP_W):
            o_tap_j = j_first + b * STEP_W
            o_left = o_w + PAD_W - o_tap_j * DIL_W
            o_q = o_left // STRIDE_W
            m_dy = m_row & (o_tap_j < KW) & (o_left >= 0) & (o_q < q)
            o_code = (zero + o_p) * stride_code_p + (zero + o_q) * stride_code_q
            o_dy = (zero + o_p) * stride_dy_p + (zero + o_q) * stride_dy_q
            b_code = tl.load(p_code + o_code, mask=m_dy, other=0).to(tl.int32)
            b_dy = tl.load(p_dy + o_dy, mask=m_dy, other=0.0).to(ACC)
            b_dx += tl.where(m_dy & (b_code == o_tap_i * KW + o_tap_j), b_dy, 0.0)
    tl.store(dx_ptr + o, b_dx.to(dx_ptr.dtype.element_ty), mask=m)
