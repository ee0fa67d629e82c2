"""Depthwise convolution in NCHW, forward and input gradient: the sum of depthwise.py, with adjacent columns in a lane.

A lane holds WIDE * UP_W adjacent columns of ROWS * UP_H rows of y. Of each row of x that they meet it reads all the
columns at once, UNIT elements at a time from an aligned place, and finds each tap's tile among the registers it has.
UNIT is what the sizes and strides allow, up to 16 bytes; a width of no factor 2 is read element by element. Lanes go on
from one plane to the next, so that small maps leave none idle.
"""

import triton
import triton.language as tl

from kernels.common.columns import columns, tile
from kernels.common.jit import first_of_block, relu, unravel


@triton.jit
def depthwise_nchw_kernel(
    x_ptr,
    w_ptr,
    bias_ptr,
    y_ptr,
    items,
    c,
    h,
    w,
    p,
    q_units,
    blocks_p,
    blocks_q,
    stride_x_n,
    stride_x_c,
    stride_x_h,
    stride_x_w,
    R: tl.constexpr,
    S: tl.constexpr,
    UP_H: tl.constexpr,
    UP_W: tl.constexpr,
    DOWN_H: tl.constexpr,
    DOWN_W: tl.constexpr,
    FIRST_H: tl.constexpr,
    FIRST_W: tl.constexpr,
    NUM_H: tl.constexpr,
    NUM_W: tl.constexpr,
    TAP_H: tl.constexpr,
    TAP_W: tl.constexpr,
    DIL_H: tl.constexpr,
    DIL_W: tl.constexpr,
    FLIP: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    RELU: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    UNIT: tl.constexpr,
    UNIT_Y: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """y and w are dense. The strides of x count UNIT elements (stride_x_w is 1 or UNIT is), q_units counts UNIT_Y.

    FIRST_H, NUM_H, TAP_H and their like of columns are those of depthwise.py; columns count from WIDE * DOWN_W times
    the lane's number.
    """
    START: tl.constexpr = FIRST_W // UNIT
    LEAD: tl.constexpr = FIRST_W - START * UNIT
    SPAN: tl.constexpr = (WIDE - 1) * DOWN_W + 1  # columns from a tap's first to its last
    NUM_UNITS: tl.constexpr = (LEAD + (NUM_W - 1) * DIL_W + SPAN + UNIT - 1) // UNIT
    zero = tl.full((), 0, INDEX)
    o = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    m = o < items
    o_plane, o_p, o_q = unravel(o, blocks_p, blocks_q)
    o_n = o_plane // c
    o_c = o_plane - o_n * c
    o_t = first_of_block(o_p, ROWS, DIL_H)
    o_h = o_t * DOWN_H + FIRST_H
    o_w = o_q * (WIDE * DOWN_W // UNIT) + START
    o_x = o_n * stride_x_n + o_c * stride_x_c + o_h * stride_x_h + o_w * stride_x_w
    p_x = x_ptr + (o_x * UNIT)[:, None] + tl.arange(0, UNIT)[None, :]

    b_w = ()
    for tap in tl.static_range(R * S):
        b_tap = tl.load(w_ptr + o_c * (R * S) + (R * S - 1 - tap if FLIP else tap), mask=m, other=0.0)
        b_w = b_w + (b_tap.to(ACC)[:, None],)
    b_first = tl.zeros((BLOCK, WIDE), ACC)
    if HAS_BIAS:
        b_first += tl.load(bias_ptr + o_c, mask=m, other=0.0).to(ACC)[:, None]
    b_y = ()
    for _ in tl.static_range(ROWS * UP_H * UP_W):
        b_y = b_y + (b_first,)
    for i in tl.static_range(NUM_H):
        m_h = m & (o_h + i * DIL_H >= 0) & (o_h + i * DIL_H < h)
        b_row = ()
        for unit in tl.static_range(NUM_UNITS):
            b_unit = tl.zeros((BLOCK, UNIT), ACC)
            # With a dilation, units between the columns of two taps are left out.
            if unit == NUM_UNITS - 1 or unit * UNIT < LEAD + SPAN + ((unit + 1) * UNIT - 1 - LEAD) // DIL_W * DIL_W:
                m_x = m_h & (o_w + unit >= 0) & ((o_w + unit) * UNIT < w)
                o_unit = ((zero + i * DIL_H) * stride_x_h + (zero + unit) * stride_x_w) * UNIT
                b_unit = tl.load(p_x + o_unit, mask=m_x[:, None], other=0.0).to(ACC)
            b_row = b_row + columns(b_unit, UNIT)
        for j in tl.static_range(NUM_W):
            b_x = tile(b_row, LEAD + j * DIL_W, DOWN_W, WIDE)
            b_next = ()
            for t in tl.static_range(ROWS * UP_H):
                for u in tl.static_range(UP_W):
                    if (
                        TAP_H + UP_H * i - DOWN_H * t >= 0
                        and TAP_H + UP_H * i - DOWN_H * t < R
                        and TAP_W + UP_W * j - DOWN_W * u >= 0
                        and TAP_W + UP_W * j - DOWN_W * u < S
                    ):
                        b_tap = b_w[(TAP_H + UP_H * i - DOWN_H * t) * S + TAP_W + UP_W * j - DOWN_W * u]
                        b_next = b_next + (tl.fma(b_x, b_tap.broadcast_to(BLOCK, WIDE), b_y[t * UP_W + u]),)
                    else:
                        b_next = b_next + (b_y[t * UP_W + u],)
            b_y = b_next

    q = q_units * UNIT_Y
    o_first = o_q * (WIDE * UP_W)
    p_y = y_ptr + ((o_plane * p + o_t * UP_H) * q_units * UNIT_Y + o_first)[:, None]
    for t in tl.static_range(ROWS * UP_H):
        m_p = (m & (o_t * UP_H + t * DIL_H < p))[:, None]
        p_row = p_y + (zero + t * DIL_H) * q_units * UNIT_Y
        if UP_W <= 2:
            b_out = b_y[t * UP_W]
            if UP_W == 2:
                b_out = tl.join(b_out, b_y[t * 2 + 1]).reshape(BLOCK, 2 * WIDE)
            if RELU:
                b_out = relu(b_out)
            o_col = tl.arange(0, WIDE * UP_W)[None, :]
            m_y = m_p & (o_first[:, None] + o_col < q)
            tl.store(p_row + o_col, b_out.to(y_ptr.dtype.element_ty), mask=m_y)
        else:
            for u in tl.static_range(UP_W):
                b_out = b_y[t * UP_W + u]
                if RELU:
                    b_out = relu(b_out)
                o_col = tl.arange(0, WIDE)[None, :] * UP_W + u
                m_y = m_p & (o_first[:, None] + o_col < q)
                tl.store(p_row + o_col, b_out.to(y_ptr.dtype.element_ty), mask=m_y)
