"""Direct convolution for groups too thin for a matrix product (depthwise above all): one lane, one output element.

fprop  y[e]  = sum over (c, r, s) of x[...] * w[k(e), c, r, s]          e over n * k * p * q
dgrad  dx[e] = sum over (k, r, s) of dy[...] * w[k, c(e), r, s]         e over n * c * h * w
wgrad  dw[split][k, c, r, s] = sum over the split's pixels of dy * x    a program holds BLOCK_N output channels

Elements are numbered in memory order, so that neighbouring lanes touch neighbouring memory in either layout.
"""

import triton
import triton.language as tl

from kernels.common.jit import coordinates, relu, unravel


@triton.jit
def direct_fprop_kernel(
    x_ptr,
    w_ptr,
    bias_ptr,
    y_ptr,
    numel,
    h,
    w,
    k,
    p,
    q,
    k_group,
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
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    DIL_H: tl.constexpr,
    DIL_W: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    RELU: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    zero = tl.full((), 0, INDEX)
    o = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    m = o < numel
    o_i, o_k, o_p, o_q = coordinates(o, k, p, q, CHANNELS_LAST)
    o_h = o_p * STRIDE_H - PAD_H
    o_w = o_q * STRIDE_W - PAD_W
    o_c = (zero + o_k // k_group * C) * stride_x_c
    p_x = x_ptr + o_i * stride_x_n + (o_c + (zero + o_h) * stride_x_h + (zero + o_w) * stride_x_w)
    p_w = w_ptr + (zero + o_k) * stride_w_k
    b_y = tl.zeros((BLOCK,), ACC)
    for c in range(C):
        for r in range(R):
            for s in tl.static_range(0, S):
                m_x = m & (o_h + r * DIL_H >= 0) & (o_h + r * DIL_H < h)
                m_x = m_x & (o_w + s * DIL_W >= 0) & (o_w + s * DIL_W < w)
                o_x = (zero + c) * stride_x_c + (zero + r * DIL_H) * stride_x_h + (zero + s * DIL_W) * stride_x_w
                b_x = tl.load(p_x + o_x, mask=m_x, other=0.0).to(ACC)
                b_w = tl.load(p_w + (c * stride_w_c + r * stride_w_r + s * stride_w_s), mask=m, other=0.0).to(ACC)
                b_y += b_x * b_w
    if HAS_BIAS:
        b_y += tl.load(bias_ptr + o_k, mask=m, other=0.0).to(ACC)
    if RELU:
        b_y = relu(b_y)
    tl.store(y_ptr + o, b_y.to(y_ptr.dtype.element_ty), mask=m)


@triton.jit
def direct_dgrad_kernel(
    dy_ptr,
    w_ptr,
    dx_ptr,
    numel,
    c,
    h,
    w,
    p,
    q,
    c_group,
    stride_dy_n,
    stride_dy_k,
    stride_dy_p,
    stride_dy_q,
    stride_w_k,
    stride_w_c,
    stride_w_r,
    stride_w_s,
    K: tl.constexpr,
    R: tl.constexpr,
    S: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    DIL_H: tl.constexpr,
    DIL_W: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    zero = tl.full((), 0, INDEX)
    o = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    m = o < numel
    o_i, o_c, o_h, o_w = coordinates(o, c, h, w, CHANNELS_LAST)
    o_k = o_c // c_group * K  # first output channel of the group
    p_dy = dy_ptr + o_i * stride_dy_n + (zero + o_k) * stride_dy_k
    p_w = w_ptr + (zero + o_k) * stride_w_k + (zero + o_c % c_group) * stride_w_c
    b_dx = tl.zeros((BLOCK,), ACC)
    for k in range(K):
        for r in range(R):
            for s in tl.static_range(0, S):
                o_p = o_h + PAD_H - r * DIL_H
                o_q = o_w + PAD_W - s * DIL_W
                m_dy = m & (o_p >= 0) & (o_q >= 0) & (o_p % STRIDE_H == 0) & (o_q % STRIDE_W == 0)
                o_p = o_p // STRIDE_H
                o_q = o_q // STRIDE_W
                m_dy = m_dy & (o_p < p) & (o_q < q)
                o_dy = (zero + k) * stride_dy_k + (zero + o_p) * stride_dy_p + (zero + o_q) * stride_dy_q
                o_f = (zero + k) * stride_w_k + r * stride_w_r + s * stride_w_s
                b_dy = tl.load(p_dy + o_dy, mask=m_dy, other=0.0).to(ACC)
                b_w = tl.load(p_w + o_f, mask=m, other=0.0).to(ACC)
                b_dx += b_dy * b_w
    tl.store(dx_ptr + o, b_dx.to(dx_ptr.dtype.element_ty), mask=m)


@triton.jit
def direct_wgrad_kernel(
    dy_ptr,
    x_ptr,
    dw_ptr,
    pixels,
    pixels_per_split,
    h,
    w,
    k,
    p,
    q,
    k_group,
    stride_dy_n,
    stride_dy_k,
    stride_dy_p,
    stride_dy_q,
    stride_x_n,
    stride_x_c,
    stride_x_h,
    stride_x_w,
    stride_dw_split,
    stride_dw_k,
    stride_dw_c,
    stride_dw_r,
    stride_dw_s,
    C: tl.constexpr,
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
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    num_n = tl.cdiv(k, BLOCK_N)
    i_n = tl.program_id(0) % num_n
    i_rest = tl.program_id(0) // num_n
    i_tap = i_rest % (C * R * S)
    i_split = (i_rest // (C * R * S)).to(tl.int64)
    zero = tl.full((), 0, INDEX)
    i_c = i_tap // (R * S)
    i_r = i_tap // S % R
    i_s = i_tap % S
    o_n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    m_n = o_n < k
    o_c = (zero + o_n // k_group * C + i_c) * stride_x_c
    first = i_split.to(INDEX) * pixels_per_split
    last = tl.minimum(first + pixels_per_split, pixels)
    b_dw = tl.zeros((BLOCK_N,), ACC)
    for m_0 in range(0, pixels_per_split, BLOCK_M):
        o_m = first + m_0 + tl.arange(0, BLOCK_M)
        m_m = o_m < last
        o_i, o_p, o_q = unravel(o_m, p, q)
        o_h = o_p * STRIDE_H - PAD_H + i_r * DIL_H
        o_w = o_q * STRIDE_W - PAD_W + i_s * DIL_W
        m_x = m_m & (o_h >= 0) & (o_h < h) & (o_w >= 0) & (o_w < w)
        o_dy = o_i * stride_dy_n + (o_p * stride_dy_p + o_q * stride_dy_q)
        o_x = o_i * stride_x_n + (o_h * stride_x_h + o_w * stride_x_w)
        o_dy = o_dy[:, None] + ((zero + o_n) * stride_dy_k)[None, :]
        b_dy = tl.load(dy_ptr + o_dy, mask=m_m[:, None] & m_n[None, :], other=0.0).to(ACC)
        b_x = tl.load(x_ptr + (o_x[:, None] + o_c[None, :]), mask=m_x[:, None] & m_n[None, :], other=0.0).to(ACC)
        b_dw += tl.sum(b_dy * b_x, axis=0)
    o_dw = o_n * stride_dw_k + i_c * stride_dw_c + i_r * stride_dw_r + i_s * stride_dw_s
    tl.store(dw_ptr + i_split * stride_dw_split + o_dw, b_dw.to(dw_ptr.dtype.element_ty), mask=m_n)
