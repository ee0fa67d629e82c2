"""Weight gradient of a 3-row window with stride 1, from strips of the maps, by TMA, in two deterministic passes.

dw[split][r, s][M, N] = sum over the split's strips of x[h + r, w + s][K, M]^T @ dy[p, q][K, N]
M = c   input channels
N = k   output channels
K = q   adjacent pixels of a row, of some images where a row has fewer than BLOCK_K, for each of a strip's ROWS rows

One program: a column s of taps with its three rows, which all read the same tiles: ROWS of dy and ROWS + 2 of x make
3 * ROWS products. A row of either tile is adjacent in memory, and what lies outside of the image TMA fills with zeros,
so that nothing is tested and no address computed. x goes through registers: the tensor cores' second operand, read
from shared memory, is all that shared memory is asked for then, and TF32 takes a transposed operand in no other way.
"""

import triton
import triton.language as tl

from kernels.common.jit import dot, masked_registers, through_registers, waited
from kernels.conv2d.common.order import place, share


@triton.jit
def _turned(x_desc, i_n, o_h, o_w, o_c, m_k, WHOLE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr):
    """The tile [BLOCK_M, BLOCK_K] of x at a row and column, with zeros where dy has no pixel: 0 * inf would be NaN."""
    b_x = x_desc.load([i_n, o_h, o_w, o_c]).reshape(BLOCK_K, BLOCK_M).T
    return through_registers(b_x) if WHOLE else masked_registers(b_x, m_k)


@triton.jit
def strips_wgrad_kernel(
    dy_desc,
    x_desc,
    dw_ptr,
    n,
    k,
    p,
    q,
    splits,
    stride_dw_split,
    stride_dw_k,
    stride_dw_c,
    stride_dw_r,
    stride_dw_s,
    C: tl.constexpr,
    S: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    DIL_W: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WHOLE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """ROWS divides p. COLUMNS: adjacent pixels of each image. WHOLE: they divide q."""
    IMAGES: tl.constexpr = BLOCK_K // COLUMNS
    NUM_M: tl.constexpr = (C + BLOCK_M - 1) // BLOCK_M
    num_n = tl.cdiv(k, BLOCK_N)
    i_c, i_k, s = place(tl.program_id(0) % (NUM_M * num_n * S), NUM_M, num_n, S)
    i_split = tl.program_id(0) // (NUM_M * num_n * S)
    num_p = p // ROWS
    num_q = tl.cdiv(q, COLUMNS)
    first, last = share(tl.cdiv(n, IMAGES) * num_p * num_q, i_split, splits)
    i_row = first // num_q
    o_q = (first - i_row * num_q) * COLUMNS
    i_image = i_row // num_p
    o_p = (i_row - i_image * num_p) * ROWS
    i_n = i_image * IMAGES
    o_c = i_c * BLOCK_M
    o_k = i_k * BLOCK_N

    b_0 = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    b_1 = b_0
    b_2 = b_0
    for _ in range(first, last):
        m_k = (o_q + tl.arange(0, BLOCK_K) % COLUMNS < q)[None, :]
        o_h = o_p - PAD_H
        o_w = o_q + s * DIL_W - PAD_W
        b_x0 = _turned(x_desc, i_n, o_h, o_w, o_c, m_k, WHOLE, BLOCK_M, BLOCK_K)
        b_x1 = _turned(x_desc, i_n, o_h + 1, o_w, o_c, m_k, WHOLE, BLOCK_M, BLOCK_K)
        for row in tl.static_range(ROWS):
            b_dy = dy_desc.load([i_n, o_p + row, o_q, o_k]).reshape(BLOCK_K, BLOCK_N)
            b_x2 = _turned(x_desc, i_n, o_h + (row + 2), o_w, o_c, m_k, WHOLE, BLOCK_M, BLOCK_K)
            b_0 = dot(b_x0, b_dy, b_0, PRECISION)
            b_1 = dot(b_x1, b_dy, b_1, PRECISION)
            b_2 = dot(b_x2, b_dy, b_2, PRECISION)
            b_x0 = b_x1
            b_x1 = b_x2
        b_0 = waited(b_0)
        b_1 = waited(b_1)
        b_2 = waited(b_2)
        o_q += COLUMNS
        o_p += (o_q >= q) * ROWS
        o_q = tl.where(o_q >= q, 0, o_q)
        i_n += (o_p == p) * IMAGES
        o_p = tl.where(o_p == p, 0, o_p)

    o_c += tl.arange(0, BLOCK_M)
    o_k += tl.arange(0, BLOCK_N)
    p_dw = dw_ptr + i_split.to(tl.int64) * stride_dw_split + s * stride_dw_s
    p_dw = p_dw + (o_c * stride_dw_c)[:, None] + (o_k * stride_dw_k)[None, :]
    m_dw = (o_c < C)[:, None] & (o_k < k)[None, :]
    tl.store(p_dw, b_0.to(dw_ptr.dtype.element_ty), mask=m_dw)
    tl.store(p_dw + stride_dw_r, b_1.to(dw_ptr.dtype.element_ty), mask=m_dw)
    tl.store(p_dw + 2 * stride_dw_r, b_2.to(dw_ptr.dtype.element_ty), mask=m_dw)
