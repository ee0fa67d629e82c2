"""Input gradient as an implicit GEMM without a wasted tap.

dx[M, N] = sum over taps of dy[M, K] @ w[K, N]
M = n * h' * w'   input pixels of one phase: those with the same (h mod stride, w mod stride)
N = c             input channels of one group
K = r' * s' * k   the taps that reach this phase x output channels, channels fastest

Row h receives tap r from output row (h + pad - r * dilation) / stride where that is whole. Within a phase the taps that
qualify are the same for every pixel: a first one, then every STEP-th. A stride of 2 needs no masked product. SPLIT cuts
K as in fprop.
"""

import triton
import triton.language as tl

from kernels.common.jit import dot, nothing, tap_inside, taps_inside, unravel
from kernels.conv2d.common.order import phase_of, place, share


@triton.jit
def dgrad_kernel(
    dy_ptr,
    w_ptr,
    dx_ptr,
    n,
    h,
    w,
    c,
    p,
    q,
    splits,
    stride_dy_n,
    stride_dy_k,
    stride_dy_p,
    stride_dy_q,
    stride_w_k,
    stride_w_c,
    stride_w_r,
    stride_w_s,
    stride_dx_split,
    stride_dx_n,
    stride_dx_c,
    stride_dx_h,
    stride_dx_w,
    K: tl.constexpr,
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
    SPLIT: tl.constexpr,
    CHUNK: tl.constexpr,
    CHUNK_X: tl.constexpr,
    INDEX: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    NUM_K: tl.constexpr = (K + BLOCK_K - 1) // BLOCK_K
    zero = tl.full((), 0, INDEX)
    phase_rows = tl.cdiv(h, STRIDE_H)
    phase_cols = tl.cdiv(w, STRIDE_W)
    pixels = (zero + n) * phase_rows * phase_cols
    num_n = tl.cdiv(c, BLOCK_N)
    num_m = tl.cdiv(pixels, BLOCK_M)
    num = num_m * num_n * (STRIDE_H * STRIDE_W)
    i_m, i_n, i_phase = place(tl.program_id(0) % num, num_m, num_n, STRIDE_H * STRIDE_W)
    i_rest = tl.program_id(0) // num
    i_split = i_rest % splits
    i_g = (i_rest // splits).to(tl.int64)
    i_phase = i_phase.to(tl.int32)
    phase_h, first_r = phase_of(i_phase // STRIDE_W, R, STRIDE_H, PAD_H, DIL_H, STEP_H)
    phase_w, first_s = phase_of(i_phase % STRIDE_W, S, STRIDE_W, PAD_W, DIL_W, STEP_W)
    # Counts of taps that reach the phase; without a stride all do, and the loop's divisions are by constants.
    MOST_R: tl.constexpr = (R + STEP_H - 1) // STEP_H
    MOST_S: tl.constexpr = (S + STEP_W - 1) // STEP_W
    num_r = MOST_R if STRIDE_H == 1 else tl.cdiv(tl.maximum(R - first_r, 0), STEP_H)
    num_s = MOST_S if STRIDE_W == 1 else tl.cdiv(tl.maximum(S - first_s, 0), STEP_W)

    o_m = i_m.to(INDEX) * BLOCK_M + tl.arange(0, BLOCK_M)
    o_n = i_n.to(tl.int32) * BLOCK_N + tl.arange(0, BLOCK_N)
    o_k = tl.arange(0, BLOCK_K)
    o_i, o_row, o_col = unravel(o_m, phase_rows, phase_cols)
    o_h = o_row * STRIDE_H + phase_h
    o_w = o_col * STRIDE_W + phase_w
    m_m = (o_m < pixels) & (o_h < h) & (o_w < w)
    m_n = o_n < c
    if CHUNK_X > 1:
        m_n = tl.max_constancy(m_n, CHUNK_X)
    # The output position of the first tap; the division is exact. Each further tap is STEP * DIL / STRIDE before it.
    o_p0 = (o_h + PAD_H - first_r * DIL_H) // STRIDE_H
    o_q0 = (o_w + PAD_W - first_s * DIL_W) // STRIDE_W
    BACK_H: tl.constexpr = STEP_H * DIL_H // STRIDE_H
    BACK_W: tl.constexpr = STEP_W * DIL_W // STRIDE_W
    b_taps = taps_inside(o_p0, o_q0, m_m, p, q, MOST_R, MOST_S, -BACK_H, -BACK_W)
    o_pixel = o_i * stride_dy_n + (zero + o_p0) * stride_dy_p + (zero + o_q0) * stride_dy_q
    # Weights have c innermost, or k for float32 (gradients.py): a step along the other axis is a whole row.
    o_first = (zero + first_r) * stride_w_r + (zero + first_s) * stride_w_s
    o_wk = (zero + o_k) * stride_w_k
    o_wn = (zero + o_n) * stride_w_c
    if dy_ptr.dtype.element_ty == tl.float32:
        o_wn += o_first
    else:
        o_wk += o_first
    if CHUNK > 1:
        o_pixel = tl.multiple_of(o_pixel, CHUNK)
        if dy_ptr.dtype.element_ty == tl.float32:
            o_wn = tl.multiple_of(o_wn, CHUNK)
        else:
            o_wk = tl.multiple_of(o_wk, CHUNK)
    p_dy = dy_ptr + i_g * K * stride_dy_k + o_pixel
    p_dy = p_dy[:, None] + o_k[None, :] * stride_dy_k
    p_w = w_ptr + i_g * K * stride_w_k + o_wn
    p_w = p_w[None, :] + o_wk[:, None]

    b_dx = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    # A pipelined loop's first steps are computed before it is known that there are any, and a division by zero taps
    # would let the compiler conclude that there are.
    first = 0
    last = num_r * num_s * NUM_K
    if SPLIT:
        first, last = share(last, i_split.to(tl.int32), splits)
    for step in range(first, last):
        tap = step // NUM_K
        k_0 = (step - tap * NUM_K) * BLOCK_K
        a_r = tap // tl.maximum(num_s, 1)
        a_s = tap - a_r * num_s
        o_dy = (zero + k_0) * stride_dy_k - (zero + a_r * BACK_H) * stride_dy_p - (zero + a_s * BACK_W) * stride_dy_q
        o_f = (zero + k_0) * stride_w_k + (zero + a_r * STEP_H) * stride_w_r + (zero + a_s * STEP_W) * stride_w_s
        if MOST_S == 1:
            o_dy += nothing()
            o_f += nothing()
        if CHUNK > 1:
            o_dy = tl.multiple_of(o_dy, CHUNK)
            o_f = tl.multiple_of(o_f, CHUNK)
        bit = a_r * MOST_S + a_s
        m_dy = tap_inside(b_taps, o_p0, o_q0, m_m, p, q, bit, a_r, a_s, MOST_R * MOST_S, -BACK_H, -BACK_W)[:, None]
        m_w = m_n[None, :]
        if K % BLOCK_K != 0:
            m_dy = m_dy & (k_0 + o_k < K)[None, :]
            m_w = m_w & (k_0 + o_k < K)[:, None]
        b_dy = tl.load(p_dy + o_dy, mask=m_dy, other=0.0)
        b_w = tl.load(p_w + o_f, mask=m_w, other=0.0)
        b_dx = dot(b_dy, b_w, b_dx, PRECISION)

    o_group = i_g * c * stride_dx_c
    if SPLIT:
        o_group += i_split.to(tl.int64) * stride_dx_split
    o_dx = o_group + (o_i * stride_dx_n + (zero + o_h) * stride_dx_h + (zero + o_w) * stride_dx_w)
    if CHUNK_X > 1:
        o_dx = tl.multiple_of(o_dx, CHUNK_X)
    p_dx = dx_ptr + o_dx[:, None] + ((zero + o_n) * stride_dx_c)[None, :]
    tl.store(p_dx, b_dx.to(dx_ptr.dtype.element_ty), mask=m_m[:, None] & m_n[None, :])
