"""Forward convolution with the batch as the tall side, its tiles fetched by the tensor memory accelerator (TMA).

y[p, q][M, N] = sum over taps of x[h, w][M, K] @ w[r, s][N, K]^T     one program: output pixels of some images
M = n   images of a pixel, or of a box of adjacent pixels where there are fewer than BLOCK_M
N = k   output channels
K = c   input channels, BLOCK_K at a time, for each tap

Memory in channels_last is seen as [h, w, n, c]: a box of one pixel, BLOCK_M images and BLOCK_K channels lands in shared
memory as a matrix that the tensor cores read there. Row and column are scalars, so taps outside the image are not
multiplied by zero but left out (10 % of the work at 14 x 14, 18 % at 7 x 7), and any stride or dilation is the same
loop. A box of several pixels (stride 1) is a matrix too; TMA fills what lies outside with zeros, and Hopper's tensor
cores take it from registers.
"""

import triton
import triton.language as tl

from kernels.common.jit import dot, inside, relu, unravel
from kernels.conv2d.common.order import place, share


@triton.jit
def batch_fprop_kernel(
    x_desc,
    w_desc,
    bias_ptr,
    y_desc,
    n,
    h,
    w,
    k,
    p,
    q,
    splits,
    C: tl.constexpr,
    R: tl.constexpr,
    S: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    DIL_H: tl.constexpr,
    DIL_W: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    RELU: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BOX_ROWS: tl.constexpr,
    BOX_COLUMNS: tl.constexpr,
):
    """y_desc is [splits, p, q, n, k]. BOX_ROWS and BOX_COLUMNS of a box are 1 unless the stride is."""
    IMAGES: tl.constexpr = BLOCK_M // (BOX_ROWS * BOX_COLUMNS)
    NUM_C: tl.constexpr = C // BLOCK_K
    num_n = tl.cdiv(k, BLOCK_N)
    num_p = tl.cdiv(p, BOX_ROWS)
    num_q = tl.cdiv(q, BOX_COLUMNS)
    num_m = tl.cdiv(n, IMAGES) * num_p * num_q
    i_row, i_n, _ = place(tl.program_id(0) % (num_m * num_n), num_m, num_n, 1)
    i_split = tl.program_id(0) // (num_m * num_n)
    i_m, i_p, i_q = unravel(i_row, num_p, num_q)
    o_h = i_p * BOX_ROWS * STRIDE_H - PAD_H
    o_w = i_q * BOX_COLUMNS * STRIDE_W - PAD_W
    r_0, r_1 = inside(o_h, h, R, DIL_H, BOX_ROWS)
    s_0, s_1 = inside(o_w, w, S, DIL_W, BOX_COLUMNS)
    num_s = s_1 - s_0

    b_y = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    first, last = share((r_1 - r_0) * num_s * NUM_C, i_split, splits)
    tap = first // NUM_C
    c_0 = (first - tap * NUM_C) * BLOCK_K
    r = r_0 + tap // tl.maximum(num_s, 1)
    s = s_0 + tap % tl.maximum(num_s, 1)
    for _ in range(first, last):
        b_x = x_desc.load([o_h + r * DIL_H, o_w + s * DIL_W, i_m * IMAGES, c_0]).reshape(BLOCK_M, BLOCK_K)
        b_w = w_desc.load([i_n * BLOCK_N, (r * S + s) * C + c_0])
        b_y = dot(b_x, b_w.T, b_y, PRECISION)
        # Carried on from step to step: a division by num_s, which is no constant, would be a fifth of the loop.
        c_0 += BLOCK_K
        s += c_0 == C
        c_0 = tl.where(c_0 == C, 0, c_0)
        r += s == s_1
        s = tl.where(s == s_1, s_0, s)

    o_n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    if HAS_BIAS:
        b_y += tl.load(bias_ptr + o_n, mask=o_n < k, other=0.0).to(tl.float32)[None, :]
    if RELU:
        b_y = relu(b_y)
    b_y = b_y.to(DTYPE).reshape(1, BOX_ROWS, BOX_COLUMNS, IMAGES, BLOCK_N)
    y_desc.store([i_split, i_p * BOX_ROWS, i_q * BOX_COLUMNS, i_m * IMAGES, i_n * BLOCK_N], b_y)
