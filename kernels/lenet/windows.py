"""Convolution by pool windows, forward and backward. README.md has the algebra.

A 2x2 window of convolution outputs reads a patch of 6 x 6 pixels, two windows side by side one of 6 x 8. All outputs of
all filters are one product:

    z[M, 4 * WIDE * KPAD] = patch[M, 6 * SIDE * CPAD] @ weight[6 * SIDE * CPAD, 4 * WIDE * KPAD]
    M       images x pool windows, WIDE (1 or 2) of one row taken together
    SIDE    columns of the patch, 4 + 2 * WIDE
    CPAD    channels of the source, padded to a power of two
    columns (dy, window, filter, dx): neighbouring columns are neighbouring pixels
"""

import triton
import triton.language as tl

from kernels.lenet.jit import divide, operand, product, slope


@triton.jit
def window_weight(
    w_ptr,
    o_k,
    o_n,
    C: tl.constexpr,
    CPAD: tl.constexpr,
    K: tl.constexpr,
    KPAD: tl.constexpr,
    WIDE: tl.constexpr,
    FLIP: tl.constexpr,
):
    """The entries of the weight matrix of WIDE 2x2 windows, gathered from w [K, C, 5, 5]; o_k, o_n broadcast.

    FLIP: of the transposed convolution, from w [C, K, 5, 5].
    """
    o_c = o_k % CPAD
    o_f = o_n // 2 % KPAD
    o_row, o_column = divide(o_k // CPAD, 4 + 2 * WIDE)
    o_r = o_row - o_n // (2 * WIDE * KPAD)
    o_s = o_column - (o_n % 2 + o_n // (2 * KPAD) % WIDE * 2)
    m = (o_r >= 0) & (o_r < 5) & (o_s >= 0) & (o_s < 5) & (o_c < C) & (o_f < K)
    if FLIP:
        o_w = o_c * (K * 25) + (o_f * 25 + 24) - o_r * 5 - o_s
    else:
        o_w = o_c * 25 + o_f * (C * 25) + o_r * 5 + o_s
    return tl.load(w_ptr + o_w, mask=m, other=0.0)


@triton.jit
def pad_images(
    x_ptr,
    padded_ptr,
    images,
    H: tl.constexpr,
    W: tl.constexpr,
    PAD: tl.constexpr,
    PADDED_H: tl.constexpr,
    PADDED_W: tl.constexpr,
    COLUMNS: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Images [H, W] with zeros around them: [PADDED_H, PADDED_W], where every patch lies inside.

    Pixels that no pool window reaches (PADDED_H has none, PADDED_W up to five columns) stay behind, as in torch.
    """
    LAST: tl.constexpr = COLUMNS - PAD if COLUMNS - PAD < W else W
    for p_0 in range(0, images * (PADDED_H * PADDED_W), BLOCK):
        o = p_0 + tl.arange(0, BLOCK)
        o_row, o_w = divide(o, PADDED_W)
        o_image, o_h = divide(o_row, PADDED_H)
        o_h -= PAD
        o_w -= PAD
        m = o_image < images
        m_x = m & (o_h >= 0) & (o_h < H) & (o_w >= 0) & (o_w < LAST)
        b_x = tl.load(x_ptr + (o_image * (H * W) + o_h * W + o_w), mask=m_x, other=0.0)
        tl.store(padded_ptr + o, operand(b_x, DTYPE, PRECISION), mask=m)


@triton.jit
def load_inner_patch(
    x_ptr,
    o_image,
    o_i,
    o_j,
    o_k,
    H: tl.constexpr,
    W: tl.constexpr,
    CPAD: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Columns o_k of the patches of windows (o_i, WIDE * o_j ...), which all lie inside their map: nothing to test."""
    o_r, o_rest = divide(o_k, (4 + 2 * WIDE) * CPAD)
    o_window = o_image * (H * W * CPAD) + (o_i * 2 * W + o_j * (2 * WIDE)) * CPAD
    p_window = x_ptr + o_window
    return tl.load(p_window[:, None] + (o_r * (W * CPAD) + o_rest)[None, :])


@triton.jit
def load_patch(
    x_ptr,
    o_image,
    o_i,
    o_j,
    m_m,
    k_0,
    H: tl.constexpr,
    W: tl.constexpr,
    CPAD: tl.constexpr,
    PAD: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Columns k_0 ... of the patches of pairs of windows in maps x [image, H, W, CPAD]."""
    # As far as the last window of a row reaches; what is beyond counts as zero. With padding it is no pixel anyway.
    REACH: tl.constexpr = (W + 2 * PAD) // 2 * 2
    m = m_m[:, None]
    if BLOCK_K <= 8 * CPAD:  # of one row of the patch
        row = k_0 // (8 * CPAD)
        o_r = tl.full((1,), row, tl.int32)
        o_rest = k_0 - row * (8 * CPAD) + tl.arange(0, BLOCK_K)
    else:
        o_r = (k_0 + tl.arange(0, BLOCK_K)) // (8 * CPAD)
        o_rest = (k_0 + tl.arange(0, BLOCK_K)) % (8 * CPAD)
    o_s = o_rest // CPAD
    o_j *= 4
    if PAD > 0:  # as unsigned numbers those below zero are the largest
        o_h = (o_i * 2 - PAD)[:, None] + o_r[None, :]
        o_w = (o_j - PAD)[:, None] + o_s[None, :]
        m = m & (o_h.to(tl.uint32) < H) & (o_w.to(tl.uint32) < W)
    if PAD == 0 and REACH % 4 != 0:
        m = m & (o_j[:, None] + o_s[None, :] < REACH)
    o_window = o_image * (H * W * CPAD) + ((o_i * 2 - PAD) * W + o_j - PAD) * CPAD
    p_window = x_ptr + o_window
    return tl.load(p_window[:, None] + (o_r * (W * CPAD) + o_rest)[None, :], mask=m, other=0.0)


@triton.jit
def window_product(
    x_ptr,
    w_ptr,
    packed_ptr,
    o_image,
    o_i,
    o_j,
    m_m,
    H: tl.constexpr,
    W: tl.constexpr,
    C: tl.constexpr,
    CPAD: tl.constexpr,
    K: tl.constexpr,
    KPAD: tl.constexpr,
    WIDE: tl.constexpr,
    PAD: tl.constexpr,
    INNER: tl.constexpr,
    FLIP: tl.constexpr,
    PREPARED: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
):
    """z [BLOCK_M, 4 * WIDE * KPAD] of the windows (o_i, WIDE * o_j ...).

    INNER: every patch lies inside the map; else windows come in pairs. PREPARED: x and the packed weights are operands.
    STAGES: 1 loads through the L1 cache, more copy ahead into shared memory and pass it by.
    """
    N: tl.constexpr = 4 * WIDE * KPAD
    SIZE: tl.constexpr = 6 * (4 + 2 * WIDE) * CPAD
    o_n = tl.arange(0, N)
    b_z = tl.zeros((BLOCK_M, N), tl.float32)
    for k_0 in tl.range(0, SIZE, BLOCK_K, num_stages=STAGES):
        o_k = k_0 + tl.arange(0, BLOCK_K)
        if INNER:
            b_x = load_inner_patch(x_ptr, o_image, o_i, o_j, o_k, H, W, CPAD, WIDE)
        else:
            tl.static_assert(WIDE == 2)
            b_x = load_patch(x_ptr, o_image, o_i, o_j, m_m, k_0, H, W, CPAD, PAD, BLOCK_K)
        if PREPARED:
            b_w = tl.load(packed_ptr + o_n[None, :] * SIZE + o_k[:, None])
        else:
            b_w = window_weight(w_ptr, o_k[:, None], o_n[None, :], C, CPAD, K, KPAD, WIDE, FLIP)
            b_w = operand(b_w, DTYPE, PRECISION)
            if not INNER:  # an image; the next layer's input is an operand already
                b_x = operand(b_x, DTYPE, PRECISION)
        b_z = product(b_x.to(DTYPE), b_w.to(DTYPE), b_z, PRECISION)
    return b_z


@triton.jit
def positions(b_z, BLOCK_M: tl.constexpr, KPAD: tl.constexpr):
    """[BLOCK_M, 4 * KPAD] -> four [BLOCK_M, KPAD], of the window's positions in reading order.

    In the layout of tensor-core results all four lie in the registers of one thread.
    """
    b_z = tl.permute(tl.reshape(b_z, (BLOCK_M, 2, KPAD, 2)), (0, 2, 1, 3))
    b_left, b_right = tl.split(b_z)
    b_0, b_2 = tl.split(b_left)
    b_1, b_3 = tl.split(b_right)
    return b_0, b_1, b_2, b_3


@triton.jit
def window_gradient(
    dy_ptr,
    y_ptr,
    code_ptr,
    o_image,
    o_j,
    m_m,
    K: tl.constexpr,
    KPAD: tl.constexpr,
    WIDE: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    AVERAGE: tl.constexpr,
    TANH: tl.constexpr,
):
    """dz [BLOCK_M, WIDE * KPAD * 4]: the gradient dy of pooled pixels spread over the positions of their windows.

    Of one row of windows in each image. dy and its code are read once and repeated in registers.
    """
    BLOCK_M: tl.constexpr = m_m.shape[0]
    o_n = tl.arange(0, WIDE * KPAD)
    o_f = o_n % KPAD
    o_x = o_n // KPAD
    m = m_m[:, None] & (o_f < K)[None, :]
    if PW % WIDE != 0:
        m = m & ((o_j * WIDE)[:, None] + o_x[None, :] < PW)
    o_pixel = o_j * WIDE
    if CHANNELS_LAST:
        o_y = ((o_image * (PH * PW) + o_pixel) * KPAD)[:, None] + o_n[None, :]
    else:
        o_y = (o_image * (K * PH * PW) + o_pixel)[:, None] + (o_f * (PH * PW) + o_x)[None, :]
    b_dy = tl.load(dy_ptr + o_y, mask=m, other=0.0).to(tl.float32)
    o_4 = tl.arange(0, 4 * WIDE * KPAD)
    if AVERAGE and TANH:
        o_slope = ((o_image * (PH * PW) + o_pixel) * (4 * KPAD))[:, None]
        p_slope = code_ptr + (o_slope + (o_4 // (4 * KPAD) * (4 * KPAD) + o_4 % 4 * KPAD + o_4 // 4 % KPAD)[None, :])
        m_slope = _each_four_times(m, BLOCK_M, WIDE * KPAD)
        b_slope = tl.load(p_slope, mask=m_slope, other=0.0).to(tl.float32)
        return _each_four_times(b_dy, BLOCK_M, WIDE * KPAD) * b_slope
    if AVERAGE:
        b_dy *= 0.25
    elif TANH:
        b_dy *= slope(tl.load(y_ptr + o_y, mask=m, other=0.0).to(tl.float32), TANH)
    b_code = tl.load(code_ptr + o_y, mask=m, other=0 if AVERAGE else 4).to(tl.int32)
    b_code = _each_four_times(b_code, BLOCK_M, WIDE * KPAD)
    if AVERAGE:
        m_passed = ((b_code >> (o_4 % 4)[None, :]) & 1) != 0
    else:
        m_passed = b_code == (o_4 % 4)[None, :]
    return tl.where(m_passed, _each_four_times(b_dy, BLOCK_M, WIDE * KPAD), 0.0)


@triton.jit
def _each_four_times(b, BLOCK_M: tl.constexpr, N: tl.constexpr):
    """[BLOCK_M, N] -> [BLOCK_M, 4 * N], every entry four times side by side."""
    return tl.reshape(tl.broadcast_to(b[:, :, None], (BLOCK_M, N, 4)), (BLOCK_M, 4 * N))
