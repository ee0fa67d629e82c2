"""A plain matrix product by TMA: what every pass of a 1x1 convolution without stride or padding is.

y[split][M, N] = a[M, K] @ b[K, N]   over the split's part of K
fprop  M = n * h * w pixels   N = k   K = c                  a = x[M, K]     b = w[N, K]
dgrad  M = n * h * w pixels   N = c   K = k                  a = dy[M, K]    b = w[K, N], for float32 [N, K]
wgrad  M = k                  N = c   K = n * h * w pixels   a = dy[K, M]    b = x[K, N]

No windows, no masks: TMA fills what lies outside a matrix with zeros and writes nothing there. Any batch size will do.
"""

import triton
import triton.language as tl

from kernels.common.jit import dot, relu
from kernels.conv2d.common.order import place, share


@triton.jit
def matmul_kernel(
    a_desc,
    b_desc,
    bias_ptr,
    y_desc,
    m,
    n,
    depth,
    splits,
    A_ROWS: tl.constexpr,
    B_ROWS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    RELU: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """A_ROWS: a_desc is [M, K], else [K, M]. B_ROWS: b_desc is [N, K], else [K, N]. y_desc is [splits, M, N]."""
    num_m = tl.cdiv(m, BLOCK_M)
    num_n = tl.cdiv(n, BLOCK_N)
    i_m, i_n, _ = place(tl.program_id(0) % (num_m * num_n), num_m, num_n, 1)
    i_split = tl.program_id(0) // (num_m * num_n)
    first, last = share(tl.cdiv(depth, BLOCK_K), i_split, splits)
    m_0 = i_m * BLOCK_M
    n_0 = i_n * BLOCK_N

    b_y = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for step in range(first, last):
        k_0 = step * BLOCK_K
        b_a = a_desc.load([m_0, k_0]) if A_ROWS else a_desc.load([k_0, m_0]).T
        b_b = b_desc.load([n_0, k_0]).T if B_ROWS else b_desc.load([k_0, n_0])
        b_y = dot(b_a, b_b, b_y, PRECISION)

    if HAS_BIAS:
        o_n = n_0 + tl.arange(0, BLOCK_N)
        b_y += tl.load(bias_ptr + o_n, mask=o_n < n, other=0.0).to(tl.float32)[None, :]
    if RELU:
        b_y = relu(b_y)
    y_desc.store([i_split, m_0, n_0], b_y.to(DTYPE).reshape(1, BLOCK_M, BLOCK_N))
