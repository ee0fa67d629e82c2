"""LeNet-5 backward through the data: from the gradient of the scores to that of every layer's output.

A program takes IMAGES images at a time from the last layer to the first:

    ds  = dscores * scale
    dh2 = (ds @ fc3) * slope(h2)      dh1 = (dh2 @ fc2) * slope(h1)       M = images
    dy2 = dh1 @ fc1                        dz2 = dy2 spread by the pool's code
    dy1 = transposed conv2 of dz2          M = images x pairs of 2x2 windows of y1, K = 48 x 16, N = 4 x 2 x 8

Everything that it writes is an image's own, and kept for the weight gradients; only dz2 [image, row, column, 16] is the
program's scratch. A barrier stands between the writes of a step and the reads of the next; dz2 is read after the last
barrier of a round and written again after the first two of the next.
"""

import triton
import triton.language as tl

from kernels.lenet.jit import divide, linear, operand, product, slope
from kernels.lenet.windows import positions, window_product


@triton.jit
def _spread(
    b_dy,
    code_ptr,
    y_ptr,
    dz_ptr,
    o_row,
    o_n,
    m,
    C2: tl.constexpr,
    PW: tl.constexpr,
    PIXELS: tl.constexpr,
    AVERAGE: tl.constexpr,
    TANH: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dy2 [ROWS, features] -> dz2 at the four positions of every pool window."""
    o_f = o_n // PIXELS
    o_pixel = o_n % PIXELS
    o_code = o_row[:, None] * (C2 * PIXELS) + o_n[None, :]
    o_image = o_row * (4 * PIXELS * 16)
    p_dz = dz_ptr + (o_image[:, None] + ((o_pixel // PW * (4 * PW) + o_pixel % PW * 2) * 16 + o_f)[None, :])
    if AVERAGE and TANH:
        p_slope = code_ptr + ((o_row * (PIXELS * 64))[:, None] + (o_pixel * 64 + o_f)[None, :])
    else:
        b_code = tl.load(code_ptr + o_code, mask=m, other=4).to(tl.int32)
        if TANH:
            b_dy = b_dy * slope(tl.load(y_ptr + o_code, mask=m, other=0.0).to(tl.float32), TANH)
    for j in tl.static_range(4):
        if AVERAGE and TANH:
            b_dz = b_dy * tl.load(p_slope + j * 16, mask=m, other=0.0).to(tl.float32)
        elif AVERAGE:
            b_dz = tl.where(((b_code >> j) & 1) != 0, b_dy * 0.25, 0.0)
        else:
            b_dz = tl.where(b_code == j, b_dy, 0.0)
        tl.store(p_dz + (j // 2 * (2 * PW) + j % 2) * 16, operand(b_dz, DTYPE, PRECISION), mask=m)


@triton.jit
def backward_kernel(
    dscores_ptr,
    scale_ptr,
    w2_ptr,
    w3_ptr,
    w4_ptr,
    w5_ptr,
    packed_ptr,
    y2_ptr,
    code2_ptr,
    h1_ptr,
    h2_ptr,
    ds_ptr,
    dh2_ptr,
    dh1_ptr,
    dy2_ptr,
    dz2_ptr,
    dy1_ptr,
    n,
    stride_scale,
    H1: tl.constexpr,
    W1: tl.constexpr,
    C1: tl.constexpr,
    C2: tl.constexpr,
    F1: tl.constexpr,
    F2: tl.constexpr,
    CLASSES: tl.constexpr,
    AVERAGE: tl.constexpr,
    TANH: tl.constexpr,
    SCALED: tl.constexpr,
    DTYPE: tl.constexpr,
    CONV_PRECISION: tl.constexpr,
    PRECISION: tl.constexpr,
    IMAGES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
):
    """SCALED: each image's dscores is multiplied by its own scale (the gradient of its loss)."""
    PH2: tl.constexpr = (H1 - 4) // 2
    PW2: tl.constexpr = (W1 - 4) // 2
    PX2: tl.constexpr = PH2 * PW2
    FEATURES: tl.constexpr = C2 * PX2
    SLOPES: tl.constexpr = PX2 * 64 if AVERAGE and TANH else FEATURES
    # Windows of 2x4 pixels of y1, a last shorter one included.
    IH: tl.constexpr = (H1 + 1) // 2
    IW: tl.constexpr = (W1 + 3) // 4
    # What is rounded stays so where a pool's code is 0, 1 or a quarter.
    SPREAD_PRECISION: tl.constexpr = CONV_PRECISION if TANH else "ieee"
    zero = tl.full((), 0, tl.int64)
    o_row = tl.arange(0, ROWS)
    o_n = tl.arange(0, 128)
    o_c = tl.arange(0, COLUMNS)
    o_f = tl.arange(0, 16)  # two pixels, two columns apart, of 8 channels
    own = tl.program_id(0).to(tl.int64) * (IMAGES * 4 * PX2 * 16)
    if C2 < 16:  # the padding channels of dz2 are read, but not written by _spread
        for m_0 in range(0, IMAGES * 4 * PX2 * 16, 1024):
            o_z = m_0 + tl.arange(0, 1024)
            m_z = o_z < IMAGES * 4 * PX2 * 16
            tl.store(dz2_ptr + own + o_z, tl.zeros((1024,), dz2_ptr.dtype.element_ty), mask=m_z)
    for i_block in range(tl.program_id(0), tl.cdiv(n, IMAGES), tl.num_programs(0)):
        first = (zero + i_block) * IMAGES
        images = tl.minimum(n - i_block * IMAGES, IMAGES)
        m_row = o_row < images
        dh2 = dh2_ptr + first * F2
        dh1 = dh1_ptr + first * F1
        dy2 = dy2_ptr + first * FEATURES
        dz2 = dz2_ptr + own
        m = m_row[:, None] & (o_c < CLASSES)[None, :]
        o_dscores = o_row[:, None] * CLASSES + o_c[None, :]
        b_dscores = tl.load(dscores_ptr + first * CLASSES + o_dscores, mask=m, other=0.0).to(tl.float32)
        if SCALED:
            b_scale = tl.load(scale_ptr + (first + o_row) * stride_scale, mask=m_row, other=0.0).to(tl.float32)
            b_dscores = b_dscores * b_scale[:, None]
        b_dscores = operand(b_dscores, DTYPE, PRECISION)
        tl.store(ds_ptr + first * CLASSES + o_dscores, b_dscores, mask=m)
        m_w = (o_c < CLASSES)[:, None] & (o_n < F2)[None, :]
        b_w = tl.load(w5_ptr + (o_c[:, None] * F2 + o_n[None, :]), mask=m_w, other=0.0)
        b_dh = product(b_dscores, operand(b_w, DTYPE, PRECISION), tl.zeros((ROWS, 128), tl.float32), PRECISION)
        o_h = o_row[:, None] * F2 + o_n[None, :]
        m = m_row[:, None] & (o_n < F2)[None, :]
        b_h = tl.load(h2_ptr + first * F2 + o_h, mask=m, other=0.0).to(tl.float32)
        tl.store(dh2 + o_h, operand(b_dh * slope(b_h, TANH), DTYPE, PRECISION), mask=m)
        tl.debug_barrier()
        b_dh = linear(dh2, w4_ptr, o_n, m_row, F2, F1, F1, 1, DTYPE, PRECISION, ROWS, 128, BLOCK_K)
        o_h = o_row[:, None] * F1 + o_n[None, :]
        m = m_row[:, None] & (o_n < F1)[None, :]
        b_h = tl.load(h1_ptr + first * F1 + o_h, mask=m, other=0.0).to(tl.float32)
        tl.store(dh1 + o_h, operand(b_dh * slope(b_h, TANH), DTYPE, PRECISION), mask=m)
        tl.debug_barrier()
        for n_0 in range(0, FEATURES, BLOCK_N):
            o_k = n_0 + tl.arange(0, BLOCK_N)
            b_dy = linear(dh1, w3_ptr, o_k, m_row, F1, FEATURES, FEATURES, 1, DTYPE, PRECISION, ROWS, BLOCK_N, BLOCK_K)
            m_dy = m_row[:, None] & (o_k < FEATURES)[None, :]
            b_dy = operand(b_dy, DTYPE, CONV_PRECISION)
            tl.store(dy2 + (o_row[:, None] * FEATURES + o_k[None, :]), b_dy, mask=m_dy)
            code2 = code2_ptr + first * SLOPES
            y2 = y2_ptr + first * FEATURES
            b_dy = b_dy.to(tl.float32)
            _spread(b_dy, code2, y2, dz2, o_row, o_k, m_dy, C2, PW2, PX2, AVERAGE, TANH, DTYPE, SPREAD_PRECISION)
        tl.debug_barrier()
        for m_0 in range(0, images * (IH * IW), BLOCK_M):
            o_m = m_0 + tl.arange(0, BLOCK_M)
            o_image, o_window = divide(o_m, IH * IW)
            o_i, o_j = divide(o_window, IW)
            m_m = o_image < images
            b_dy = window_product(
                dz2,
                w2_ptr,
                packed_ptr,
                o_image,
                o_i,
                o_j,
                m_m,
                2 * PH2,
                2 * PW2,
                C2,
                16,
                C1,
                8,
                2,
                4,
                False,
                True,
                True,
                DTYPE,
                CONV_PRECISION,
                BLOCK_M,
                BLOCK_C,
                STAGES,
            )
            b_0, b_1, b_2, b_3 = positions(b_dy, BLOCK_M, 16)
            o_y = ((o_image * (H1 * W1) + o_i * (2 * W1) + o_j * 4) * 8)[:, None]
            p_dy = dy1_ptr + first * (H1 * W1 * 8) + (o_y + (o_f // 8 * 16 + o_f % 8)[None, :])
            m_down = (m_m & (o_i * 2 + 1 < H1))[:, None]
            o_column = (o_j * 4)[:, None] + (o_f // 8 * 2)[None, :]
            m_left, m_right = o_column < W1, o_column + 1 < W1
            tl.store(p_dy, operand(b_0, DTYPE, CONV_PRECISION), mask=m_m[:, None] & m_left)
            tl.store(p_dy + 8, operand(b_1, DTYPE, CONV_PRECISION), mask=m_m[:, None] & m_right)
            tl.store(p_dy + W1 * 8, operand(b_2, DTYPE, CONV_PRECISION), mask=m_down & m_left)
            tl.store(p_dy + (W1 + 1) * 8, operand(b_3, DTYPE, CONV_PRECISION), mask=m_down & m_right)
