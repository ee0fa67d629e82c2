"""Convolution with a 3-row window and stride 1 from strips of the map, by TMA; the same for its input gradient.

y[row][M, N] = sum over r, s of x[row + r, s][M, K] @ w[r, s][N, K]^T     one program: ROWS rows of output
M = q   adjacent output pixels of a row, of some images where a row has fewer than BLOCK_M
N = k   output channels
K = c   input channels, BLOCK_K at a time, for each column s of the window

A step reads ROWS + 2 tiles of x and the three taps of a column of the window, which make 3 * ROWS products. What lies
outside of the image TMA fills with zeros or leaves out. x goes through registers, see wgrad.py: so its tile may also be
a box of pixels of several images, and maps of any width fill it.
"""

import triton
import triton.language as tl

from kernels.common.jit import dot, relu, through_registers, waited
from kernels.conv2d.common.epilogue import pooled
from kernels.conv2d.plans import strips

ROWS = tl.constexpr(strips.ROWS)
TAPS = tl.constexpr(strips.TAPS)


@triton.jit
def _place(num_p, num_q, num_n):
    """The number of a program's images, strip, run of pixels and block of N, the last fastest: they share x."""
    i = tl.program_id(0)
    i_run = i // num_n
    i_strip = i_run // num_q
    i_image = i_strip // num_p
    return i_image, i_strip - i_image * num_p, i_run - i_strip * num_q, i - i_run * num_n


@triton.jit
def _weights(w_desc, r, s, o_n, o_c, n, C: tl.constexpr, S: tl.constexpr, BACK: tl.constexpr, SUMMED: tl.constexpr):
    """The tile [BLOCK_K, BLOCK_N] of a tap. BACK: of the window turned by 180 degrees. SUMMED: w_desc is
    [n, r * s * c], or else [c, r * s * n]."""
    tap = r * S + s
    if BACK:
        tap = TAPS * S - 1 - tap
    if SUMMED:
        b_w = w_desc.load([o_n, tap * C + o_c]).T
    else:
        b_w = w_desc.load([o_c, tap * n + o_n])
    return b_w


