"""Images and filters with few channels as padded rows, in which every window row is a run of adjacent elements.

x [n, c, h, w] -> [n, rows, columns, CPAD], zeros around the images and in the added channels
w [k, c, r, s] -> [k', TOTAL] with element (r, s, c) at r * RUN + s * CPAD + c, zeros elsewhere

RUN = S * CPAD is exactly one window row: a neighbouring pixel that is infinite never meets a zero weight. One launch
writes both: the first programs copy images, the others filters.
"""

import triton
import triton.language as tl

from kernels.common.jit import near, unravel


@triton.jit
def _pack_images(
    x_ptr,
    rows_ptr,
    first,
    n,
    h,
    w,
    rows,
    columns,
    stride_x_n,
    stride_x_c,
    stride_x_h,
    stride_x_w,
    C: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    CPAD: tl.constexpr,
    INDEX: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    zero = tl.full((), 0, INDEX)
    o, o_i, o_row, o_col = near(first, rows, columns, BLOCK_P)
    o_h = o_row - PAD_H
    o_w = o_col - PAD_W
    o_c = tl.arange(0, CPAD)
    m_o = o_i < n
    m = m_o & (o_h >= 0) & (o_h < h) & (o_w >= 0) & (o_w < w)
    p_x = x_ptr + (o_i * stride_x_n + (zero + o_h) * stride_x_h + (zero + o_w) * stride_x_w)
    p_x = p_x[:, None] + ((zero + o_c) * stride_x_c)[None, :]
    b_x = tl.load(p_x, mask=m[:, None] & (o_c < C)[None, :], other=0.0)
    tl.store(rows_ptr + (o[:, None] * CPAD + o_c[None, :]), b_x, mask=m_o[:, None])


@triton.jit
def rows_pack_kernel(
    x_ptr,
    w_ptr,
    rows_ptr,
    matrix_ptr,
    n,
    h,
    w,
    k,
    rows,
    columns,
    stride_x_n,
    stride_x_c,
    stride_x_h,
    stride_x_w,
    stride_w_k,
    stride_w_c,
    stride_w_r,
    stride_w_s,
    C: tl.constexpr,
    R: tl.constexpr,
    S: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    CPAD: tl.constexpr,
    TOTAL: tl.constexpr,
    TURNED: tl.constexpr,
    INDEX: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_W: tl.constexpr,
):
    """TURNED: the filters are turned by 180 degrees."""
    num_x = tl.cdiv(tl.full((), n, INDEX) * rows * columns, BLOCK_P)
    i = tl.program_id(0)
    if i < num_x:
        _pack_images(
            x_ptr,
            rows_ptr,
            i.to(INDEX) * BLOCK_P,
            n,
            h,
            w,
            rows,
            columns,
            stride_x_n,
            stride_x_c,
            stride_x_h,
            stride_x_w,
            C,
            PAD_H,
            PAD_W,
            CPAD,
            INDEX,
            BLOCK_P,
        )
    else:
        o = (i - num_x).to(tl.int32) * BLOCK_W + tl.arange(0, BLOCK_W)
        o_k = o // TOTAL
        o_r, o_s, o_c = unravel(o % TOTAL, S, CPAD)
        m = (o_k < k) & (o_r < R) & (o_c < C)
        if TURNED:
            o_r = R - 1 - o_r
            o_s = S - 1 - o_s
        p_w = w_ptr + (o_k.to(INDEX) * stride_w_k + o_c * stride_w_c + o_r * stride_w_r + o_s * stride_w_s)
        tl.store(matrix_ptr + o, tl.load(p_w, mask=m, other=0.0))
