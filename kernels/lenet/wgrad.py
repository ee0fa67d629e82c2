"""The gradients of LeNet-5's ten parameters: partial sums over parts of the batch, then their sum in a fixed order.

conv    dweight[K, N] = patch[M, K]^T @ dz[M, N]   M = images x pool windows, conv1's in pairs (WIDE),
                                                   K = 64 rows, N = WIDE * KPAD * 4 positions of a window
linear  dw[out, in]   = dy[M, out]^T @ x[M, in]    M = images, a tile of 64 inputs
bias    column sums of dz and dy

The matrices of conv are those of pool windows; reduce.py folds their entries for each filter tap together.
"""

import triton
import triton.language as tl

from kernels.lenet.jit import operand, product
from kernels.lenet.windows import load_inner_patch, window_gradient


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
    PH: tl.constexpr,
    PW: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    AVERAGE: tl.constexpr,
    TANH: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """Rows k_0 ... k_0 + 63 of a window matrix's gradient and the bias's, summed over split i_split of the batch.

    x: maps [H, W, CPAD] in which every patch lies; rows beyond the patch's last are others again, and not read.

    A step takes one row of windows, or an equal part of a long one, of GROUP images: its operands lie one number apart
    from those of any other. The last step begins early enough to have whole images; what another has taken counts zero.
    """
    COLUMNS: tl.constexpr = (PW + WIDE - 1) // WIDE
    PARTS: tl.constexpr = (COLUMNS + BLOCK_M - 1) // BLOCK_M
    ROW: tl.constexpr = (COLUMNS + PARTS - 1) // PARTS
    GROUP: tl.constexpr = BLOCK_M // ROW
    N: tl.constexpr = 4 * WIDE * KPAD
    # A slope makes dz a new number; else it is dy, or a quarter of it, or zero.
    DZ_PRECISION: tl.constexpr = PRECISION if TANH else "ieee"
    PIXEL_DY: tl.constexpr = KPAD if CHANNELS_LAST else 1
    IMAGE_DY: tl.constexpr = PH * PW * KPAD if CHANNELS_LAST else PH * PW * K
    PIXEL_CODE: tl.constexpr = 4 * KPAD if AVERAGE and TANH else PIXEL_DY
    IMAGE_CODE: tl.constexpr = PH * PW * PIXEL_CODE if AVERAGE and TANH else IMAGE_DY
    zero = tl.full((), 0, tl.int64)
    o_k = (k_0 + tl.arange(0, 64)) % (6 * (4 + 2 * WIDE) * CPAD)
    o_m = tl.arange(0, BLOCK_M)
    o_image = tl.minimum(o_m // ROW, tl.minimum(n, GROUP) - 1)
    o_column = o_m % ROW
    m_image = o_m < tl.minimum(n, GROUP) * ROW
    blocks = tl.cdiv(n, GROUP)
    share = tl.cdiv(blocks, splits)
    last = tl.minimum((i_split + 1) * share, blocks) * (PH * PARTS)
    b_dw = tl.zeros((64, N), tl.float32)
    b_db = tl.zeros((BLOCK_M, N), tl.float32)
    for i_step in range(i_split * share * (PH * PARTS), last):
        i_block = i_step // (PH * PARTS)
        o_i = i_step // PARTS % PH
        image = tl.maximum(tl.minimum(i_block * GROUP, n - GROUP), 0)
        m_m = m_image & (o_image >= i_block * GROUP - image)
        o_j = o_column
        if PARTS > 1:
            o_j = tl.minimum(o_column + i_step % PARTS * ROW, COLUMNS - 1)
            m_m = m_m & (o_column + i_step % PARTS * ROW < COLUMNS)
        x = x_ptr + ((zero + image) * (H * W * CPAD) + o_i * (2 * W * CPAD))
        b_x = load_inner_patch(x, o_image, 0, o_j, o_k, H, W, CPAD, WIDE)
        o_dy = (zero + image) * IMAGE_DY + o_i * (PW * PIXEL_DY)
        b_dz = window_gradient(
            dy_ptr + o_dy,
            y_ptr + o_dy,
            code_ptr + ((zero + image) * IMAGE_CODE + o_i * (PW * PIXEL_CODE)),
            o_image,
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
        b_db += b_dz
        b_dw = product(tl.trans(b_x), operand(b_dz, DTYPE, DZ_PRECISION), b_dw, PRECISION)
    part_ptr += i_split.to(tl.int64) * (65 * N)
    tl.store(part_ptr + (tl.arange(0, 64)[:, None] * N + tl.arange(0, N)[None, :]), b_dw)
    tl.store(part_ptr + 64 * N + tl.arange(0, N), tl.sum(b_db, axis=0))


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
    b_db = tl.zeros((BLOCK_M, 128), tl.float32)
    # One stage: a copy ahead would overwrite dy, which b_db reads as well, while tensor cores still read it (Triton 3.7
    # gives it a single buffer).
    for m_0 in tl.range(i_split * share, last, BLOCK_M, num_stages=1):
        o_m = tl.arange(0, BLOCK_M)
        m_m = (m_0 + o_m < last)[:, None]
        first = zero + m_0
        p_dy = dy_ptr + first * OUT + (o_m[:, None] * OUT + o_out[None, :])
        b_dy = tl.load(p_dy, mask=m_m & (o_out < OUT)[None, :], other=0.0)
        p_x = x_ptr + first * IN + (o_m[:, None] * IN + o_in[None, :])
        b_x = tl.load(p_x, mask=m_m & (o_in < IN)[None, :], other=0.0)
        b_db += b_dy.to(tl.float32)
        b_dw = product(tl.trans(b_dy), b_x, b_dw, PRECISION)
    m_out = o_out < OUT
    tl.store(dw_ptr + (o_out[:, None] * IN + o_in[None, :]), b_dw, mask=m_out[:, None] & (o_in < IN)[None, :])
    tl.store(dw_ptr + OUT * IN + o_out, tl.sum(b_db, axis=0), mask=m_out & (i_tile == 0))


@triton.jit
def wgrad_kernel(
    padded_ptr,
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
    H1: tl.constexpr,
    W1: tl.constexpr,
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
    """Programs: splits1 of conv1, 5 * splits2 of conv2, then splits3 of every 64 columns of fc1, fc2 and fc3.

    part1 [splits1, 65, 64], part2 [5, splits2, 65, 64], part3 [splits3, the gradients of fc1 to fc3], float32.
    """
    FEATURES: tl.constexpr = C2 * ((H1 - 4) // 2) * ((W1 - 4) // 2)
    TILES: tl.constexpr = (36 * 8 + 63) // 64
    TILES_1: tl.constexpr = (FEATURES + 63) // 64
    TILES_2: tl.constexpr = (F1 + 63) // 64
    SIZE_1: tl.constexpr = F1 * FEATURES + F1
    SIZE_2: tl.constexpr = F2 * F1 + F2
    SIZE_3: tl.constexpr = CLASSES * F2 + CLASSES
    pid = tl.program_id(0)
    if pid < splits1:
        _conv_part(
            padded_ptr,
            y1_ptr,
            dy1_ptr,
            code1_ptr,
            part1_ptr,
            n,
            0,
            pid,
            splits1,
            2 * H1 + 4,
            (W1 + 1) // 2 * 4 + 4,
            1,
            C1,
            8,
            2,
            H1,
            W1,
            True,
            AVERAGE,
            TANH,
            DTYPE,
            CONV_PRECISION,
            BLOCK_M,
        )
    elif pid < splits1 + TILES * splits2:
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
            (H1 - 4) // 2,
            (W1 - 4) // 2,
            False,
            AVERAGE,
            TANH,
            DTYPE,
            CONV_PRECISION,
            BLOCK_M,
        )
    else:
        i_tile = (pid - splits1 - TILES * splits2) // splits3
        i_split = (pid - splits1 - TILES * splits2) % splits3
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
