"""The gradients of LeNet-5's ten parameters: partial sums over parts of the batch, then their sum in a fixed order.

conv    dweight[K, N] = patch[M, K]^T @ dz[M, N]   M = images x pool windows, conv1's in pairs (WIDE),
                                                   K = 64 of 48 * CPAD rows, N = 4 * WIDE * KPAD
linear  dw[out, in]   = dy[M, out]^T @ x[M, in]    M = images, a tile of 64 inputs
bias    column sums of dz and dy

The matrices of conv are those of pool windows; reduce.py folds their entries for each filter tap together.
"""

import triton
import triton.language as tl

from kernels.lenet.jit import divide, product
from kernels.lenet.windows import load_patch, window_gradient


@triton.jit
def _conv_part(
    x_ptr,
    y_ptr,
    dy_ptr,
    code_ptr,
    part_ptr,
    n,
    k_0,
    i_split,
    splits,
    H: tl.constexpr,
    W: tl.constexpr,
    CPAD: tl.constexpr,
    K: tl.constexpr,
    KPAD: tl.constexpr,
    WIDE: tl.constexpr,
    PAD: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    AVERAGE: tl.constexpr,
    TANH: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """Rows k_0 ... k_0 + 63 of a window matrix's gradient and the bias's, summed over split i_split of the batch."""
    PH: tl.constexpr = (H + 2 * PAD - 4) // 2
    PW: tl.constexpr = (W + 2 * PAD - 4) // 2
    COLUMNS: tl.constexpr = (PW + WIDE - 1) // WIDE
    WINDOWS: tl.constexpr = PH * COLUMNS
    N: tl.constexpr = 4 * WIDE * KPAD
    IMAGE_DY: tl.constexpr = PH * PW * KPAD if CHANNELS_LAST else PH * PW * K
    IMAGE_CODE: tl.constexpr = PH * PW * 4 * KPAD if AVERAGE and TANH else IMAGE_DY
    zero = tl.full((), 0, tl.int64)
    share = tl.cdiv(tl.cdiv(n * WINDOWS, BLOCK_M), splits) * BLOCK_M
    last = tl.minimum((i_split + 1) * share, n * WINDOWS)
    b_dw = tl.zeros((64, N), tl.float32)
    b_db = tl.zeros((N,), tl.float32)
    for m_0 in range(i_split * share, last, BLOCK_M):
        image = (zero + m_0) // WINDOWS
        o_m = (m_0 - image * WINDOWS).to(tl.int32) + tl.arange(0, BLOCK_M)
        m_m = m_0 + tl.arange(0, BLOCK_M) < last
        o_image, o_window = divide(o_m, WINDOWS)
        o_i, o_j = divide(o_window, COLUMNS)
        b_x = load_patch(x_ptr + image * (H * W * CPAD), o_image, o_i, o_j, m_m, k_0, H, W, CPAD, WIDE, PAD, 64)
        b_dz = window_gradient(
            dy_ptr + image * IMAGE_DY,
            y_ptr + image * IMAGE_DY,
            code_ptr + image * IMAGE_CODE,
            o_image,
            o_i,
            o_j,
            m_m,
            K,
            KPAD,
            WIDE,
            PH,
            PW,
            CHANNELS_LAST,
            AVERAGE,
            TANH,
        )
        b_db += tl.sum(b_dz, axis=0)
        b_dw = product(tl.trans(b_x.to(DTYPE)), b_dz.to(DTYPE), b_dw, PRECISION)
    o_n = tl.arange(0, N)
    part_ptr += i_split.to(tl.int64) * (65 * N)
    tl.store(part_ptr + (tl.arange(0, 64)[:, None] * N + o_n[None, :]), b_dw)
    tl.store(part_ptr + 64 * N + o_n, b_db)


@triton.jit
def _linear_part(
    x_ptr,
    dy_ptr,
    dw_ptr,
    n,
    i_tile,
    i_split,
    splits,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """Columns i_tile * 64 ... of dw [OUT, IN], and db [OUT] behind it, summed over split i_split of the batch."""
    o_out = tl.arange(0, 128)
    o_in = i_tile * 64 + tl.arange(0, 64)
    zero = tl.full((), 0, tl.int64)
    share = tl.cdiv(tl.cdiv(n, BLOCK_M), splits) * BLOCK_M
    last = tl.minimum((i_split + 1) * share, n)
    b_dw = tl.zeros((128, 64), tl.float32)
    b_db = tl.zeros((128,), tl.float32)
    for m_0 in range(i_split * share, last, BLOCK_M):
        o_m = tl.arange(0, BLOCK_M)
        m_m = (m_0 + o_m < last)[:, None]
        first = zero + m_0
        p_dy = dy_ptr + first * OUT + (o_m[:, None] * OUT + o_out[None, :])
        b_dy = tl.load(p_dy, mask=m_m & (o_out < OUT)[None, :], other=0.0)
        p_x = x_ptr + first * IN + (o_m[:, None] * IN + o_in[None, :])
        b_x = tl.load(p_x, mask=m_m & (o_in < IN)[None, :], other=0.0)
        b_db += tl.sum(b_dy.to(tl.float32), axis=0)
        b_dw = product(tl.trans(b_dy.to(DTYPE)), b_x.to(DTYPE), b_dw, PRECISION)
    m_out = o_out < OUT
    tl.store(dw_ptr + (o_out[:, None] * IN + o_in[None, :]), b_dw, mask=m_out[:, None] & (o_in < IN)[None, :])
    tl.store(dw_ptr + OUT * IN + o_out, b_db, mask=m_out & (i_tile == 0))


@triton.jit
def wgrad_kernel(
    x_ptr,
    y1_ptr,
    dy1_ptr,
    code1_ptr,
    y2_ptr,
    dy2_ptr,
    code2_ptr,
    h1_ptr,
    dh1_ptr,
    h2_ptr,
    dh2_ptr,
    ds_ptr,
    part1_ptr,
    part2_ptr,
    part3_ptr,
    n,
    splits1,
    splits2,
    splits3,
    H: tl.constexpr,
    W: tl.constexpr,
    PAD: tl.constexpr,
    C1: tl.constexpr,
    C2: tl.constexpr,
    F1: tl.constexpr,
    F2: tl.constexpr,
    CLASSES: tl.constexpr,
    AVERAGE: tl.constexpr,
    TANH: tl.constexpr,
    DTYPE: tl.constexpr,
    CONV_PRECISION: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
):
    """Programs: splits1 of conv1, 6 * splits2 of conv2, then splits3 of every 64 columns of fc1, fc2 and fc3.

    part1 [splits1, 65, 64], part2 [6, splits2, 65, 64], part3 [splits3, the gradients of fc1 to fc3], float32.
    """
    H1: tl.constexpr = (H + 2 * PAD - 4) // 2
    W1: tl.constexpr = (W + 2 * PAD - 4) // 2
    FEATURES: tl.constexpr = C2 * ((H1 - 4) // 2) * ((W1 - 4) // 2)
    TILES_1: tl.constexpr = (FEATURES + 63) // 64
    TILES_2: tl.constexpr = (F1 + 63) // 64
    SIZE_1: tl.constexpr = F1 * FEATURES + F1
    SIZE_2: tl.constexpr = F2 * F1 + F2
    SIZE_3: tl.constexpr = CLASSES * F2 + CLASSES
    pid = tl.program_id(0)
    if pid < splits1:
        _conv_part(
            x_ptr,
            y1_ptr,
            dy1_ptr,
            code1_ptr,
            part1_ptr,
            n,
            0,
            pid,
            splits1,
            H,
            W,
            1,
            C1,
            8,
            2,
            PAD,
            True,
            AVERAGE,
            TANH,
            DTYPE,
            CONV_PRECISION,
            BLOCK_M,
        )
    elif pid < splits1 + 6 * splits2:
        i_row = (pid - splits1) // splits2
        i_split = (pid - splits1) % splits2
        _conv_part(
            y1_ptr,
            y2_ptr,
            dy2_ptr,
            code2_ptr,
            part2_ptr + i_row.to(tl.int64) * splits2 * (65 * 64),
            n,
            i_row * 64,
            i_split,
            splits2,
            H1,
            W1,
            8,
            C2,
            16,
            1,
            0,
            False,
            AVERAGE,
            TANH,
            DTYPE,
            CONV_PRECISION,
            BLOCK_M,
        )
    else:
        i_tile = (pid - splits1 - 6 * splits2) // splits3
        i_split = (pid - splits1 - 6 * splits2) % splits3
        dw = part3_ptr + i_split.to(tl.int64) * (SIZE_1 + SIZE_2 + SIZE_3)
        if i_tile < TILES_1:
            _linear_part(y2_ptr, dh1_ptr, dw, n, i_tile, i_split, splits3, FEATURES, F1, DTYPE, PRECISION, BLOCK_ROWS)
        elif i_tile < TILES_1 + TILES_2:
            i_tile -= TILES_1
            dw += SIZE_1
            _linear_part(h1_ptr, dh2_ptr, dw, n, i_tile, i_split, splits3, F1, F2, DTYPE, PRECISION, BLOCK_ROWS)
        else:
            i_tile -= TILES_1 + TILES_2
            dw += SIZE_1 + SIZE_2
            _linear_part(h2_ptr, ds_ptr, dw, n, i_tile, i_split, splits3, F2, CLASSES, DTYPE, PRECISION, BLOCK_ROWS)
