"""The whole of LeNet-5 forward as one persistent kernel.

A program takes IMAGES images at a time through all five layers:

    copy with zeros around, where the plan says so: conv1 then has no edges to test
    conv1, activation, pool   M = images x pairs of pooled pixels, K = 48, N = 4 x 2 x 8   -> y1
    conv2, activation, pool   M = images x pooled pixels, K = 36 x 8, N = 4 x 16           -> y2
    fc1, fc2, fc3             M = images                                                   -> h1, h2, scores

y1, y2, h1, h2 pass between the layers through memory that the program alone writes and reads: a barrier stands between
the writes of a layer and the reads of the next. Without KEEP they are the program's own scratch, overwritten by its
next images, and stay in the L2 cache; with KEEP they are what backward needs, an image's own. So are the padded images,
which the first barrier follows, and which are read no more after the second. Between the last read of
a buffer in one round and its first write in the next there is a barrier too: y1's reads end before the second barrier,
y2's before the third, h1's before the fourth, and h2's before the first three of the next round.

Every zero of the window matrices meets a pixel of the patch, so that an infinite pixel or activation gives NaN.
"""

import triton
import triton.language as tl

from kernels.lenet.conv_pool import conv_pool
from kernels.lenet.jit import activation, linear, linear_one, operand
from kernels.lenet.windows import pad_images


