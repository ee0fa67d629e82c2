"""Weight gradient with the batch as the summed side, by TMA, in two deterministic passes.

dw[split][r, s][M, N] = sum over the split's output pixels of dy[p, q][K, M]^T @ x[h, w][K, N]
M = k   output channels
N = c   input channels
K = n   images, BLOCK_K at a time, for each output pixel whose tap (r, s) lies inside the image

One program: one tap, one block of M x N, one split of the output pixels.
"""

import triton
import triton.language as tl

from kernels.common.jit import dot
from kernels.conv2d.common.order import place, share


@triton.jit
def _rows(tap, size, outputs, STRIDE: tl.constexpr, PAD: tl.constexpr):
    """The output positions [low, high) whose input position o * STRIDE + tap - PAD lies in [0, size)."""
    low = tl.maximum(PAD - tap + STRIDE - 1, 0) // STRIDE
    last = size - 1 + PAD - tap
    high = tl.where(last < 0, 0, tl.minimum(last // STRIDE + 1, outputs))
    return low, high


@triton.jit
def batch_wgrad_kernel(
    dy_desc,
    x_desc,
    dw_ptr,
    n,
    h,
    w,
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
    R: tl.constexpr,
    S: tl.constexpr,
    STRIDE_H: tl.constexpr,
    STRIDE_W: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    DIL_H: tl.constexpr,
    DIL_W: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    NUM_N: tl.constexpr = (C + BLOCK_N - 1) // BLOCK_N
    num_m = tl.cdiv(k, BLOCK_M)
    i_m, i_n, i_tap = place(tl.program_id(0) % (num_m * NUM_N * R * S), num_m, NUM_N, R * S)
    i_split = tl.program_id(0) // (num_m * NUM_N * R * S)
    r = i_tap // S
    s = i_tap % S
    p_0, p_1 = _rows(r * DIL_H, h, p, STRIDE_H, PAD_H)
    q_0, q_1 = _rows(s * DIL_W, w, q, STRIDE_W, PAD_W)
    num_q = tl.maximum(q_1 - q_0, 0)
    num_k = tl.cdiv(n, BLOCK_K)

    b_dw = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    first, last = share(tl.maximum(p_1 - p_0, 0) * num_q * num_k, i_split, splits)
    pixel = first // num_k
    n_0 = (first - pixel * num_k) * BLOCK_K
    i_p = p_0 + pixel // tl.maximum(num_q, 1)
    i_q = q_0 + pixel % tl.maximum(num_q, 1)
    for _ in range(first, last):
        o_h = i_p * STRIDE_H - PAD_H + r * DIL_H
        o_w = i_q * STRIDE_W - PAD_W + s * DIL_W
        b_dy = dy_desc.load([i_p, i_q, n_0, i_m * BLOCK_M]).reshape(BLOCK_K, BLOCK_M)
        b_x = x_desc.load([o_h, o_w, n_0, i_n * BLOCK_N]).reshape(BLOCK_K, BLOCK_N)
        b_dw = dot(b_dy.T, b_x, b_dw, PRECISION)
        # Carried on from step to step: divisions by sizes that are no constants would be a quarter of the loop.
        n_0 += BLOCK_K
        i_q += n_0 >= n
        n_0 = tl.where(n_0 >= n, 0, n_0)
        i_p += i_q == q_1
        i_q = tl.where(i_q == q_1, q_0, i_q)

    o_m = i_m * BLOCK_M + tl.arange(0, BLOCK_M)
    o_n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    p_dw = dw_ptr + i_split.to(tl.int64) * stride_dw_split + r * stride_dw_r + s * stride_dw_s
    o_dw = (o_m * stride_dw_k)[:, None] + (o_n * stride_dw_c)[None, :]
    tl.store(p_dw + o_dw, b_dw.to(dw_ptr.dtype.element_ty), mask=(o_m < k)[:, None] & (o_n < C)[None, :])
