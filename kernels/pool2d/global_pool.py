"""The average of whole planes, forward and backward: one pass each, summed in one order.

forward   y[plane] = sum over the plane's hw pixels / d      plane over n * c
backward  dx[e] = dy[plane of e] / d                         e over n * c * hw, in memory order
"""

import triton
import triton.language as tl


@triton.jit
def global_avg_pool_kernel(
    x_ptr,
    y_ptr,
    planes,
    c,
    divisor,
    HW: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """BLOCK_P planes, BLOCK_E of their pixels at a time; in channels_last the planes are channels of one image."""
    if CHANNELS_LAST:
        blocks = tl.cdiv(c, BLOCK_P)
        i_n = (tl.program_id(0) // blocks).to(INDEX)
        o_c = (tl.program_id(0) % blocks) * BLOCK_P + tl.arange(0, BLOCK_P)
        m_p = o_c < c
        o_plane = i_n * c + o_c
        o_start = i_n * HW * c + o_c
        step = c
    else:
        o_plane = tl.program_id(0).to(INDEX) * BLOCK_P + tl.arange(0, BLOCK_P)
        m_p = o_plane < planes
        o_start = o_plane * HW
        step = 1
    b_sum = tl.zeros((BLOCK_P, BLOCK_E), ACC)
    for e_0 in range(0, HW, BLOCK_E):
        o_e = e_0 + tl.arange(0, BLOCK_E)
        p_x = x_ptr + (o_start[:, None] + (o_e * step)[None, :])
        b_sum += tl.load(p_x, mask=m_p[:, None] & (o_e < HW)[None, :], other=0.0).to(ACC)
    b_y = tl.sum(b_sum, axis=1) / tl.full((), divisor, ACC)
    tl.store(y_ptr + o_plane, b_y.to(y_ptr.dtype.element_ty), mask=m_p)


@triton.jit
def global_avg_pool_backward_kernel(
    dy_ptr,
    dx_ptr,
    numel,
    c,
    divisor,
    stride_dy_n,
    stride_dy_c,
    HW: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    o = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    m = o < numel
    if CHANNELS_LAST:
        o_c = o % c
        o_n = o // c // HW
    else:
        o_plane = o // HW
        o_c = o_plane % c
        o_n = o_plane // c
    zero = tl.full((), 0, INDEX)
    p_dy = dy_ptr + (o_n * stride_dy_n + (zero + o_c) * stride_dy_c)
    b_dy = tl.load(p_dy, mask=m, other=0.0).to(ACC)
    b_dx = b_dy / tl.full((), divisor, ACC)
    tl.store(dx_ptr + o, b_dx.to(dx_ptr.dtype.element_ty), mask=m)