@triton.jit
def _sums(
    x_desc,
    w_desc,
    i_n,
    o_h,
    o_w,
    o_n,
    n,
    C: tl.constexpr,
    S: tl.constexpr,
    DIL_W: tl.constexpr,
    BACK: tl.constexpr,
    SUMMED: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """The sums of four rows of output whose windows begin at row o_h and column o_w; n: output channels."""
    NUM_C: tl.constexpr = C // BLOCK_K
    b_0 = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    b_1 = b_0
    b_2 = b_0
    b_3 = b_0
    for step in range(S * NUM_C):
        s = step // NUM_C
        o_c = (step - s * NUM_C) * BLOCK_K
        o_col = o_w + s * DIL_W
        b_w0 = _weights(w_desc, 0, s, o_n, o_c, n, C, S, BACK, SUMMED)
        b_w1 = _weights(w_desc, 1, s, o_n, o_c, n, C, S, BACK, SUMMED)
        b_w2 = _weights(w_desc, 2, s, o_n, o_c, n, C, S, BACK, SUMMED)
        for row in tl.static_range(ROWS + TAPS - 1):
            b_x = through_registers(x_desc.load([i_n, o_h + row, o_col, o_c]).reshape(BLOCK_M, BLOCK_K))
            if row < 3:
                b_0 = dot(b_x, b_w0 if row == 0 else b_w1 if row == 1 else b_w2, b_0, PRECISION)
            if row > 0 and row < 4:
                b_1 = dot(b_x, b_w0 if row == 1 else b_w1 if row == 2 else b_w2, b_1, PRECISION)
            if row > 1 and row < 5:
                b_2 = dot(b_x, b_w0 if row == 2 else b_w1 if row == 3 else b_w2, b_2, PRECISION)
            if row > 2:
                b_3 = dot(b_x, b_w0 if row == 3 else b_w1 if row == 4 else b_w2, b_3, PRECISION)
        b_0 = waited(b_0)
        b_1 = waited(b_1)
        b_2 = waited(b_2)
        b_3 = waited(b_3)
    return b_0, b_1, b_2, b_3


@triton.jit
def _bias(bias_ptr, o_n, n, HAS_BIAS: tl.constexpr, BLOCK_N: tl.constexpr):
    """[1, BLOCK_N], zeros without a bias."""
    b_bias = tl.zeros((1, BLOCK_N), tl.float32)
    if HAS_BIAS:
        o_n += tl.arange(0, BLOCK_N)
        b_bias = tl.load(bias_ptr + o_n, mask=o_n < n, other=0.0).to(tl.float32)[None, :]
    return b_bias


@triton.jit
def _store(y_desc, b_y, b_bias, i_n, o_p, o_q, o_n, RELU: tl.constexpr, DTYPE: tl.constexpr, COLUMNS: tl.constexpr):
    b_y += b_bias
    if RELU:
        b_y = relu(b_y)
    y_desc.store([i_n, o_p, o_q, o_n], b_y.to(DTYPE).reshape(b_y.shape[0] // COLUMNS, 1, COLUMNS, b_y.shape[1]))


@triton.jit
def strips_fprop_kernel(
    x_desc,
    w_desc,
    bias_ptr,
    y_desc,
    k,
    p,
    q,
    C: tl.constexpr,
    S: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    DIL_W: tl.constexpr,
    COLUMNS: tl.constexpr,
    BACK: tl.constexpr,
    SUMMED: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    RELU: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """COLUMNS: adjacent pixels of each image."""
    i_image, i_strip, i_run, i_k = _place(tl.cdiv(p, ROWS), tl.cdiv(q, COLUMNS), tl.cdiv(k, BLOCK_N))
    i_n = i_image * (BLOCK_M // COLUMNS)
    o_p = i_strip * ROWS
    o_q = i_run * COLUMNS
    o_k = i_k * BLOCK_N
    b_0, b_1, b_2, b_3 = _sums(
        x_desc, w_desc, i_n, o_p - PAD_H, o_q - PAD_W, o_k, k, C, S, DIL_W, BACK, SUMMED, PRECISION, BLOCK_M, BLOCK_N,
        BLOCK_K,
    )  # fmt: skip
    b_bias = _bias(bias_ptr, o_k, k, HAS_BIAS, BLOCK_N)
    _store(y_desc, b_0, b_bias, i_n, o_p, o_q, o_k, RELU, DTYPE, COLUMNS)
    _store(y_desc, b_1, b_bias, i_n, o_p + 1, o_q, o_k, RELU, DTYPE, COLUMNS)
    _store(y_desc, b_2, b_bias, i_n, o_p + 2, o_q, o_k, RELU, DTYPE, COLUMNS)
    _store(y_desc, b_3, b_bias, i_n, o_p + 3, o_q, o_k, RELU, DTYPE, COLUMNS)


@triton.jit
def _beside(b, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Even and odd pixels of a run: [BLOCK_M // 2, BLOCK_N] each."""
    return tl.split(b.reshape(BLOCK_M // 2, 2, BLOCK_N).permute(0, 2, 1))


@triton.jit
def _pool(
    y_desc,
    code_ptr,
    b_upper,
    b_lower,
    b_bias,
    n,
    k,
    p,
    q,
    i_n,
    o_p,
    o_q,
    o_k,
    COLUMNS: tl.constexpr,
    AVERAGE: tl.constexpr,
    HAS_CODE: tl.constexpr,
    DTYPE: tl.constexpr,
    INDEX: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Row o_p of the pooled map [n, k, p, q] from two rows."""
    b_0, b_1 = _beside(b_upper, BLOCK_M, BLOCK_N)
    b_2, b_3 = _beside(b_lower, BLOCK_M, BLOCK_N)
    b_y, b_code = pooled(b_0, b_1, b_2, b_3, b_bias, AVERAGE, DTYPE)
    EACH: tl.constexpr = COLUMNS // 2
    y_desc.store([i_n, o_p, o_q, o_k], b_y.to(DTYPE).reshape(BLOCK_M // COLUMNS, 1, EACH, BLOCK_N))
    if HAS_CODE:
        zero = tl.full((), 0, INDEX)
        o_m = tl.arange(0, BLOCK_M // 2)
        o_i = zero + i_n + o_m // EACH
        o_col = o_q + o_m % EACH
        o_n = o_k + tl.arange(0, BLOCK_N)
        m_m = (o_i < n) & (o_col < q) & (o_p < p)
        o_code = (((o_i * p + o_p) * q + o_col) * k)[:, None] + o_n[None, :]
        tl.store(code_ptr + o_code, b_code.to(tl.uint8), mask=m_m[:, None] & (o_n < k)[None, :])


@triton.jit
def strips_fprop_pool_kernel(
    x_desc,
    w_desc,
    bias_ptr,
    y_desc,
    code_ptr,
    n,
    k,
    p,
    q,
    C: tl.constexpr,
    S: tl.constexpr,
    PAD_H: tl.constexpr,
    PAD_W: tl.constexpr,
    DIL_W: tl.constexpr,
    COLUMNS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    AVERAGE: tl.constexpr,
    HAS_CODE: tl.constexpr,
    DTYPE: tl.constexpr,
    INDEX: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Four rows become two of the pooled map [n, k, p, q]; COLUMNS: adjacent pixels of each image before the pool."""
    i_image, i_strip, i_run, i_k = _place(tl.cdiv(2 * p, ROWS), tl.cdiv(2 * q, COLUMNS), tl.cdiv(k, BLOCK_N))
    i_n = i_image * (BLOCK_M // COLUMNS)
    o_p = i_strip * ROWS
    o_q = i_run * COLUMNS
    o_k = i_k * BLOCK_N
    b_0, b_1, b_2, b_3 = _sums(
        x_desc, w_desc, i_n, o_p - PAD_H, o_q - PAD_W, o_k, k, C, S, DIL_W, False, True, PRECISION, BLOCK_M, BLOCK_N,
        BLOCK_K,
    )  # fmt: skip
    b_bias = _bias(bias_ptr, o_k, k, HAS_BIAS, BLOCK_N)
    o_p = o_p // 2
    o_q = o_q // 2
    _pool(
        y_desc, code_ptr, b_0, b_1, b_bias, n, k, p, q, i_n, o_p, o_q, o_k, COLUMNS, AVERAGE, HAS_CODE, DTYPE, INDEX,
        BLOCK_M, BLOCK_N,
    )  # fmt: skip
    _pool(
        y_desc, code_ptr, b_2, b_3, b_bias, n, k, p, q, i_n, o_p + 1, o_q, o_k, COLUMNS, AVERAGE, HAS_CODE, DTYPE,
        INDEX, BLOCK_M, BLOCK_N,
    )  # fmt: skip
