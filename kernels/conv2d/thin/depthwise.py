"""Depthwise convolution (one input and one output channel a group) in channels_last, forward and input gradient.

y[t, u, c] += x[i, j, c] * w[c, r, s]   where UP * i = DOWN * t + r - PAD, and the same of columns j, u, s

DOWN is the stride of the forward pass, UP that of the input gradient, which is the same sum with x and y exchanged and
the window turned round (FLIP); the other is 1. A lane holds WIDE adjacent channels of ROWS * UP_H rows and COLS * UP_W
columns of y. It reads each x that they meet once, and its weights, which lie together, in R * S reads of WIDE elements.
Which tap joins an x and a y is known when compiling, so that no stride wastes a product.
"""

import triton
import triton.language as tl

from kernels.common.columns import columns, tile
from kernels.common.jit import first_of_block, relu, unravel


@triton.jit
def depthwise_kernel(
    x_ptr,
    w_ptr,
    bias_ptr,
    y_ptr,
    items,
    h,
    w,
    p,
    q,
    blocks_p,
    blocks_q,
    blocks_c,
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
    TAPS_FIRST: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    RELU: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    WIDE: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """y is dense in channels_last, w dense. The strides of x but stride_x_c count WIDE elements; so many divide c.

    FIRST_H, NUM_H: the rows of x that a lane's rows of y meet, counted from ROWS * DOWN_H times its number. TAP_H: the
    tap of the first of them in the first row of y; TAP_H + i * UP_H - t * DOWN_H that of row i in row t. _W likewise.
    """
    zero = tl.full((), 0, INDEX)
    o = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    m = o < items
    o_rest = o // blocks_c
    o_n, o_p, o_q = unravel(o_rest, blocks_p, blocks_q)
    o_lane = ((o - o_rest * blocks_c) * WIDE)[:, None]
    o_c = o_lane + tl.arange(0, WIDE)[None, :]
    o_t = first_of_block(o_p, ROWS, DIL_H)
    o_u = first_of_block(o_q, COLS, DIL_W)
    o_h = o_t * DOWN_H + FIRST_H
    o_w = o_u * DOWN_W + FIRST_W
    p_x = x_ptr + ((o_n * stride_x_n + o_h * stride_x_h + o_w * stride_x_w) * WIDE)[:, None] + o_c * stride_x_c

    b_w = ()  # columns of the window one after the other
    if not TAPS_FIRST:
        b_flat = ()
        for v in tl.static_range(R * S):
            o_v = o_lane * (R * S) + (v * WIDE + tl.arange(0, WIDE))[None, :]
            b_v = tl.load(w_ptr + o_v, mask=m[:, None], other=0.0)
            b_flat = b_flat + columns(b_v, WIDE)
        for s in tl.static_range(S):
            for r in tl.static_range(R):
                b_w = b_w + (tile(b_flat, (R - 1 - r) * S + S - 1 - s if FLIP else r * S + s, R * S, WIDE),)

    b_first = tl.zeros((BLOCK, WIDE), ACC)
    if HAS_BIAS:
        b_first += tl.load(bias_ptr + o_c, mask=m[:, None], other=0.0).to(ACC)
    b_y = ()
    for _ in tl.static_range(ROWS * UP_H * COLS * UP_W):
        b_y = b_y + (b_first,)
    b_rows = ()
    for i in tl.static_range(NUM_H):
        b_rows = b_rows + (((o_h + i * DIL_H >= 0) & (o_h + i * DIL_H < h))[:, None],)
    # Columns outside: the weights of one column of the window at a time are live as ACC.
    for j in tl.static_range(NUM_W):
        m_w = (m & (o_w + j * DIL_W >= 0) & (o_w + j * DIL_W < w))[:, None]
        if TAPS_FIRST:  # a column of weights when it is due
            for s in tl.static_range(S):
                if s <= TAP_W + UP_W * j and (j == 0 or s > TAP_W + UP_W * (j - 1)):
                    for r in tl.static_range(R):
                        o_tap = o_c + (zero + ((R - 1 - r) * S + S - 1 - s if FLIP else r * S + s)) * (blocks_c * WIDE)
                        b_w = b_w + (tl.load(w_ptr + o_tap, mask=m[:, None], other=0.0),)
        for i in tl.static_range(NUM_H):
            o_x = ((zero + i * DIL_H) * stride_x_h + (zero + j * DIL_W) * stride_x_w) * WIDE
            b_x = tl.load(p_x + o_x, mask=b_rows[i] & m_w, other=0.0).to(ACC)
            b_next = ()
            for t in tl.static_range(ROWS * UP_H):
                for u in tl.static_range(COLS * UP_W):
                    if (
                        TAP_H + UP_H * i - DOWN_H * t >= 0
                        and TAP_H + UP_H * i - DOWN_H * t < R
                        and TAP_W + UP_W * j - DOWN_W * u >= 0
                        and TAP_W + UP_W * j - DOWN_W * u < S
                    ):
                        b_tap = b_w[(TAP_W + UP_W * j - DOWN_W * u) * R + TAP_H + UP_H * i - DOWN_H * t].to(ACC)
                        b_next = b_next + (tl.fma(b_x, b_tap, b_y[t * (COLS * UP_W) + u]),)
                    else:
                        b_next = b_next + (b_y[t * (COLS * UP_W) + u],)
            b_y = b_next

    o_first = (o_n * p + o_t * UP_H) * q + o_u * UP_W
    p_y = y_ptr + (o_first * blocks_c * WIDE)[:, None] + o_c
    for t in tl.static_range(ROWS * UP_H):
        for u in tl.static_range(COLS * UP_W):
            b_out = b_y[t * (COLS * UP_W) + u]
            if RELU:
                b_out = relu(b_out)
            m_y = (m & (o_t * UP_H + t * DIL_H < p) & (o_u * UP_W + u * DIL_W < q))[:, None]
            o_y = ((zero + t * DIL_H) * q + u * DIL_W) * blocks_c * WIDE
            tl.store(p_y + o_y, b_out.to(y_ptr.dtype.element_ty), mask=m_y)
