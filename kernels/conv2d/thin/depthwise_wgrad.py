"""Weight gradient of a depthwise convolution, in two deterministic passes: one kernel for each layout.

dw[split][c, r, s] = sum over the split's pixels of dy[p, q, c] * x[p * stride + r - pad, q * stride + s - pad, c]

A lane holds ROWS rows of dy, and the rows of x that they meet stream past them: each x is read once for all the taps
and rows that it serves. channels_last: a lane has some adjacent channels, and a sum for each channel and tap. NCHW: all
the lanes of a program have the same channel and WIDE adjacent columns each, and a lane one sum for each tap.
"""

import triton
import triton.language as tl

from kernels.common.columns import columns
from kernels.common.jit import first_of_block, unravel


@triton.jit
def depthwise_wgrad_kernel(
    dy_ptr,
    x_ptr,
    dw_ptr,
    items,
    items_per_split,
    c_units,
    h,
    w,
    p,
    q,
    blocks_p,
    stride_dy_n,
    stride_dy_c,
    stride_dy_p,
    stride_dy_q,
    stride_x_n,
    stride_x_c,
    stride_x_h,
    stride_x_w,
    R: tl.constexpr,
    S: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    DIL_H: tl.constexpr,
    DIL_W: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """dw is dense. c_units and the strides but those of c count UNIT elements each."""
    c = c_units * UNIT
    num_c = tl.cdiv(c, BLOCK_C)
    i_c = tl.program_id(0) % num_c
    i_split = (tl.program_id(0) // num_c).to(tl.int64)
    zero = tl.full((), 0, INDEX)
    o_c = i_c * BLOCK_C + tl.arange(0, BLOCK_C)
    m_c = (o_c < c)[None, :]
    p_dy = dy_ptr + ((zero + o_c) * stride_dy_c)[None, :]
    p_x = x_ptr + ((zero + o_c) * stride_x_c)[None, :]
    first = i_split.to(INDEX) * items_per_split
    last = tl.minimum(first + items_per_split, items)
    b_dw = ()
    for _ in tl.static_range(R * S):
        b_dw = b_dw + (tl.zeros((BLOCK_P, BLOCK_C), ACC),)
    for o_0 in range(0, items_per_split, BLOCK_P):
        o = first + o_0 + tl.arange(0, BLOCK_P)
        m = o < last
        o_n, o_p, o_q = unravel(o, blocks_p, q)
        o_t = first_of_block(o_p, ROWS, DIL_H)
        o_h = o_t * STRIDE_H - PAD_H
        o_w = o_q * STRIDE_W - PAD_W
        o_dy = o_n * stride_dy_n + o_t * stride_dy_p + o_q * stride_dy_q
        p_0 = p_dy + (o_dy * UNIT)[:, None]
        b_dy = ()
        for t in tl.static_range(ROWS):
            m_dy = (m & (o_t + t * DIL_H < p))[:, None] & m_c
            b_dy = b_dy + (tl.load(p_0 + (zero + t * DIL_H) * stride_dy_p * UNIT, mask=m_dy, other=0.0).to(ACC),)
        p_0 = p_x + ((o_n * stride_x_n + o_h * stride_x_h + o_w * stride_x_w) * UNIT)[:, None]
        for s in tl.static_range(S):
            m_w = m & (o_w + s * DIL_W >= 0) & (o_w + s * DIL_W < w)
            for i in tl.static_range((ROWS - 1) * STRIDE_H + R):
                m_x = (m_w & (o_h + i * DIL_H >= 0) & (o_h + i * DIL_H < h))[:, None] & m_c
                o_x = ((zero + i * DIL_H) * stride_x_h + (zero + s * DIL_W) * stride_x_w) * UNIT
                b_x = tl.load(p_0 + o_x, mask=m_x, other=0.0).to(ACC)
                b_next = ()
                for tap in tl.static_range(R * S):
                    if (
                        tap % S == s
                        and i - tap // S >= 0
                        and (i - tap // S) % STRIDE_H == 0
                        and (i - tap // S) // STRIDE_H < ROWS
                    ):
                        b_next = b_next + (tl.fma(b_x, b_dy[(i - tap // S) // STRIDE_H], b_dw[tap]),)
                    else:
                        b_next = b_next + (b_dw[tap],)
                b_dw = b_next
    p_dw = dw_ptr + i_split * c * (R * S) + (zero + o_c) * (R * S)
    for tap in tl.static_range(R * S):
        b_sum = tl.sum(b_dw[tap], axis=0)
        tl.store(p_dw + tap, b_sum.to(dw_ptr.dtype.element_ty), mask=o_c < c)


@triton.jit
def depthwise_nchw_wgrad_kernel(
    dy_ptr,
    x_ptr,
    dw_ptr,
    items,
    items_per_split,
    c,
    h,
    w,
    p,
    q_units,
    blocks_p,
    blocks_q,
    stride_dy_n,
    stride_dy_c,
    stride_dy_p,
    stride_dy_q,
    stride_x_n,
    stride_x_c,
    stride_x_h,
    stride_x_w,
    R: tl.constexpr,
    S: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    DIL_H: tl.constexpr,
    DIL_W: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    UNIT: tl.constexpr,
    UNIT_Y: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """dw is dense. The strides of x count UNIT elements (stride_x_w is 1 or UNIT is); those of dy, and q_units, count
    UNIT_Y."""
    START: tl.constexpr = -PAD_W // UNIT
    LEAD: tl.constexpr = -PAD_W - START * UNIT
    SPAN: tl.constexpr = (WIDE - 1) * STRIDE_W + 1
    NUM_UNITS: tl.constexpr = (LEAD + (S - 1) * DIL_W + SPAN + UNIT - 1) // UNIT
    zero = tl.full((), 0, INDEX)
    i_c = zero + tl.program_id(0) % c
    i_split = (tl.program_id(0) // c).to(tl.int64)
    p_dy = dy_ptr + i_c * stride_dy_c * UNIT_Y
    p_x = x_ptr + i_c * stride_x_c * UNIT + tl.arange(0, UNIT)[None, :]
    first = i_split.to(INDEX) * items_per_split
    last = tl.minimum(first + items_per_split, items)
    b_dw = ()
    for _ in tl.static_range(R * S):
        b_dw = b_dw + (tl.zeros((BLOCK,), ACC),)
    for o_0 in range(0, items_per_split, BLOCK):
        o = first + o_0 + tl.arange(0, BLOCK)
        m = o < last
        o_n, o_p, o_q = unravel(o, blocks_p, blocks_q)
        o_t = first_of_block(o_p, ROWS, DIL_H)
        o_h = o_t * STRIDE_H - PAD_H
        o_w = o_q * (WIDE * STRIDE_W // UNIT) + START
        o_col = (o_q * WIDE)[:, None] + tl.arange(0, WIDE)[None, :]
        m_col = m[:, None] & (o_col < q_units * UNIT_Y)
        p_0 = p_dy + ((o_n * stride_dy_n + o_t * stride_dy_p) * UNIT_Y)[:, None] + o_col * stride_dy_q
        b_dy = ()
        for t in tl.static_range(ROWS):
            m_dy = m_col & (o_t + t * DIL_H < p)[:, None]
            b_t = tl.load(p_0 + (zero + t * DIL_H) * stride_dy_p * UNIT_Y, mask=m_dy, other=0.0).to(ACC)
            b_dy = b_dy + columns(b_t, WIDE)
        p_1 = p_x + ((o_n * stride_x_n + o_h * stride_x_h + o_w * stride_x_w) * UNIT)[:, None]
        for i in tl.static_range((ROWS - 1) * STRIDE_H + R):
            m_h = m & (o_h + i * DIL_H >= 0) & (o_h + i * DIL_H < h)
            b_row = ()
            for unit in tl.static_range(NUM_UNITS):
                b_unit = tl.zeros((BLOCK, UNIT), ACC)
                # With a dilation, units between the columns of two taps are left out.
                if (
                    unit * UNIT < (unit * UNIT + UNIT - 1 - LEAD) // DIL_W * DIL_W + LEAD + SPAN
                    or unit == NUM_UNITS - 1
                ):
                    m_x = m_h & (o_w + unit >= 0) & ((o_w + unit) * UNIT < w)
                    o_unit = ((zero + i * DIL_H) * stride_x_h + (zero + unit) * stride_x_w) * UNIT
                    b_unit = tl.load(p_1 + o_unit, mask=m_x[:, None], other=0.0).to(ACC)
                b_row = b_row + columns(b_unit, UNIT)
            b_next = ()
            for tap in tl.static_range(R * S):
                b_sum = b_dw[tap]
                if i - tap // S >= 0 and (i - tap // S) % STRIDE_H == 0 and (i - tap // S) // STRIDE_H < ROWS:
                    for v in tl.static_range(WIDE):
                        b_sum = tl.fma(
                            b_row[LEAD + tap % S * DIL_W + v * STRIDE_W],
                            b_dy[(i - tap // S) // STRIDE_H * WIDE + v],
                            b_sum,
                        )
                b_next = b_next + (b_sum,)
            b_dw = b_next
    p_dw = dw_ptr + i_split * c * (R * S) + i_c * (R * S)
    for tap in tl.static_range(R * S):
        tl.store(p_dw + tap, tl.sum(b_dw[tap], axis=0).to(dw_ptr.dtype.element_ty))
