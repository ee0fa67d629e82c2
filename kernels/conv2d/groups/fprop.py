"""Convolution in thin groups as a GEMM over several groups at once: the weights form a block diagonal.

y[M, N] = sum over taps of x[M, BLOCK_K] @ w[BLOCK_K, N]     w[c, k] = 0 where c and k are of different groups
M = n * p * q         output pixels
N = PACK * OUT        output channels of PACK neighbouring groups
K = PACK * IN         their input channels, in each of r * s taps

The zeros cost products that tensor cores have to spare, and save what a thin group cannot have: long rows of adjacent
channels. In one thing they are no zeros: an infinity or NaN times zero is NaN, in groups that do not hold it. A program
that finds a NaN among its sums therefore computes them again, group by group.

TRANSPOSED is the input gradient: x is dy, y is dx, and the weights are read with channels exchanged. M is then the
pixels of one phase of the stride, as in gather/dgrad.py, and the taps are those that reach it: none is wasted.
"""

import triton
import triton.language as tl

from kernels.common.jit import dot, near, relu, tap_inside, taps_inside
from kernels.conv2d.common.order import phase_of


@triton.jit
def groups_fprop_kernel(
    x_ptr,
    w_ptr,
    bias_ptr,
    y_ptr,
    pixels,
    h,
    w,
    c,
    k,
    p,
    q,
    stride_x_n,
    stride_x_h,
    stride_x_w,
    stride_y_n,
    stride_y_p,
    stride_y_q,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    PACK: tl.constexpr,
    R: tl.constexpr,
    S: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    DIL_H: tl.constexpr,
    DIL_W: tl.constexpr,
    STEP_H: tl.constexpr,
    STEP_W: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    CHUNK: tl.constexpr,
    CHUNK_Y: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    RELU: tl.constexpr,
    INDEX: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Maps have adjacent channels: c of x, k of y, IN and OUT in each group. w is dense [channels, R, S, group].

    STEP_H, STEP_W: every so many-th tap meets a phase (1 forward). pixels: of one phase. CHUNK, CHUNK_Y: powers of two
    that divide every step of x and y, and the channels of a block.
    """
    WIDTH: tl.constexpr = OUT if TRANSPOSED else IN
    FILTER: tl.constexpr = R * S * WIDTH
    MOST_R: tl.constexpr = (R + STEP_H - 1) // STEP_H
    MOST_S: tl.constexpr = (S + STEP_W - 1) // STEP_W
    LESS_S: tl.constexpr = MOST_S - 1 if MOST_S > 1 else 1  # a phase has MOST_S taps across, or one fewer
    # From one tap to the next, in rows and columns of x.
    NEXT_H: tl.constexpr = -(STEP_H * DIL_H // STRIDE_H) if TRANSPOSED else DIL_H
    NEXT_W: tl.constexpr = -(STEP_W * DIL_W // STRIDE_W) if TRANSPOSED else DIL_W
    num_n = tl.cdiv(k, PACK * OUT)
    i_n = tl.program_id(0) % num_n
    i_m = tl.program_id(0) // num_n
    zero = tl.full((), 0, INDEX)
    num_r = MOST_R
    num_s = MOST_S
    first = 0
    if TRANSPOSED:
        i_phase = i_m % (STRIDE_H * STRIDE_W)
        i_m = i_m // (STRIDE_H * STRIDE_W)
        phase_h, first_r = phase_of(i_phase // STRIDE_W, R, STRIDE_H, PAD_H, DIL_H, STEP_H)
        phase_w, first_s = phase_of(i_phase % STRIDE_W, S, STRIDE_W, PAD_W, DIL_W, STEP_W)
        first = first_r * S + first_s
        if STRIDE_H > 1:
            num_r = tl.cdiv(tl.maximum(R - first_r, 0), STEP_H)
        if STRIDE_W > 1:
            num_s = tl.cdiv(tl.maximum(S - first_s, 0), STEP_W)
        o_m, o_i, o_p, o_q = near(i_m.to(INDEX) * BLOCK_M, tl.cdiv(p, STRIDE_H), tl.cdiv(q, STRIDE_W), BLOCK_M)
        o_p = o_p * STRIDE_H + phase_h
        o_q = o_q * STRIDE_W + phase_w
        m_m = (o_m < pixels) & (o_p < p) & (o_q < q)
        o_h = (o_p + PAD_H - first_r * DIL_H) // STRIDE_H
        o_w = (o_q + PAD_W - first_s * DIL_W) // STRIDE_W
    else:
        o_m, o_i, o_p, o_q = near(i_m.to(INDEX) * BLOCK_M, p, q, BLOCK_M)
        m_m = o_m < pixels
        o_h = o_p * STRIDE_H - PAD_H
        o_w = o_q * STRIDE_W - PAD_W
    o_n = tl.arange(0, BLOCK_N)
    o_k = tl.arange(0, BLOCK_K)
    m_n = tl.max_constancy((o_n < PACK * OUT) & (i_n * (PACK * OUT) + o_n < k), CHUNK_Y)
    m_k = tl.max_constancy((o_k < PACK * IN) & (i_n * (PACK * IN) + o_k < c), CHUNK)
    o_pixel = o_i * stride_x_n + (zero + o_h) * stride_x_h + (zero + o_w) * stride_x_w
    p_x = (x_ptr + tl.multiple_of(o_pixel, CHUNK))[:, None] + (i_n * (PACK * IN) + o_k)[None, :]
    p_w = w_ptr + first * WIDTH
    if TRANSPOSED:
        p_w = p_w + ((i_n * (PACK * IN) + o_k) * FILTER)[:, None] + (o_n % OUT)[None, :]
    else:
        p_w = p_w + (o_k % IN)[:, None] + ((i_n * (PACK * OUT) + o_n) * FILTER)[None, :]
    m_w = (o_k // IN)[:, None] == (o_n // OUT)[None, :]
    m_w = m_w & m_k[:, None] & m_n[None, :]
    b_taps = taps_inside(o_h, o_w, m_m, h, w, MOST_R, MOST_S, NEXT_H, NEXT_W)

    b_y = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    for tap in range(num_r * num_s):
        r = tl.where(num_s == MOST_S, tap // MOST_S, tap // LESS_S)
        s = tap - r * num_s
        bit = r * MOST_S + s
        m_x = tap_inside(b_taps, o_h, o_w, m_m, h, w, bit, r, s, MOST_R * MOST_S, NEXT_H, NEXT_W)
        o_x = tl.multiple_of((zero + r * NEXT_H) * stride_x_h + (zero + s * NEXT_W) * stride_x_w, CHUNK)
        b_x = tl.load(p_x + o_x, mask=m_x[:, None] & m_k[None, :], other=0.0)
        b_w = tl.load(p_w + (r * (STEP_H * S) + s * STEP_W) * WIDTH, mask=m_w, other=0.0)
        b_y = dot(b_x, b_w, b_y, PRECISION)
    # Seldom entered. A branch around the loops would take more registers; so would choosing a group after the load, but
    # for groups that end within 8 bytes, and float32.
    CHOOSE: tl.constexpr = IN % 4 != 0 or x_ptr.dtype.element_ty.primitive_bitwidth != 16
    found = tl.max(tl.where(b_y != b_y, 1, 0), axis=None)
    for group in tl.range(0, PACK * found, num_stages=1):
        m_own = (o_k // IN == group)[None, :]
        b_own = tl.zeros((BLOCK_M, BLOCK_N), ACC)
        for tap in tl.range(0, num_r * num_s * found, num_stages=1):
            r = tl.where(num_s == MOST_S, tap // MOST_S, tap // LESS_S)
            s = tap - r * num_s
            bit = r * MOST_S + s
            m_x = tap_inside(b_taps, o_h, o_w, m_m, h, w, bit, r, s, MOST_R * MOST_S, NEXT_H, NEXT_W)
            o_x = tl.multiple_of((zero + r * NEXT_H) * stride_x_h + (zero + s * NEXT_W) * stride_x_w, CHUNK)
            m_group = m_k[None, :] if CHOOSE else m_own & m_k[None, :]
            b_x = tl.load(p_x + o_x, mask=m_x[:, None] & m_group, other=0.0)
            if CHOOSE:
                b_x = tl.where(m_own, b_x, 0.0)
            b_w = tl.load(p_w + (r * (STEP_H * S) + s * STEP_W) * WIDTH, mask=m_w, other=0.0)
            b_own = dot(b_x, b_w, b_own, PRECISION)
        b_y = tl.where((o_n // OUT == group)[None, :], b_own, b_y)

    if HAS_BIAS:
        b_y += tl.load(bias_ptr + i_n * (PACK * OUT) + o_n, mask=m_n, other=0.0).to(ACC)[None, :]
    if RELU:
        b_y = relu(b_y)
    o_y = o_i * stride_y_n + (zero + o_p) * stride_y_p + (zero + o_q) * stride_y_q
    p_y = (y_ptr + tl.multiple_of(o_y, CHUNK_Y))[:, None] + (i_n * (PACK * OUT) + o_n)[None, :]
    tl.store(p_y, b_y.to(y_ptr.dtype.element_ty), mask=m_m[:, None] & m_n[None, :])
