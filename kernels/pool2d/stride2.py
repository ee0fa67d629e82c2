"""Pools of 2x2 and 3x3 windows with stride 2 on dense maps of even size, 16 bytes at a time.

Every window belongs to a square of 2x2 pixels, so that o over n * c * p * q counts squares and windows alike, and a
program takes 2 * BLOCK neighbouring pixels of the squares' upper rows and those below them. The third row and column of
a 3x3 window lie before its square (padding 1) or behind it (padding 0 and ceil_mode); both have h / 2 rows of windows.

forward   y[o] = max or mean over the window of square o; code and order of taps are those of max_pool.py
          NCHW only: in channels_last max_pool.py and avg_pool.py read 16 bytes a thread as they are
backward  dx of square o = what the windows of o and of its neighbours on the side of the third row and column send back
"""

import triton
import triton.language as tl

from kernels.pool2d.lanes import added, averaged, met, places


@triton.jit
def _upper_left(o, W: tl.constexpr, INDEX: tl.constexpr):
    """Flat index over the squares' upper rows -> offset in the map: row r of them is row 2 * r of the map.

    W is a constant so that the compiler sees how many neighbours a row guarantees (Triton itself notes only 16 or 1).
    """
    return (o // W).to(INDEX) * 2 * W + o % W


@triton.jit
def _row(
    p_pair,
    m_pair,
    p_third,
    m_third,
    OTHER: tl.constexpr,
    TAPS: tl.constexpr,
    PAD: tl.constexpr,
    TYPE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The window's columns of one row, left to right; the last repeats the second for windows of two."""
    b_0, b_1 = tl.split(tl.load(p_pair, mask=m_pair, other=OTHER).to(TYPE).reshape(BLOCK, 2))
    b_2 = b_1
    if TAPS == 3:
        b_third = tl.load(p_third, mask=m_third, other=OTHER).to(TYPE)
        if PAD == 1:
            b_2 = b_1
            b_1 = b_0
            b_0 = b_third
        else:
            b_2 = b_third
    return b_0, b_1, b_2


@triton.jit
def stride2_pool_kernel(
    x_ptr,
    y_ptr,
    code_ptr,
    numel,
    h,
    divisor,
    W: tl.constexpr,
    TAPS: tl.constexpr,
    PAD: tl.constexpr,
    AVERAGE: tl.constexpr,
    COUNT: tl.constexpr,
    WANT_CODE: tl.constexpr,
    INDEX: tl.constexpr,
    TYPE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0).to(INDEX)
    o = i * BLOCK + tl.arange(0, BLOCK)
    o_x = i * (2 * BLOCK) + tl.arange(0, 2 * BLOCK)
    m = o < numel
    m_x = o_x < 2 * numel
    o_q = o % (W // 2)
    o_p = (o // (W // 2)) % (h // 2)
    OTHER: tl.constexpr = 0.0 if AVERAGE else float("-inf")
    # Where the third row and column lie, and whether they are pixels.
    THIRD: tl.constexpr = -1 if PAD == 1 else 2
    m_col = m & (o_q > 0 if PAD == 1 else o_q < W // 2 - 1)
    o_row = (o_x // W) % (h // 2)
    m_row_x = m_x & (o_row > 0 if PAD == 1 else o_row < h // 2 - 1)
    m_row = m_col & (o_p > 0 if PAD == 1 else o_p < h // 2 - 1)
    p_x = x_ptr + _upper_left(o_x, W, INDEX)
    p_third = x_ptr + ((o // (W // 2)).to(INDEX) * 2 * W + 2 * o_q + THIRD)
    b_best = tl.full((BLOCK,), OTHER, TYPE)
    # Until a tap beats -inf, the answer is the first tap inside the image.
    b_code = tl.where(o_p == 0, TAPS, 0) + tl.where(o_q == 0, 1, 0) if PAD == 1 else tl.zeros((BLOCK,), tl.int32)
    for r in tl.static_range(TAPS):
        # Row r of the window is row r - PAD of its square: 0 and 1, and the third.
        p_row = p_x + (r - PAD) * W
        p_col = p_third + (r - PAD) * W
        if (r - PAD == -1) | (r - PAD == 2):
            b_0, b_1, b_2 = _row(p_row, m_row_x, p_col, m_row, OTHER, TAPS, PAD, TYPE, BLOCK)
        else:
            b_0, b_1, b_2 = _row(p_row, m_x, p_col, m_col, OTHER, TAPS, PAD, TYPE, BLOCK)
        if AVERAGE:
            b_best += b_0
            b_best += b_1
            if TAPS == 3:
                b_best += b_2
        else:
            b_best, b_code = met(b_0, r * TAPS, b_best, b_code, WANT_CODE)
            b_best, b_code = met(b_1, r * TAPS + 1, b_best, b_code, WANT_CODE)
            if TAPS == 3:
                b_best, b_code = met(b_2, r * TAPS + 2, b_best, b_code, WANT_CODE)
    if AVERAGE:
        b_best = averaged(b_best, o_p, o_q, h, W, divisor, TAPS, TAPS, 2, 2, PAD, PAD, COUNT, TYPE)
    tl.store(y_ptr + o, b_best.to(y_ptr.dtype.element_ty), mask=m)
    if WANT_CODE:
        tl.store(code_ptr + o, b_code.to(tl.uint8), mask=m)


@triton.jit
def _window(
    dy_ptr, code_ptr, o, o_p, o_q, m, h, w, divisor, TAPS, PAD, AVERAGE: tl.constexpr, COUNT, TYPE: tl.constexpr
):
    """What window o sends back, 0 outside of the mask, and to which tap."""
    b_dy = tl.load(dy_ptr + o, mask=m, other=0.0).to(TYPE)
    b_code = tl.zeros(o.shape, tl.int32)
    if AVERAGE:
        b_dy = averaged(b_dy, o_p, o_q, h, w, divisor, TAPS, TAPS, 2, 2, PAD, PAD, COUNT, TYPE)
    else:
        b_code = tl.load(code_ptr + o, mask=m, other=255).to(tl.int32)
    return b_dy, b_code


@triton.jit
def _at(b_dy, b_code, TAP: tl.constexpr, AVERAGE: tl.constexpr):
    """What a window sends to its tap: everything to its maximum, to all the same from an average."""
    if AVERAGE:
        return b_dy
    return tl.where(b_code == TAP, b_dy, 0.0)


@triton.jit
def _and(b_sum, b_dy, b_code, TAP: tl.constexpr, AVERAGE: tl.constexpr):
    """b_sum and what a window sends to its tap."""
    if AVERAGE:
        return b_sum + b_dy
    return added(b_sum, b_dy, b_code == TAP)


@triton.jit
def _square(
    dy_ptr,
    code_ptr,
    o,
    o_p,
    o_q,
    m,
    m_own,
    p,
    q,
    step,
    h,
    w,
    divisor,
    TAPS: tl.constexpr,
    PAD: tl.constexpr,
    AVERAGE: tl.constexpr,
    COUNT: tl.constexpr,
    TYPE: tl.constexpr,
):
    """The four gradients of the square of window o, which is window (o_p, o_q) of its plane; step: to the next one.

    m: whether the square is there, m_own: and its window.
    """
    b_dy, b_code = _window(dy_ptr, code_ptr, o, o_p, o_q, m_own, h, w, divisor, TAPS, PAD, AVERAGE, COUNT, TYPE)
    if TAPS == 2:
        b_00 = _at(b_dy, b_code, 0, AVERAGE)
        b_01 = _at(b_dy, b_code, 1, AVERAGE)
        b_10 = _at(b_dy, b_code, 2, AVERAGE)
        b_11 = _at(b_dy, b_code, 3, AVERAGE)
    else:
        # One of a square's two columns is the middle of its window alone; the other is shared with the next window, on
        # the side D, as that one's tap NEXT and its own window's tap OWN. So with rows.
        D: tl.constexpr = 1 if PAD == 1 else -1
        OWN: tl.constexpr = 2 if PAD == 1 else 0
        NEXT: tl.constexpr = 2 - OWN
        m_q = m & (o_q < q - 1 if PAD == 1 else (o_q > 0) & (o_q <= q))
        m_p = m & (o_p < p - 1 if PAD == 1 else (o_p > 0) & (o_p <= p))
        b_side, b_side_code = _window(
            dy_ptr, code_ptr, o + D * step, o_p, o_q + D, m_q & (o_p < p), h, w, divisor, TAPS, PAD, AVERAGE, COUNT,
            TYPE,
        )  # fmt: skip
        b_down, b_down_code = _window(
            dy_ptr, code_ptr, o + D * q * step, o_p + D, o_q, m_p & (o_q < q), h, w, divisor, TAPS, PAD, AVERAGE,
            COUNT, TYPE,
        )  # fmt: skip
        b_both, b_both_code = _window(
            dy_ptr, code_ptr, o + (D * q + D) * step, o_p + D, o_q + D, m_p & m_q, h, w, divisor, TAPS, PAD, AVERAGE,
            COUNT, TYPE,
        )  # fmt: skip
        b_mm = _at(b_dy, b_code, 4, AVERAGE)
        b_ms = _at(b_dy, b_code, 3 + OWN, AVERAGE)
        b_ms = _and(b_ms, b_side, b_side_code, 3 + NEXT, AVERAGE)
        b_sm = _at(b_dy, b_code, 3 * OWN + 1, AVERAGE)
        b_sm = _and(b_sm, b_down, b_down_code, 3 * NEXT + 1, AVERAGE)
        b_ss = _at(b_dy, b_code, 3 * OWN + OWN, AVERAGE)
        b_ss = _and(b_ss, b_side, b_side_code, 3 * OWN + NEXT, AVERAGE)
        b_ss = _and(b_ss, b_down, b_down_code, 3 * NEXT + OWN, AVERAGE)
        b_ss = _and(b_ss, b_both, b_both_code, 3 * NEXT + NEXT, AVERAGE)
        b_00 = b_mm if PAD == 1 else b_ss
        b_01 = b_ms if PAD == 1 else b_sm
        b_10 = b_sm if PAD == 1 else b_ms
        b_11 = b_ss if PAD == 1 else b_mm
    return b_00, b_01, b_10, b_11


@triton.jit
def stride2_pool_backward_kernel(
    dy_ptr,
    code_ptr,
    dx_ptr,
    numel,
    h,
    divisor,
    W: tl.constexpr,
    TAPS: tl.constexpr,
    PAD: tl.constexpr,
    AVERAGE: tl.constexpr,
    COUNT: tl.constexpr,
    INDEX: tl.constexpr,
    TYPE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """NCHW, as many windows as squares."""
    i = tl.program_id(0).to(INDEX)
    o = i * BLOCK + tl.arange(0, BLOCK)
    m = o < numel
    Q: tl.constexpr = W // 2
    o_q = o % Q
    o_p = (o // Q) % (h // 2)
    b_00, b_01, b_10, b_11 = _square(
        dy_ptr, code_ptr, o, o_p, o_q, m, m, h // 2, Q, 1, h, W, divisor, TAPS, PAD, AVERAGE, COUNT, TYPE
    )
    o_x = i * (2 * BLOCK) + tl.arange(0, 2 * BLOCK)
    p_dx = dx_ptr + _upper_left(o_x, W, INDEX)
    m_x = o_x < 2 * numel
    tl.store(p_dx, tl.join(b_00, b_01).reshape(2 * BLOCK).to(dx_ptr.dtype.element_ty), mask=m_x)
    tl.store(p_dx + W, tl.join(b_10, b_11).reshape(2 * BLOCK).to(dx_ptr.dtype.element_ty), mask=m_x)


@triton.jit
def stride2_squares_backward_kernel(
    dy_ptr,
    code_ptr,
    dx_ptr,
    squares,
    h,
    w,
    p,
    q,
    cc,
    divisor,
    TAPS: tl.constexpr,
    PAD: tl.constexpr,
    AVERAGE: tl.constexpr,
    COUNT: tl.constexpr,
    INDEX: tl.constexpr,
    TYPE: tl.constexpr,
    BLOCK: tl.constexpr,
    V: tl.constexpr,
):
    """Maps of any size, both layouts: a lane has a square of V channels, one of cc such chunks of them; 1 in NCHW."""
    o, o_i, o_p, o_q, o_c = places((h + 1) // 2, (w + 1) // 2, cc, True, INDEX, BLOCK)
    m = o < squares
    o_v = tl.arange(0, V)[None, :]
    o_dy = (((o_i * p + o_p) * q + o_q) * cc + o_c)[:, None] * V + o_v
    o_dx = (((o_i * h + 2 * o_p) * w + 2 * o_q) * cc + o_c)[:, None] * V + o_v
    o_p = o_p[:, None]
    o_q = o_q[:, None]
    m = m[:, None]
    b_00, b_01, b_10, b_11 = _square(
        dy_ptr, code_ptr, o_dy, o_p, o_q, m, m & (o_p < p) & (o_q < q), p, q, cc * V, h, w, divisor, TAPS, PAD, AVERAGE,
        COUNT, TYPE,
    )  # fmt: skip
    m_right = m & (2 * o_q + 1 < w)
    m_down = m & (2 * o_p + 1 < h)
    p_dx = dx_ptr + o_dx
    tl.store(p_dx, b_00.to(dx_ptr.dtype.element_ty), mask=m)
    tl.store(p_dx + cc * V, b_01.to(dx_ptr.dtype.element_ty), mask=m_right)
    p_dx += w * cc * V
    tl.store(p_dx, b_10.to(dx_ptr.dtype.element_ty), mask=m_down)
    tl.store(p_dx + cc * V, b_11.to(dx_ptr.dtype.element_ty), mask=m_right & m_down)
