"""Pools whose window is the whole plane, forward and backward, summed in one order.

average   y[plane] = sum over the plane's hw pixels / d            plane over n * c
          dx[e] = dy[plane of e] / d                               e over n * c * hw, in memory order
maximum   y[plane] = the greatest pixel, code[plane] its number    the first of equals, the last NaN
          dx[e] = dy[plane of e] where code[plane of e] is e, else 0
"""

import triton
import triton.language as tl

from kernels.pool2d.lanes import met


@triton.jit
def _place(planes, c, parts, HW, CHANNELS_LAST: tl.constexpr, INDEX: tl.constexpr, BLOCK_P: tl.constexpr):
    """A program's part, its planes, where each begins, the step from pixel to pixel, and which planes are there.

    In channels_last the planes are channels of one image.
    """
    i_block = tl.program_id(0) // parts
    if CHANNELS_LAST:
        blocks = tl.cdiv(c, BLOCK_P)
        i_n = (i_block // blocks).to(INDEX)
        o_c = (i_block % blocks) * BLOCK_P + tl.arange(0, BLOCK_P)
        m_p = o_c < c
        o_plane = i_n * c + o_c
        o_start = i_n * HW * c + o_c
        step = c
    else:
        o_plane = i_block.to(INDEX) * BLOCK_P + tl.arange(0, BLOCK_P)
        m_p = o_plane < planes
        o_start = o_plane * HW
        step = 1
    return tl.program_id(0) % parts, o_plane, o_start, step, m_p


@triton.jit
def global_avg_pool_kernel(
    x_ptr,
    y_ptr,
    planes,
    c,
    parts,
    part,
    divisor,
    HW: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """BLOCK_P planes, BLOCK_E of their pixels at a time, of one of the parts of `part` pixels; y [parts, planes]."""
    i_part, o_plane, o_start, step, m_p = _place(planes, c, parts, HW, CHANNELS_LAST, INDEX, BLOCK_P)
    first = i_part * part
    b_sum = tl.zeros((BLOCK_P, BLOCK_E), ACC)
    for e_0 in range(0, part, BLOCK_E):
        o_e = first + e_0 + tl.arange(0, BLOCK_E)
        p_x = x_ptr + (o_start[:, None] + (o_e * step)[None, :])
        b_sum += tl.load(p_x, mask=m_p[:, None] & (o_e < HW)[None, :], other=0.0).to(ACC)
    b_y = tl.sum(b_sum, axis=1) / tl.full((), divisor, ACC)
    tl.store(y_ptr + (i_part.to(INDEX) * planes + o_plane), b_y.to(y_ptr.dtype.element_ty), mask=m_p)


@triton.jit
def _later(b_0, o_0, b_1, o_1):
    """The better of two pixels, whichever comes first: the greater, the first of equals, the last NaN."""
    m = (b_1 > b_0) | ((b_1 == b_0) & (o_1 < o_0)) | ((b_1 != b_1) & ((b_0 == b_0) | (o_1 > o_0)))
    return tl.where(m, b_1, b_0), tl.where(m, o_1, o_0)


@triton.jit
def global_max_pool_kernel(
    x_ptr,
    y_ptr,
    code_ptr,
    indices_ptr,
    planes,
    c,
    HW: tl.constexpr,
    WANT_CODE: tl.constexpr,
    WANT_INDICES: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    INDEX: tl.constexpr,
    TYPE: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_E: tl.constexpr,
):
    """BLOCK_P planes, BLOCK_E of their pixels at a time."""
    _, o_plane, o_start, step, m_p = _place(planes, c, 1, HW, CHANNELS_LAST, INDEX, BLOCK_P)
    b_best = tl.full((BLOCK_P, BLOCK_E), float("-inf"), TYPE)
    o_best = tl.zeros((BLOCK_P, BLOCK_E), tl.int32) + tl.arange(0, BLOCK_E)[None, :]
    for e_0 in range(0, HW, BLOCK_E):
        o_e = e_0 + tl.arange(0, BLOCK_E)
        p_x = x_ptr + (o_start[:, None] + (o_e * step)[None, :])
        b_x = tl.load(p_x, mask=m_p[:, None] & (o_e < HW)[None, :], other=float("-inf")).to(TYPE)
        b_best, o_best = met(b_x, o_e[None, :], b_best, o_best, WANT_CODE or WANT_INDICES)
    b_y, o_y = tl.reduce((b_best, o_best), 1, _later)
    tl.store(y_ptr + o_plane, b_y.to(y_ptr.dtype.element_ty), mask=m_p)
    if WANT_CODE:
        tl.store(code_ptr + o_plane, o_y.to(code_ptr.dtype.element_ty), mask=m_p)
    if WANT_INDICES:
        tl.store(indices_ptr + o_plane, o_y.to(tl.int64), mask=m_p)


@triton.jit
def global_pool_backward_kernel(
    dy_ptr,
    code_ptr,
    dx_ptr,
    numel,
    c,
    divisor,
    stride_dy_n,
    stride_dy_c,
    AVERAGE: tl.constexpr,
    HW: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """code: dense. The strides of dy are those of its images and channels."""
    o = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    m = o < numel
    if CHANNELS_LAST:
        o_c = o % c
        o_pixel = o // c
        o_n = o_pixel // HW
        o_e = o_pixel % HW
    else:
        o_plane = o // HW
        o_e = o % HW
        o_c = o_plane % c
        o_n = o_plane // c
    zero = tl.full((), 0, INDEX)
    p_dy = dy_ptr + (o_n * stride_dy_n + (zero + o_c) * stride_dy_c)
    b_dy = tl.load(p_dy, mask=m, other=0.0).to(ACC)
    if AVERAGE:
        b_dx = b_dy / tl.full((), divisor, ACC)
    else:
        b_code = tl.load(code_ptr + o_n * c + o_c, mask=m, other=0)
        b_dx = tl.where(b_code.to(tl.int32) == o_e, b_dy, 0.0)
    tl.store(dx_ptr + o, b_dx.to(dx_ptr.dtype.element_ty), mask=m)
