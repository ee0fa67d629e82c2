"""Forward convolution over a window so small that its input fits in registers, pooled 2x2 if asked; no tensor cores.

y[e, k] = sum over (c, r, s) of x[...] * w[k, c, r, s]     e over blocks of TALL x WIDE output pixels, one a lane

A lane reads the input of its block once, and keeps it while the loop goes over all output channels: a weight is one
load for TALL * WIDE products. A pooled pixel is a block of 2 x 2; without a pool blocks are columns, so that
neighbouring lanes read and write neighbouring memory.
"""

import triton
import triton.language as tl

from kernels.common.jit import near, relu
from kernels.conv2d.common.epilogue import pooled


@triton.jit
def patch_fprop_kernel(
    x_ptr,
    w_ptr,
    bias_ptr,
    y_ptr,
    code_ptr,
    n,
    h,
    w,
    k,
    p,
    q,
    stride_x_n,
    stride_x_c,
    stride_x_h,
    stride_x_w,
    stride_w_k,
    stride_y_n,
    stride_y_k,
    stride_y_p,
    stride_y_q,
    STRIDE_W_C: tl.constexpr,
    STRIDE_W_R: tl.constexpr,
    STRIDE_W_S: tl.constexpr,
    C: tl.constexpr,
    R: tl.constexpr,
    S: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    RELU: tl.constexpr,
    AVERAGE: tl.constexpr,
    HAS_CODE: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """STRIDE_W_*: constants, so that a weight's address is one number and the place in its filter.
    WIDE = 2 means pooled: p and q count pooled pixels. Otherwise a lane writes TALL rows of p."""
    POOL: tl.constexpr = WIDE == 2
    ROWS: tl.constexpr = (TALL - 1) * STRIDE_H + R
    COLS: tl.constexpr = (WIDE - 1) * STRIDE_W + S
    blocks = p if POOL else tl.cdiv(p, TALL)
    zero = tl.full((), 0, INDEX)
    _lane, o_i, o_b, o_q = near(tl.program_id(0).to(INDEX) * BLOCK, blocks, q, BLOCK)
    m = o_i < n
    o_h = o_b * (TALL * STRIDE_H) - PAD_H
    o_w = o_q * (WIDE * STRIDE_W) - PAD_W
    p_x = x_ptr + (o_i * stride_x_n + (zero + o_h) * stride_x_h + (zero + o_w) * stride_x_w)

    b_x = ()
    for c in tl.static_range(C):
        for i in tl.static_range(ROWS):
            m_row = m & (o_h + i >= 0) & (o_h + i < h)
            for j in tl.static_range(COLS):
                o_x = (zero + c) * stride_x_c + (zero + i) * stride_x_h + (zero + j) * stride_x_w
                m_x = m_row & (o_w + j >= 0) & (o_w + j < w)
                b_x = b_x + (tl.load(p_x + o_x, mask=m_x, other=0.0).to(ACC),)

    o_y = o_i * stride_y_n + (zero + o_b * (1 if POOL else TALL)) * stride_y_p + (zero + o_q) * stride_y_q
    for i_k in range(k):
        b_y = ()
        for _ in tl.static_range(TALL * WIDE):
            b_y = b_y + (tl.zeros((BLOCK,), ACC),)
        p_w = w_ptr + (zero + i_k) * stride_w_k
        for c in tl.static_range(C):
            for r in tl.static_range(R):
                for s in tl.static_range(S):
                    b_w = tl.load(p_w + (c * STRIDE_W_C + r * STRIDE_W_R + s * STRIDE_W_S)).to(ACC)
                    b_next = ()
                    for t in tl.static_range(TALL):
                        for u in tl.static_range(WIDE):
                            b_tap = b_x[(c * ROWS + t * STRIDE_H + r) * COLS + u * STRIDE_W + s]  # type: ignore[var-annotated]
                            b_next = b_next + (b_y[t * WIDE + u] + b_tap * b_w,)
                    b_y = b_next
        b_bias = tl.zeros((1,), ACC)
        if HAS_BIAS:
            b_bias += tl.load(bias_ptr + i_k).to(ACC)
        o_k = (zero + i_k) * stride_y_k
        if POOL:
            b_out, b_code = pooled(b_y[0], b_y[1], b_y[2], b_y[3], b_bias, AVERAGE, y_ptr.dtype.element_ty)  # type: ignore[misc]
            tl.store(y_ptr + (o_y + o_k), b_out.to(y_ptr.dtype.element_ty), mask=m)
            if HAS_CODE:
                tl.store(code_ptr + (o_y + o_k), b_code.to(tl.uint8), mask=m)
        else:
            for t in tl.static_range(TALL):
                b_out = b_y[t] + b_bias
                if RELU:
                    b_out = relu(b_out)
                p_y = y_ptr + (o_y + o_k + (zero + t) * stride_y_p)
                tl.store(p_y, b_out.to(y_ptr.dtype.element_ty), mask=m & (o_b * TALL + t < p))
