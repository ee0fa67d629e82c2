"""Pools of K x K windows around every pixel (K odd, stride 1, padding K // 2) on dense maps: rows stream by.

A lane has V neighbouring elements, of a row in NCHW and of the channels in channels_last, in COLS columns of ROWS rows.
Each row that they meet is read once, reduced along the row once, and serves the K windows that hold it.

forward   y[row] = the best or the sum of rows row - K // 2 .. row + K // 2, each that of K columns
backward  dx[row] of an average is an average of dy; of a maximum, what K rows of windows send it by their codes

In NCHW V is 16 bytes (fewer in very short rows), a row is read UNIT elements at a time, as many as divide its length,
and every tap's columns are found among the registers that a lane has.
"""

import triton
import triton.language as tl

from kernels.common.columns import columns, tile
from kernels.pool2d.lanes import added, met, places


@triton.jit
def _place(
    chunks, strips, groups, h, units, cc, LAST: tl.constexpr, INDEX: tl.constexpr, COLS: tl.constexpr,
    ROWS: tl.constexpr, UNIT: tl.constexpr, BLOCK: tl.constexpr, V: tl.constexpr,
):  # fmt: skip
    """Of every lane: its first row and columns, its offset in the map, whether it is there."""
    o, o_i, o_strip, o_group, o_c = places(strips, groups, cc, True, INDEX, BLOCK)
    o_h = (o_strip * ROWS)[:, None]
    o_v = tl.arange(0, V)[None, :]
    o_row = o_i[:, None] * h + o_h
    if LAST:
        o_col = (o_group * COLS)[:, None]
        o_x = ((o_row * units + o_col) * cc + o_c[:, None]) * V + o_v
    else:
        o_col = (o_group * V)[:, None]
        o_x = (o_row * units + (o_group * (V // UNIT))[:, None]) * UNIT
    return o_h, o_col, o_x, (o < chunks)[:, None]


@triton.jit
def _row(
    p, m, o_col, w, step, OTHER: tl.constexpr, TYPE: tl.constexpr, K: tl.constexpr, LAST: tl.constexpr,
    COLS: tl.constexpr, UNIT: tl.constexpr, V: tl.constexpr,
):  # fmt: skip
    """Of one row, the tiles that COLS windows side by side hold: tap j of window c is number c + j."""
    SIDE: tl.constexpr = K // 2
    b_taps = ()
    if LAST:
        for j in tl.static_range(COLS + K - 1):
            o_tap = o_col + (j - SIDE)
            b = tl.load(p + (j - SIDE) * step, mask=m & (o_tap >= 0) & (o_tap < w), other=OTHER)
            b_taps = b_taps + (b.to(TYPE),)
    else:
        BEFORE: tl.constexpr = (SIDE + UNIT - 1) // UNIT
        b_row = ()
        for unit in tl.static_range(V // UNIT + 2 * BEFORE):
            o_unit = o_col + (unit - BEFORE) * UNIT
            p_unit = p + (unit - BEFORE) * UNIT + tl.arange(0, UNIT)[None, :]
            b = tl.load(p_unit, mask=m & (o_unit >= 0) & (o_unit < w), other=OTHER)
            b_row = b_row + columns(b.to(TYPE), UNIT)
        for j in tl.static_range(K):
            b_taps = b_taps + (tile(b_row, BEFORE * UNIT - SIDE + j, 1, V),)
    return b_taps


@triton.jit
def _best_of_row(
    b_taps, i: tl.constexpr, c: tl.constexpr, o_col, CODED: tl.constexpr, K: tl.constexpr, LAST: tl.constexpr,
    BLOCK: tl.constexpr, V: tl.constexpr,
):  # fmt: skip
    """The best of row i's taps in window c and, if CODED, which it is, counted from the lane's first row: until one
    beats -inf, the first inside the map."""
    b_best = b_taps[c]
    o_best = tl.zeros((BLOCK, V), tl.int32)
    if CODED:
        o_tap = o_col + c if LAST else o_col + tl.arange(0, V)[None, :]
        o_best += i * K + tl.maximum(K // 2 - o_tap, 0)
    for j in tl.static_range(1, K):
        b_best, o_best = met(b_taps[c + j], i * K + j, b_best, o_best, CODED)
    return b_best, o_best


@triton.jit
def _best_of_rows(
    b_rows, o_rows, r: tl.constexpr, c: tl.constexpr, o_h, CODED: tl.constexpr, K: tl.constexpr, COLS: tl.constexpr
):
    """The best of the K rows of window r, c and its code."""
    b_best = b_rows[r * COLS + c]
    o_best = o_rows[r * COLS + c] + tl.maximum(K // 2 - r - o_h, 0) * K
    for i in tl.static_range(1, K):
        b_best, o_best = met(b_rows[(r + i) * COLS + c], o_rows[(r + i) * COLS + c], b_best, o_best, CODED)
    return b_best, o_best - r * K


@triton.jit
def stride1_max_pool_kernel(
    x_ptr,
    y_ptr,
    code_ptr,
    chunks,
    strips,
    groups,
    h,
    units,
    cc,
    K: tl.constexpr,
    WANT_CODE: tl.constexpr,
    LAST: tl.constexpr,
    INDEX: tl.constexpr,
    TYPE: tl.constexpr,
    COLS: tl.constexpr,
    ROWS: tl.constexpr,
    UNIT: tl.constexpr,
    BLOCK: tl.constexpr,
    V: tl.constexpr,
):
    SIDE: tl.constexpr = K // 2
    o_h, o_col, o_x, m = _place(chunks, strips, groups, h, units, cc, LAST, INDEX, COLS, ROWS, UNIT, BLOCK, V)
    w = units * UNIT
    step = cc * V if LAST else 1
    step_h = w * step
    o_v = tl.zeros((1, V), tl.int32) if LAST else tl.arange(0, V)[None, :]
    o_y = o_x if LAST else o_x + o_v
    p_x = x_ptr + (o_x - SIDE * step_h)
    b_best = ()
    o_best = ()
    for i in tl.static_range(ROWS + K - 1):
        m_x = m & (o_h + (i - SIDE) >= 0) & (o_h + (i - SIDE) < h)
        b_taps = _row(p_x, m_x, o_col, w, step, float("-inf"), TYPE, K, LAST, COLS, UNIT, V)
        p_x += step_h
        for c in tl.static_range(COLS):
            b, o = _best_of_row(b_taps, i, c, o_col, WANT_CODE, K, LAST, BLOCK, V)
            b_best = b_best + (b,)
            o_best = o_best + (o,)
            if i >= K - 1:
                b, o = _best_of_rows(b_best, o_best, i - (K - 1), c, o_h, WANT_CODE, K, COLS)
                m_y = m & (o_h + (i - (K - 1)) < h) & (o_col + o_v < w)
                o_out = o_y + ((i - (K - 1)) * step_h + c * step)
                tl.store(y_ptr + o_out, b.to(y_ptr.dtype.element_ty), mask=m_y)
                if WANT_CODE:
                    tl.store(code_ptr + o_out, o.to(tl.uint8), mask=m_y)


@triton.jit
def _received(b_dx, b_dy, b_code, K: tl.constexpr, COLS: tl.constexpr):
    """K rows of COLS tiles of dx and what arrives from a row of windows: row r is their tap r, and column c
    tap j of window c + K - 1 - j."""
    b_all = ()
    for r in tl.static_range(K):
        for c in tl.static_range(COLS):
            b = b_dx[r * COLS + c]
            for j in tl.static_range(K):
                b = added(b, b_dy[c + K - 1 - j], b_code[c + K - 1 - j] == r * K + j)
            b_all = b_all + (b,)
    return b_all


@triton.jit
def stride1_max_pool_backward_kernel(
    dy_ptr,
    code_ptr,
    dx_ptr,
    chunks,
    strips,
    groups,
    h,
    units,
    cc,
    K: tl.constexpr,
    LAST: tl.constexpr,
    INDEX: tl.constexpr,
    TYPE: tl.constexpr,
    COLS: tl.constexpr,
    ROWS: tl.constexpr,
    UNIT: tl.constexpr,
    BLOCK: tl.constexpr,
    V: tl.constexpr,
):
    """Row i of windows that a lane meets has its tap i - r in row r of dx."""
    SIDE: tl.constexpr = K // 2
    o_h, o_col, o_dx, m = _place(chunks, strips, groups, h, units, cc, LAST, INDEX, COLS, ROWS, UNIT, BLOCK, V)
    w = units * UNIT
    step = cc * V if LAST else 1
    step_h = w * step
    o_v = tl.zeros((1, V), tl.int32) if LAST else tl.arange(0, V)[None, :]
    o_dy = o_dx - SIDE * step_h
    b_dx = ()
    for _ in tl.static_range(K * COLS):
        b_dx = b_dx + (tl.zeros((BLOCK, V), TYPE),)
    for i in tl.static_range(ROWS + K - 1):
        m_dy = m & (o_h + (i - SIDE) >= 0) & (o_h + (i - SIDE) < h)
        b_dy = _row(dy_ptr + o_dy, m_dy, o_col, w, step, 0.0, TYPE, K, LAST, COLS, UNIT, V)
        b_code = _row(code_ptr + o_dy, m_dy, o_col, w, step, 255, tl.int32, K, LAST, COLS, UNIT, V)
        o_dy += step_h
        b_dx = _received(b_dx, b_dy, b_code, K, COLS)
        if i >= K - 1:  # nothing arrives any more at the first row
            for c in tl.static_range(COLS):
                m_dx = m & (o_h + (i - (K - 1)) < h) & (o_col + c + o_v < w)
                o_out = o_dx + o_v + ((i - (K - 1)) * step_h + c * step)
                tl.store(dx_ptr + o_out, b_dx[c].to(dx_ptr.dtype.element_ty), mask=m_dx)
        b_rest = ()
        for k in tl.static_range(COLS, K * COLS):
            b_rest = b_rest + (b_dx[k],)
        for _ in tl.static_range(COLS):
            b_rest = b_rest + (tl.zeros((BLOCK, V), TYPE),)
        b_dx = b_rest


@triton.jit
def _inside(o_h, o_tap, h, w, K: tl.constexpr):
    """How many taps of the windows at row o_h and column o_tap lie inside the map."""
    SIDE: tl.constexpr = K // 2
    rows = K - tl.maximum(SIDE - o_h, 0) - tl.maximum(o_h + SIDE + 1 - h, 0)
    return rows * (K - tl.maximum(SIDE - o_tap, 0) - tl.maximum(o_tap + SIDE + 1 - w, 0))


@triton.jit
def stride1_avg_pool_kernel(
    x_ptr,
    y_ptr,
    chunks,
    strips,
    groups,
    h,
    units,
    cc,
    divisor,
    K: tl.constexpr,
    COUNT: tl.constexpr,
    WEIGHTED: tl.constexpr,
    LAST: tl.constexpr,
    INDEX: tl.constexpr,
    TYPE: tl.constexpr,
    ROWS: tl.constexpr,
    UNIT: tl.constexpr,
    BLOCK: tl.constexpr,
    V: tl.constexpr,
):
    """COUNT "divisor": the sums are divided by `divisor`, else by their taps inside the map.

    WEIGHTED: what is summed is divided instead, by the taps of its own window (dx from dy).
    """
    SIDE: tl.constexpr = K // 2
    o_h, o_col, o_x, m = _place(chunks, strips, groups, h, units, cc, LAST, INDEX, 1, ROWS, UNIT, BLOCK, V)
    w = units * UNIT
    step = cc * V if LAST else 1
    step_h = w * step
    o_v = tl.zeros((1, V), tl.int32) if LAST else tl.arange(0, V)[None, :]
    p_x = x_ptr + (o_x - SIDE * step_h)
    b_rows = ()
    for i in tl.static_range(ROWS + K - 1):
        m_x = m & (o_h + (i - SIDE) >= 0) & (o_h + (i - SIDE) < h)
        b_taps = _row(p_x, m_x, o_col, w, step, 0.0, TYPE, K, LAST, 1, UNIT, V)
        p_x += step_h
        b_row = tl.zeros((BLOCK, V), TYPE)
        for j in tl.static_range(K):
            b = b_taps[j]
            if WEIGHTED:
                # Taps outside of the map are 0, and their windows may have no tap inside.
                b = b / tl.maximum(_inside(o_h + (i - SIDE), o_col + o_v + (j - SIDE), h, w, K), 1).to(TYPE)
            b_row += b
        b_rows = b_rows + (b_row,)
        if i >= K - 1:
            b_y = b_row
            for k in tl.static_range(1, K):
                b_y += b_rows[i - k]
            if COUNT == "divisor":
                b_y = b_y * (1.0 / tl.full((), divisor, TYPE))
            elif not WEIGHTED:
                b_y = b_y / _inside(o_h + (i - (K - 1)), o_col + o_v, h, w, K).to(TYPE)
            m_y = m & (o_h + (i - (K - 1)) < h) & (o_col + o_v < w)
            p_y = y_ptr + (o_x + o_v + (i - (K - 1)) * step_h)
            tl.store(p_y, b_y.to(y_ptr.dtype.element_ty), mask=m_y)
