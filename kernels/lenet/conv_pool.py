"""A 5x5 convolution with its bias, activation and 2x2 pool, for the images that one program holds.

z[j][M, N] = patch[M, K] @ weight[K, N] of position j of the pool's window   (windows.py: all four in one product)
y[M, N]    = pool over j of activation(z[j] + bias)
M = images x pool windows (WIDE side by side count as one), N = WIDE x filters, K = pixels of the patch x channels

code, for backward. Max: the position of the maximum (0..3, the first among equals, the last NaN), or 4 where a ReLU cut
it off. Average of ReLUs: bit j is set where position j passed. Average of tanhs: the slopes of the four.
"""

import triton
import triton.language as tl

from kernels.lenet.jit import activation, divide, larger, operand
from kernels.lenet.windows import positions, window_product


@triton.jit
def _taken(b, b_best):
    """Whether b replaces the maximum so far: torch keeps the first of equals and any later NaN."""
    return (b > b_best) | (b != b)


@triton.jit
def conv_pool(
    x_ptr,
    w_ptr,
    packed_ptr,
    bias_ptr,
    y_ptr,
    code_ptr,
    images,
    H: tl.constexpr,
    W: tl.constexpr,
    C: tl.constexpr,
    CPAD: tl.constexpr,
    K: tl.constexpr,
    KPAD: tl.constexpr,
    WIDE: tl.constexpr,
    PAD: tl.constexpr,
    PH: tl.constexpr,
    PW: tl.constexpr,
    INNER: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    AVERAGE: tl.constexpr,
    TANH: tl.constexpr,
    KEEP: tl.constexpr,
    PREPARED: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    NEXT_PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
):
    """One convolution with its activation and pool for `images` images; x, y and code begin at the first of them.

    NEXT_PRECISION: that of the layer that reads y.
    """
    COLUMNS: tl.constexpr = (PW + WIDE - 1) // WIDE
    o_n = tl.arange(0, WIDE * KPAD)
    o_f = o_n % KPAD
    o_x = o_n // KPAD
    m_f = o_f < K
    b_bias = tl.load(bias_ptr + o_f, mask=m_f, other=0.0).to(tl.float32)[None, :]
    for m_0 in range(0, images * (PH * COLUMNS), BLOCK_M):
        o_m = m_0 + tl.arange(0, BLOCK_M)
        o_image, o_window = divide(o_m, PH * COLUMNS)
        o_i, o_j = divide(o_window, COLUMNS)
        m_m = o_image < images
        b_z = window_product(
            x_ptr,
            w_ptr,
            packed_ptr,
            tl.minimum(o_image, images - 1) if INNER else o_image,
            o_i,
            o_j,
            m_m,
            H,
            W,
            C,
            CPAD,
            K,
            KPAD,
            WIDE,
            PAD,
            INNER,
            False,
            PREPARED,
            DTYPE,
            PRECISION,
            BLOCK_M,
            BLOCK_K,
            STAGES,
        )
        b_0, b_1, b_2, b_3 = positions(b_z, BLOCK_M, WIDE * KPAD)
        if AVERAGE or KEEP:
            # As torch's layers hand it on: the convolution rounded to its dtype, then the activation.
            b_0 = (b_0 + b_bias).to(DTYPE).to(tl.float32)
            b_1 = (b_1 + b_bias).to(DTYPE).to(tl.float32)
            b_2 = (b_2 + b_bias).to(DTYPE).to(tl.float32)
            b_3 = (b_3 + b_bias).to(DTYPE).to(tl.float32)
        if PW % WIDE == 0:
            o_pixel = o_m * WIDE
            m_y = m_m[:, None]
        else:
            o_pixel = o_image * (PH * PW) + o_i * PW + o_j * WIDE
            m_y = m_m[:, None] & ((o_j * WIDE)[:, None] + o_x[None, :] < PW)
        if CHANNELS_LAST:
            o_row = o_pixel * KPAD
            o_column = o_n  # the padding channels too: the next layer reads them
        else:
            o_row = o_pixel + o_image * ((K - 1) * PH * PW)
            o_column = o_f * (PH * PW) + o_x
            m_y = m_y & m_f[None, :]
        p_y = (y_ptr + o_row)[:, None] + o_column[None, :]
        p_code = (code_ptr + o_row)[:, None] + o_column[None, :]
        if AVERAGE:
            if KEEP and not TANH:
                # A NaN passes the ReLU, so the test is "not <= 0".
                b_low = tl.where(b_0 <= 0, 0, 1) + tl.where(b_1 <= 0, 0, 2)
                b_code = b_low + tl.where(b_2 <= 0, 0, 4) + tl.where(b_3 <= 0, 0, 8)
                tl.store(p_code, b_code.to(tl.uint8), mask=m_y)
            b_0 = activation(b_0, TANH)
            b_1 = activation(b_1, TANH)
            b_2 = activation(b_2, TANH)
            b_3 = activation(b_3, TANH)
            if KEEP and TANH:
                p_slope = code_ptr + ((o_pixel * (4 * KPAD))[:, None] + (o_x * (4 * KPAD) + o_f)[None, :])
                m_slope = m_y & m_f[None, :]
                tl.store(p_slope, (0.25 - 0.25 * b_0 * b_0).to(DTYPE), mask=m_slope)
                tl.store(p_slope + KPAD, (0.25 - 0.25 * b_1 * b_1).to(DTYPE), mask=m_slope)
                tl.store(p_slope + 2 * KPAD, (0.25 - 0.25 * b_2 * b_2).to(DTYPE), mask=m_slope)
                tl.store(p_slope + 3 * KPAD, (0.25 - 0.25 * b_3 * b_3).to(DTYPE), mask=m_slope)
            b_y = (b_0 + b_1 + b_2 + b_3) * 0.25
        elif not KEEP:
            # Adding the bias, rounding and both activations rise, so that the maximum may come first.
            b_y = (larger(larger(b_0, b_1), larger(b_2, b_3)) + b_bias).to(DTYPE).to(tl.float32)
            b_y = activation(b_y, TANH)
        else:
            b_code = tl.where(_taken(b_1, b_0), 1, 0)
            b_y = tl.where(_taken(b_1, b_0), b_1, b_0)
            b_code = tl.where(_taken(b_2, b_y), 2, b_code)
            b_y = tl.where(_taken(b_2, b_y), b_2, b_y)
            b_code = tl.where(_taken(b_3, b_y), 3, b_code)
            b_y = tl.where(_taken(b_3, b_y), b_3, b_y)
            if not TANH:
                b_code = tl.where(b_y <= 0, 4, b_code)
            tl.store(p_code, b_code.to(tl.uint8), mask=m_y)
            b_y = activation(b_y, TANH)
        tl.store(p_y, operand(tl.where(m_f[None, :], b_y, 0.0), DTYPE, NEXT_PRECISION), mask=m_y)
