"""Weight gradient of thin groups, several at once, in two deterministic passes.

dw[split][M, N] = x[K, M]^T @ dy[K, N]; of the product only the blocks on the diagonal are kept
M = TAPS * PACK * IN   input channels of PACK neighbouring groups, for TAPS taps
N = PACK * OUT         their output channels
K = n * p * q          output pixels, divided among the splits

Finding a pixel's coordinates takes more instructions than loading it: several taps share them, and dy.
"""

import triton
import triton.language as tl

from kernels.common.jit import dot, near


@triton.jit
def groups_wgrad_kernel(
    dy_ptr,
    x_ptr,
    dw_ptr,
    pixels,
    pixels_per_split,
    h,
    w,
    c,
    k,
    p,
    q,
    stride_x_n,
    stride_x_h,
    stride_x_w,
    stride_dw_split,
    stride_dw_k,
    stride_dw_c,
    stride_dw_r,
    stride_dw_s,
    IN: tl.constexpr,
    OUT: tl.constexpr,
    PACK: tl.constexpr,
    TAPS: tl.constexpr,
    R: tl.constexpr,
    S: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    DIL_H: tl.constexpr,
    DIL_W: tl.constexpr,
    CHUNK: tl.constexpr,
    CHUNK_Y: tl.constexpr,
    INDEX: tl.constexpr,
    PRECISION: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Maps have adjacent channels: c of x, k of dy, IN and OUT in each group. dy is dense. CHUNK: as forward."""
    WIDTH: tl.constexpr = BLOCK_M // TAPS
    NUM_T: tl.constexpr = (R * S + TAPS - 1) // TAPS
    num_n = tl.cdiv(k, PACK * OUT)
    i_t = tl.program_id(0) % NUM_T
    i_n = tl.program_id(0) // NUM_T % num_n
    i_split = (tl.program_id(0) // NUM_T // num_n).to(tl.int64)
    zero = tl.full((), 0, INDEX)
    o_m = tl.arange(0, BLOCK_M)
    o_c = o_m % WIDTH
    o_n = tl.arange(0, BLOCK_N)
    o_tap = i_t * TAPS + o_m // WIDTH
    o_r = o_tap // S
    o_s = o_tap - o_r * S
    m_m = tl.max_constancy((o_c < PACK * IN) & (i_n * (PACK * IN) + o_c < c) & (o_tap < R * S), CHUNK)
    m_n = tl.max_constancy((o_n < PACK * OUT) & (i_n * (PACK * OUT) + o_n < k), CHUNK_Y)
    p_dy = dy_ptr + (i_n * (PACK * OUT) + o_n)[None, :]
    o_window = (zero + o_r * DIL_H) * stride_x_h + (zero + o_s * DIL_W) * stride_x_w
    p_x = x_ptr + (i_n * (PACK * IN) + o_c + tl.multiple_of(o_window, CHUNK))[:, None]
    first = i_split.to(INDEX) * pixels_per_split
    last = tl.minimum(first + pixels_per_split, pixels)
    b_dw = tl.zeros((BLOCK_M, BLOCK_N), ACC)
    # Each step advances the coordinates by BLOCK_K pixels, with two carries: cheaper than finding them.
    o_k, o_i, o_p, o_q = near(first, p, q, BLOCK_K)
    rows = BLOCK_K // q
    next_q = BLOCK_K - rows * q
    next_i = rows // p
    next_p = rows - next_i * p
    for _ in range(0, pixels_per_split, BLOCK_K):
        m_k = o_k < last
        o_h = o_p * STRIDE_H - PAD_H
        o_w = o_q * STRIDE_W - PAD_W
        o_row = o_h[None, :] + (o_r * DIL_H)[:, None]
        o_col = o_w[None, :] + (o_s * DIL_W)[:, None]
        m_x = (o_row >= 0) & (o_row < h) & (o_col >= 0) & (o_col < w) & m_k[None, :] & m_m[:, None]
        o_dy = o_k * k
        o_x = o_i * stride_x_n + (zero + o_h) * stride_x_h + (zero + o_w) * stride_x_w
        o_dy = tl.multiple_of(o_dy, CHUNK_Y)
        o_x = tl.multiple_of(o_x, CHUNK)
        b_dy = tl.load(p_dy + o_dy[:, None], mask=m_k[:, None] & m_n[None, :], other=0.0)
        b_x = tl.load(p_x + o_x[None, :], mask=m_x, other=0.0)
        b_dw = dot(b_x, b_dy, b_dw, PRECISION)
        o_k += BLOCK_K
        o_q += next_q
        over = (o_q >= q).to(tl.int32)
        o_q -= over * q
        o_p += next_p + over
        over = (o_p >= p).to(tl.int32)
        o_p -= over * p
        o_i += next_i + over

    o_dw = o_c % IN * stride_dw_c + o_r * stride_dw_r + o_s * stride_dw_s
    o_dw = o_dw[:, None] + ((zero + i_n * (PACK * OUT) + o_n) * stride_dw_k)[None, :]
    m_dw = ((o_c // IN)[:, None] == (o_n // OUT)[None, :]) & m_m[:, None] & m_n[None, :]
    tl.store(dw_ptr + i_split * stride_dw_split + o_dw, b_dw.to(dw_ptr.dtype.element_ty), mask=m_dw)
