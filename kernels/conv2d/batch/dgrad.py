"""Input gradient with the batch as the tall side, by TMA; the counterpart of fprop.py.

dx[h, w][M, N] = sum over taps of dy[p, q][M, K] @ w[r, s][K, N]     one program: input pixels of some images
M = n   images of a pixel, or of a box of adjacent pixels where there are fewer than BLOCK_M
N = c   input channels
K = k   output channels, BLOCK_K at a time, for each tap

With a stride only some taps reach a pixel (1, 2, 2 or 4 of nine for a stride of 2); the scalar loop runs just those.
"""

import triton
import triton.language as tl

from kernels.common.jit import dot, first_tap, unravel
from kernels.conv2d.common.order import place, share


@triton.jit
def _reaching(
    o, size, TAPS: tl.constexpr, STRIDE: tl.constexpr, DIL: tl.constexpr, STEP: tl.constexpr, SIDE: tl.constexpr
):
    """Of the taps first, first + STEP, ... that reach SIDE positions from `o` on: the first, its output position, and
    the range of those inside the map. SIDE is 1 unless STRIDE is."""
    BACK: tl.constexpr = STEP * DIL // STRIDE
    first = first_tap(o, STRIDE, DIL, STEP, TAPS)
    at = (o - first * DIL) // STRIDE
    low = (tl.maximum(at - (size - 1), 0) + BACK - 1) // BACK
    high = tl.minimum((TAPS - first + STEP - 1) // STEP, (at + SIDE - 1) // BACK + 1)
    some = (first < TAPS) & (o >= first * DIL)
    return first, at, low, tl.where(some, tl.maximum(high, low), low)


@triton.jit
def batch_dgrad_kernel(
    dy_desc,
    w_desc,
    dx_desc,
    n,
    h,
    w,
    c,
    p,
    q,
    splits,
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
    TURNED: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BOX_ROWS: tl.constexpr,
    BOX_COLUMNS: tl.constexpr,
):
    """w_desc is [k, r * s * c], or TURNED [c, r * s * k]: the summed axis innermost is the only order that TF32 tensor
    cores read. A box that is wider than c reaches into the next tap; nothing of that is written. dx_desc is
    [splits, h, w, n, c]. BOX_ROWS and BOX_COLUMNS of a box are 1 unless the stride is.
    """
    IMAGES: tl.constexpr = BLOCK_M // (BOX_ROWS * BOX_COLUMNS)
    NUM_K: tl.constexpr = K // BLOCK_K
    BACK_H: tl.constexpr = STEP_H * DIL_H // STRIDE_H
    BACK_W: tl.constexpr = STEP_W * DIL_W // STRIDE_W
    num_n = tl.cdiv(c, BLOCK_N)
    num_h = tl.cdiv(h, BOX_ROWS)
    num_w = tl.cdiv(w, BOX_COLUMNS)
    num_m = tl.cdiv(n, IMAGES) * num_h * num_w
    i_row, i_n, _ = place(tl.program_id(0) % (num_m * num_n), num_m, num_n, 1)
    i_split = tl.program_id(0) // (num_m * num_n)
    i_m, i_h, i_w = unravel(i_row, num_h, num_w)
    first_r, at_p, a_0, a_1 = _reaching(i_h * BOX_ROWS + PAD_H, p, R, STRIDE_H, DIL_H, STEP_H, BOX_ROWS)
    first_s, at_q, b_0, b_1 = _reaching(i_w * BOX_COLUMNS + PAD_W, q, S, STRIDE_W, DIL_W, STEP_W, BOX_COLUMNS)
    num_b = b_1 - b_0

    b_dx = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    first, last = share((a_1 - a_0) * num_b * NUM_K, i_split, splits)
    tap = first // NUM_K
    k_0 = (first - tap * NUM_K) * BLOCK_K
    a = a_0 + tap // tl.maximum(num_b, 1)
    b = b_0 + tap % tl.maximum(num_b, 1)
    for _ in range(first, last):
        i_tap = (first_r + a * STEP_H) * S + first_s + b * STEP_W
        b_dy = dy_desc.load([at_p - a * BACK_H, at_q - b * BACK_W, i_m * IMAGES, k_0]).reshape(BLOCK_M, BLOCK_K)
        if TURNED:
            b_w = w_desc.load([i_n * BLOCK_N, i_tap * K + k_0]).T
        else:
            b_w = w_desc.load([k_0, i_tap * c + i_n * BLOCK_N])
        b_dx = dot(b_dy, b_w, b_dx, PRECISION)
        k_0 += BLOCK_K  # carried on as in fprop
        b += k_0 == K
        k_0 = tl.where(k_0 == K, 0, k_0)
        a += b == b_1
        b = tl.where(b == b_1, b_0, b)
    b_dx = b_dx.to(DTYPE).reshape(1, BOX_ROWS, BOX_COLUMNS, IMAGES, BLOCK_N)
    dx_desc.store([i_split, i_h * BOX_ROWS, i_w * BOX_COLUMNS, i_m * IMAGES, i_n * BLOCK_N], b_dx)
