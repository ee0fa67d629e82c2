"""Input gradient of a depthwise convolution by rows that stream through registers, for any stride without a wasted tap.

dx[h, w, c] = sum over (r, s) of dy[(h + pad - r) / stride, (w + pad - s) / stride, c] * w[c, r, s] where that is whole

A program holds ROWS * STRIDE_H rows of dx and BLOCK_Q * STRIDE_W columns. Both start at multiples of the stride, so
that which taps meet is known when compiling: row t and column u of a stride's period take dy's row i and column j by
tap (t + pad - stride * i, u + pad - stride * j). A value of dy is read once per column j for all that it touches.
"""

import triton
import triton.language as tl


@triton.jit
def depthwise_dgrad_kernel(
    dy_ptr,
    w_ptr,
    dx_ptr,
    c,
    h,
    w,
    p,
    q,
    stride_dy_n,
    stride_dy_c,
    stride_dy_p,
    stride_dy_q,
    stride_w_c,
    stride_w_r,
    stride_w_s,
    stride_dx_n,
    stride_dx_c,
    stride_dx_h,
    stride_dx_w,
    R: tl.constexpr,
    S: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    FIRST_P: tl.constexpr,
    FIRST_Q: tl.constexpr,
    NUM_P: tl.constexpr,
    NUM_Q: tl.constexpr,
    PAIRS: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """FIRST_P, NUM_P: the rows of dy that the rows of dx of a program take, counted from its first; _Q likewise.

    PAIRS: columns are adjacent in memory and STRIDE_W is 2, so that they leave two by two.
    """
    TALL: tl.constexpr = ROWS * STRIDE_H
    num_c = tl.cdiv(c, BLOCK_C)
    num_w = tl.cdiv(w, BLOCK_Q * STRIDE_W)
    num_h = tl.cdiv(h, TALL)
    i_c = tl.program_id(0) % num_c
    i_w = tl.program_id(0) // num_c % num_w
    i_h = tl.program_id(0) // num_c // num_w % num_h
    zero = tl.full((), 0, INDEX)
    i_n = zero + tl.program_id(0) // num_c // num_w // num_h
    o_c = i_c * BLOCK_C + tl.arange(0, BLOCK_C)
    o_j = i_w * BLOCK_Q + tl.arange(0, BLOCK_Q)
    m_c = o_c < c
    p_dy = dy_ptr + (i_n * stride_dy_n + (zero + o_c) * stride_dy_c)[None, :]  # [1, BLOCK_C]
    p_w = w_ptr + (zero + o_c) * stride_w_c

    b_dx = ()
    for _ in tl.static_range(TALL * STRIDE_W):
        b_dx = b_dx + (tl.zeros((BLOCK_Q, BLOCK_C), ACC),)
    for i in tl.static_range(NUM_P):
        o_p = i_h * ROWS + (FIRST_P + i)
        for j in tl.static_range(NUM_Q):
            o_q = o_j + (FIRST_Q + j)
            m_dy = ((o_p >= 0) & (o_p < p) & (o_q >= 0) & (o_q < q))[:, None] & m_c[None, :]
            o_dy = ((zero + o_p) * stride_dy_p + (zero + o_q) * stride_dy_q)[:, None]
            b_dy = tl.load(p_dy + o_dy, mask=m_dy, other=0.0).to(ACC)
            b_next = ()
            for t in tl.static_range(TALL):
                for u in tl.static_range(STRIDE_W):
                    if (
                        t + PAD_H - STRIDE_H * (FIRST_P + i) >= 0
                        and t + PAD_H - STRIDE_H * (FIRST_P + i) < R
                        and u + PAD_W - STRIDE_W * (FIRST_Q + j) >= 0
                        and u + PAD_W - STRIDE_W * (FIRST_Q + j) < S
                    ):
                        o_r = (t + PAD_H - STRIDE_H * (FIRST_P + i)) * stride_w_r
                        o_s = (u + PAD_W - STRIDE_W * (FIRST_Q + j)) * stride_w_s
                        b_w = tl.load(p_w + (o_r + o_s), mask=m_c, other=0.0).to(ACC)
                        b_next = b_next + (b_dx[t * STRIDE_W + u] + b_dy * b_w[None, :],)
                    else:
                        b_next = b_next + (b_dx[t * STRIDE_W + u],)
            b_dx = b_next

    p_dx = dx_ptr + (i_n * stride_dx_n + (zero + o_c) * stride_dx_c)[None, :]
    o_w = o_j * STRIDE_W
    for t in tl.static_range(TALL):
        o_h = i_h * TALL + t
        p_row = p_dx + ((zero + o_h) * stride_dx_h + (zero + o_w) * stride_dx_w)[:, None]
        m_h = (o_h < h) & m_c[None, :]
        if PAIRS:
            b_pair = tl.join(b_dx[2 * t], b_dx[2 * t + 1]).to(dx_ptr.dtype.element_ty)
            o_u = tl.arange(0, 2)[None, None, :]
            m_dx = (o_w[:, None, None] + o_u < w) & m_h[:, :, None]
            tl.store(p_row[:, :, None] + o_u, b_pair, mask=m_dx)
        else:
            for u in tl.static_range(STRIDE_W):
                m_dx = (o_w + u < w)[:, None] & m_h
                p_out = p_row + (zero + u) * stride_dx_w
                tl.store(p_out, b_dx[t * STRIDE_W + u].to(dx_ptr.dtype.element_ty), mask=m_dx)