@triton.jit
def _linear(
    x_ptr,
    w_ptr,
    o_n,
    m_row,
    K: tl.constexpr,
    N: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """x [ROWS, K] @ w [N, K]^T for the columns o_n."""
    if ROWS == 1:
        return linear_one(x_ptr, w_ptr, o_n, K, N, DTYPE, PRECISION, BLOCK_N, BLOCK_K)
    return linear(x_ptr, w_ptr, o_n, m_row, K, N, 1, K, DTYPE, PRECISION, ROWS, BLOCK_N, BLOCK_K)


@triton.jit
def forward_kernel(
    x_ptr,
    padded_ptr,
    w1_ptr,
    b1_ptr,
    w2_ptr,
    b2_ptr,
    w3_ptr,
    b3_ptr,
    w4_ptr,
    b4_ptr,
    w5_ptr,
    b5_ptr,
    packed_ptr,
    y1_ptr,
    code1_ptr,
    y2_ptr,
    code2_ptr,
    h1_ptr,
    h2_ptr,
    scores_ptr,
    share_ptr,
    class_ptr,
    label_ptr,
    loss_ptr,
    n,
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
    KEEP: tl.constexpr,
    OUTPUT: tl.constexpr,
    PREPARED: tl.constexpr,
    DTYPE: tl.constexpr,
    CONV_PRECISION: tl.constexpr,
    PRECISION: tl.constexpr,
    IMAGES: tl.constexpr,
    Y1_SIZE: tl.constexpr,
    Y2_SIZE: tl.constexpr,
    H1_SIZE: tl.constexpr,
    H2_SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK_1: tl.constexpr,
    BLOCK_2: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Y1_SIZE ... H2_SIZE: elements of a program's scratch without KEEP, where y1_ptr alone is read.

    PREPARED: pack_kernel has laid out the convolutions' weights, and images are copied with zeros around them first.
    OUTPUT: "scores"; "prediction" = probabilities and class; "loss" = cross-entropy and its gradient in scores.
    """
    H1: tl.constexpr = (H + 2 * PAD - 4) // 2
    W1: tl.constexpr = (W + 2 * PAD - 4) // 2
    # Rows and columns that the patches of all pooled pixels reach, columns for pairs of windows.
    PADDED_H: tl.constexpr = 2 * H1 + 4
    PADDED_W: tl.constexpr = (W1 + 1) // 2 * 4 + 4
    PX2: tl.constexpr = ((H1 - 4) // 2) * ((W1 - 4) // 2)
    FEATURES: tl.constexpr = C2 * PX2
    CODE: tl.constexpr = 4 if AVERAGE and TANH else 1
    zero = tl.full((), 0, tl.int64)
    o_row = tl.arange(0, ROWS)
    o_n = tl.arange(0, 128)
    o_c = tl.arange(0, COLUMNS)
    num_blocks = tl.cdiv(n, IMAGES)
    for i_block in range(tl.program_id(0), num_blocks, tl.num_programs(0)):
        first = (zero + i_block) * IMAGES
        images = tl.minimum(n - i_block * IMAGES, IMAGES)
        m_row = o_row < images
        if KEEP:
            y1 = y1_ptr + first * (H1 * W1 * 8)
            y2 = y2_ptr + first * FEATURES
            h1 = h1_ptr + first * F1
            h2 = h2_ptr + first * F2
        else:  # one piece of scratch a program
            y1 = y1_ptr + tl.program_id(0).to(tl.int64) * (Y1_SIZE + Y2_SIZE + H1_SIZE + H2_SIZE)
            y2 = y1 + Y1_SIZE
            h1 = y2 + Y2_SIZE
            h2 = h1 + H1_SIZE
        x = x_ptr + first * (H * W)
        if PREPARED:
            place = first if KEEP else tl.program_id(0).to(tl.int64) * IMAGES
            x = padded_ptr + place * (PADDED_H * PADDED_W)
            pad_images(
                x_ptr + first * (H * W),
                x,
                images,
                H,
                W,
                PAD,
                PADDED_H,
                PADDED_W,
                2 * W1 + 4,
                DTYPE,
                CONV_PRECISION,
                1024,
            )
            tl.debug_barrier()
        conv_pool(
            x,
            w1_ptr,
            packed_ptr,
            b1_ptr,
            y1,
            code1_ptr + first * (H1 * W1 * 8 * CODE),
            images,
            PADDED_H if PREPARED else H,
            PADDED_W if PREPARED else W,
            1,
            1,
            C1,
            8,
            2,
            0 if PREPARED else PAD,
            H1,
            W1,
            PREPARED,
            True,
            AVERAGE,
            TANH,
            KEEP,
            PREPARED,
            DTYPE,
            CONV_PRECISION,
            CONV_PRECISION,
            BLOCK_1,
            16,
            STAGES,
        )
        tl.debug_barrier()
        conv_pool(
            y1,
            w2_ptr,
            packed_ptr + 48 * 64,
            b2_ptr,
            y2,
            code2_ptr + first * (PX2 * 64 if AVERAGE and TANH else FEATURES),
            images,
            H1,
            W1,
            C1,
            8,
            C2,
            16,
            1,
            0,
            (H1 - 4) // 2,
            (W1 - 4) // 2,
            True,
            False,
            AVERAGE,
            TANH,
            KEEP,
            PREPARED,
            DTYPE,
            CONV_PRECISION,
            PRECISION,
            BLOCK_2,
            BLOCK_C,
            STAGES,
        )
        tl.debug_barrier()
        b_h = _linear(y2, w3_ptr, o_n, m_row, FEATURES, F1, DTYPE, PRECISION, ROWS, 128, BLOCK_K)
        b_h += tl.load(b3_ptr + o_n, mask=o_n < F1, other=0.0).to(tl.float32)[None, :]
        p_h = h1 + (o_row[:, None] * F1 + o_n[None, :])
        tl.store(p_h, operand(activation(b_h, TANH), DTYPE, PRECISION), mask=m_row[:, None] & (o_n < F1)[None, :])
        tl.debug_barrier()
        b_h = _linear(h1, w4_ptr, o_n, m_row, F1, F2, DTYPE, PRECISION, ROWS, 128, BLOCK_K)
        b_h += tl.load(b4_ptr + o_n, mask=o_n < F2, other=0.0).to(tl.float32)[None, :]
        p_h = h2 + (o_row[:, None] * F2 + o_n[None, :])
        tl.store(p_h, operand(activation(b_h, TANH), DTYPE, PRECISION), mask=m_row[:, None] & (o_n < F2)[None, :])
        tl.debug_barrier()
        b_z = _linear(h2, w5_ptr, o_c, m_row, F2, CLASSES, DTYPE, PRECISION, ROWS, COLUMNS, BLOCK_K)
        b_z += tl.load(b5_ptr + o_c, mask=o_c < CLASSES, other=0.0).to(tl.float32)[None, :]
        _finish(
            b_z,
            first,
            o_row,
            o_c,
            m_row,
            scores_ptr,
            share_ptr,
            class_ptr,
            label_ptr,
            loss_ptr,
            CLASSES,
            OUTPUT,
        )


@triton.jit
def _finish(
    b_z,
    first,
    o_row,
    o_c,
    m_row,
    scores_ptr,
    share_ptr,
    class_ptr,
    label_ptr,
    loss_ptr,
    CLASSES: tl.constexpr,
    OUTPUT: tl.constexpr,
):
    """Scores [ROWS, COLUMNS] -> what the caller asked for."""
    m = m_row[:, None] & (o_c < CLASSES)[None, :]
    o = first * CLASSES + (o_row[:, None] * CLASSES + o_c[None, :])
    tl.store(scores_ptr + o, b_z.to(scores_ptr.dtype.element_ty), mask=m)
    if OUTPUT != "scores":
        b_z = b_z.to(scores_ptr.dtype.element_ty).to(tl.float32)
        b_z = tl.where((o_c < CLASSES)[None, :], b_z, -float("inf"))
        b_exp = tl.exp(b_z - tl.max(b_z, axis=1)[:, None])
        b_sum = tl.sum(b_exp, axis=1)
        b_share = b_exp / b_sum[:, None]
        if OUTPUT == "prediction":
            # torch's argmax: the first of the largest, and a NaN is larger than anything.
            b_rank = tl.where(b_z != b_z, float("inf"), b_z)
            m_best = (b_rank == tl.max(b_rank, axis=1)[:, None]) & (o_c < CLASSES)[None, :]
            b_class = tl.min(tl.where(m_best, o_c[None, :], CLASSES), axis=1)
            tl.store(class_ptr + first + o_row, b_class.to(tl.int64), mask=m_row)
            tl.store(share_ptr + o, b_share, mask=m)
        else:
            b_label = tl.load(label_ptr + first + o_row, mask=m_row, other=0)
            m_label = o_c[None, :] == b_label[:, None]
            b_right = tl.sum(tl.where(m_label & (o_c < CLASSES)[None, :], b_z, 0.0), axis=1)
            b_loss = tl.log(b_sum) + tl.max(b_z, axis=1) - b_right
            # A label that is no class has no loss: NaN shows it without waiting for the device.
            m_class = (b_label >= 0) & (b_label < CLASSES)
            tl.store(loss_ptr + first + o_row, tl.where(m_class, b_loss, float("nan")), mask=m_row)
            b_share = tl.where(m_label, b_share - 1.0, b_share)
            tl.store(share_ptr + o, tl.where(m_class[:, None], b_share, float("nan")), mask=m)
