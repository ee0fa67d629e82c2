"""Pools of 3x3 windows with stride 1 and padding 1 on dense maps: rows stream through registers.

A lane keeps V neighbouring elements of a row (16 bytes where a row's length, or the channels, allow) and goes down ROWS
rows: each row is read once, reduced along the row, and serves the three windows that hold it.

forward   y[row] = the best or the sum of rows row - 1, row, row + 1, each that of three columns
backward  dx[row] of an average is an average of dy; of a maximum, what three rows of windows send it by their codes

SHIFT: the columns beside a lane's own are its own elements shifted by one, and one more element on each side. In
channels_last, and where V is 1, they are V elements cc chunks away.
"""

import triton
import triton.language as tl

from kernels.common.jit import near
from kernels.pool2d.lanes import met


@triton.jit
def _after(b, b_first, BLOCK: tl.constexpr, V: tl.constexpr):
    """b [BLOCK, V] moved up by one: element v is b's v - 1, element 0 is b_first [BLOCK, 1]."""
    if V == 1:
        b_moved = b_first
    else:
        b_even, b_odd = tl.split(b.reshape(BLOCK, V // 2, 2))
        b_moved = tl.join(_after(b_odd, b_first, BLOCK, V // 2), b_even).reshape(BLOCK, V)
    return b_moved


@triton.jit
def _before(b, b_last, BLOCK: tl.constexpr, V: tl.constexpr):
    """b [BLOCK, V] moved down by one: element v is b's v + 1, the last is b_last [BLOCK, 1]."""
    if V == 1:
        b_moved = b_last
    else:
        b_even, b_odd = tl.split(b.reshape(BLOCK, V // 2, 2))
        b_moved = tl.join(b_odd, _before(b_even, b_last, BLOCK, V // 2)).reshape(BLOCK, V)
    return b_moved


@triton.jit
def _place(chunks, strips, h, row, ROWS: tl.constexpr, INDEX: tl.constexpr, BLOCK: tl.constexpr):
    """Of every lane: its first row, its chunk's place in the row and in the map, whether it is there; [BLOCK, 1]."""
    o, o_i, o_strip, o_wc = near(tl.program_id(0).to(INDEX) * BLOCK, strips, row, BLOCK)
    o_h = o_strip * ROWS
    o_chunk = (o_i * h + o_h) * row + o_wc
    return o_h[:, None], o_wc[:, None], o_chunk[:, None], (o < chunks)[:, None]


@triton.jit
def _columns(p, m, m_left, m_right, cc, OTHER: tl.constexpr, SHIFT: tl.constexpr, BLOCK: tl.constexpr, V: tl.constexpr):
    """The elements to the left of a row's chunk, its own, and those to the right; OTHER outside of the map."""
    p_row = p + tl.arange(0, V)[None, :]
    b = tl.load(p_row, mask=m, other=OTHER)
    if SHIFT:
        b_left = _after(b, tl.load(p - 1, mask=m & m_left, other=OTHER), BLOCK, V)
        b_right = _before(b, tl.load(p + V, mask=m & m_right, other=OTHER), BLOCK, V)
    else:
        b_left = tl.load(p_row - cc * V, mask=m & m_left, other=OTHER)
        b_right = tl.load(p_row + cc * V, mask=m & m_right, other=OTHER)
    return b_left, b, b_right


@triton.jit
def _best_of_row(
    p, m, m_left, m_right, cc, SHIFT: tl.constexpr, TYPE: tl.constexpr, BLOCK: tl.constexpr, V: tl.constexpr
):
    """The best of three columns and which it is: until one beats -inf, the first inside the map."""
    b_left, b, b_right = _columns(p, m, m_left, m_right, cc, float("-inf"), SHIFT, BLOCK, V)
    m_first = (tl.arange(0, V)[None, :] > 0) | m_left if SHIFT else m_left
    o_first = tl.where(m_first, tl.zeros((BLOCK, V), tl.int32), 1)
    b_best, o_best = met(b.to(TYPE), 1, b_left.to(TYPE), o_first)
    return met(b_right.to(TYPE), 2, b_best, o_best)


@triton.jit
def stride1_max_pool_kernel(
    x_ptr,
    y_ptr,
    code_ptr,
    chunks,
    strips,
    h,
    row,
    cc,
    WANT_CODE: tl.constexpr,
    SHIFT: tl.constexpr,
    INDEX: tl.constexpr,
    TYPE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    V: tl.constexpr,
):
    o_h, o_wc, o_chunk, m = _place(chunks, strips, h, row, ROWS, INDEX, BLOCK)
    m_left = o_wc >= cc
    m_right = o_wc < row - cc
    p_x = x_ptr + (o_chunk - row) * V
    b_0, o_0 = _best_of_row(p_x, m & (o_h > 0), m_left, m_right, cc, SHIFT, TYPE, BLOCK, V)
    p_x += row * V
    b_1, o_1 = _best_of_row(p_x, m, m_left, m_right, cc, SHIFT, TYPE, BLOCK, V)
    for r in tl.static_range(ROWS):
        p_x += row * V
        b_2, o_2 = _best_of_row(p_x, m & (o_h + r + 1 < h), m_left, m_right, cc, SHIFT, TYPE, BLOCK, V)
        b_best, o_best = met(b_1, o_1 + 3, b_0, tl.where(o_h + r > 0, o_0, o_0 + 3))
        b_best, o_best = met(b_2, o_2 + 6, b_best, o_best)
        o_y = (o_chunk + r * row) * V + tl.arange(0, V)[None, :]
        m_y = m & (o_h + r < h)
        tl.store(y_ptr + o_y, b_best.to(y_ptr.dtype.element_ty), mask=m_y)
        if WANT_CODE:
            tl.store(code_ptr + o_y, o_best.to(tl.uint8), mask=m_y)
        b_0 = b_1
        o_0 = o_1
        b_1 = b_2
        o_1 = o_2


@triton.jit
def _sent_by_row(p_dy, p_code, m, m_left, m_right, cc, SHIFT, TYPE: tl.constexpr, BLOCK: tl.constexpr, V: tl.constexpr):
    """Of a row of windows: the gradients to the left, here and to the right, and their codes."""
    b_left, b, b_right = _columns(p_dy, m, m_left, m_right, cc, 0.0, SHIFT, BLOCK, V)
    o_left, o, o_right = _columns(p_code, m, m_left, m_right, cc, 255, SHIFT, BLOCK, V)
    return b_left.to(TYPE), b.to(TYPE), b_right.to(TYPE), o_left.to(tl.int32), o.to(tl.int32), o_right.to(tl.int32)


@triton.jit
def _received(b_sum, sent, ROW: tl.constexpr):
    """b_sum and what arrives from a row of windows whose row ROW this is."""
    b_left, b, b_right, o_left, o, o_right = sent
    b_sum += tl.where(o_left == 3 * ROW + 2, b_left, 0.0)
    b_sum += tl.where(o == 3 * ROW + 1, b, 0.0)
    return b_sum + tl.where(o_right == 3 * ROW, b_right, 0.0)


@triton.jit
def stride1_max_pool_backward_kernel(
    dy_ptr,
    code_ptr,
    dx_ptr,
    chunks,
    strips,
    h,
    row,
    cc,
    SHIFT: tl.constexpr,
    INDEX: tl.constexpr,
    TYPE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    V: tl.constexpr,
):
    o_h, o_wc, o_chunk, m = _place(chunks, strips, h, row, ROWS, INDEX, BLOCK)
    m_left = o_wc >= cc
    m_right = o_wc < row - cc
    o_dy = (o_chunk - row) * V
    m_0 = m & (o_h > 0)
    above = _sent_by_row(dy_ptr + o_dy, code_ptr + o_dy, m_0, m_left, m_right, cc, SHIFT, TYPE, BLOCK, V)
    o_dy += row * V
    here = _sent_by_row(dy_ptr + o_dy, code_ptr + o_dy, m, m_left, m_right, cc, SHIFT, TYPE, BLOCK, V)
    for r in tl.static_range(ROWS):
        o_dy += row * V
        m_2 = m & (o_h + r + 1 < h)
        below = _sent_by_row(dy_ptr + o_dy, code_ptr + o_dy, m_2, m_left, m_right, cc, SHIFT, TYPE, BLOCK, V)
        b_dx = _received(tl.zeros((BLOCK, V), TYPE), above, 2)
        b_dx = _received(b_dx, here, 1)
        b_dx = _received(b_dx, below, 0)
        o_dx = (o_chunk + r * row) * V + tl.arange(0, V)[None, :]
        tl.store(dx_ptr + o_dx, b_dx.to(dx_ptr.dtype.element_ty), mask=m & (o_h + r < h))
        above = here
        here = below


@triton.jit
def _inside(o_h, o_col, h, width, step):
    """How many taps of the windows at row o_h and column o_col lie inside the map; step: from a column to the next."""
    rows = 3 - (o_h <= 0).to(tl.int32) - (o_h >= h - 1).to(tl.int32)
    return rows * (3 - (o_col < step).to(tl.int32) - (o_col >= width - step).to(tl.int32))


@triton.jit
def _sum_of_row(
    p,
    o_h,
    o_col,
    m,
    m_left,
    m_right,
    h,
    width,
    step,
    cc,
    WEIGHTED: tl.constexpr,
    SHIFT: tl.constexpr,
    TYPE: tl.constexpr,
    BLOCK: tl.constexpr,
    V: tl.constexpr,
):
    """The sum of three columns; WEIGHTED: each first divided by the taps of its window that lie inside the map."""
    b_left, b, b_right = _columns(p, m, m_left, m_right, cc, 0.0, SHIFT, BLOCK, V)
    b_left = b_left.to(TYPE)
    b = b.to(TYPE)
    b_right = b_right.to(TYPE)
    if WEIGHTED:
        b_left = b_left / _inside(o_h, o_col - step, h, width, step).to(TYPE)
        b = b / _inside(o_h, o_col, h, width, step).to(TYPE)
        b_right = b_right / _inside(o_h, o_col + step, h, width, step).to(TYPE)
    return b_left + b + b_right


@triton.jit
def stride1_avg_pool_kernel(
    x_ptr,
    y_ptr,
    chunks,
    strips,
    h,
    row,
    cc,
    divisor,
    COUNT: tl.constexpr,
    WEIGHTED: tl.constexpr,
    SHIFT: tl.constexpr,
    INDEX: tl.constexpr,
    TYPE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    V: tl.constexpr,
):
    """COUNT "divisor": the sums are divided by `divisor`, else by their taps inside the map.

    WEIGHTED: what is summed is divided instead, by the taps of its own window (dx from dy).
    """
    o_h, o_wc, o_chunk, m = _place(chunks, strips, h, row, ROWS, INDEX, BLOCK)
    m_left = o_wc >= cc
    m_right = o_wc < row - cc
    step = 1 if SHIFT else cc
    width = row * V if SHIFT else row
    o_col = o_wc * V + tl.arange(0, V)[None, :] if SHIFT else o_wc
    p_x = x_ptr + (o_chunk - row) * V
    b_0 = _sum_of_row(
        p_x, o_h - 1, o_col, m & (o_h > 0), m_left, m_right, h, width, step, cc, WEIGHTED, SHIFT, TYPE, BLOCK, V
    )
    p_x += row * V
    b_1 = _sum_of_row(p_x, o_h, o_col, m, m_left, m_right, h, width, step, cc, WEIGHTED, SHIFT, TYPE, BLOCK, V)
    for r in tl.static_range(ROWS):
        p_x += row * V
        m_2 = m & (o_h + r + 1 < h)
        b_2 = _sum_of_row(
            p_x, o_h + r + 1, o_col, m_2, m_left, m_right, h, width, step, cc, WEIGHTED, SHIFT, TYPE, BLOCK, V
        )
        b_y = b_0 + b_1 + b_2
        if COUNT == "divisor":
            b_y = b_y * (1.0 / tl.full((), divisor, TYPE))
        elif not WEIGHTED:
            b_y = b_y / _inside(o_h + r, o_col, h, width, step).to(TYPE)
        o_y = (o_chunk + r * row) * V + tl.arange(0, V)[None, :]
        tl.store(y_ptr + o_y, b_y.to(y_ptr.dtype.element_ty), mask=m & (o_h + r < h))
        b_0 = b_1
        b_1 = b_2
