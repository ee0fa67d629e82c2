"""The arithmetic that the forward and backward kernels share: products, activations, linear layers."""

import triton
import triton.language as tl

from kernels.common.jit import dot, rounded_tf32


@triton.jit
def divide(o, SIZE: tl.constexpr):
    """(o // SIZE, o % SIZE) of indices that are not negative, as which the division takes half the instructions."""
    o_quotient = (o.to(tl.uint32) // SIZE).to(tl.int32)
    return o_quotient, o - o_quotient * SIZE


@triton.jit
def halves(b):
    """b = big + small: big has TF32's bits, small the rest. An infinity's small half is NaN."""
    b_big = (b.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
    return b_big, b - b_big


@triton.jit
def operand(b, DTYPE: tl.constexpr, PRECISION: tl.constexpr):
    """b in DTYPE, for TF32 products rounded to the nearest of TF32's numbers, of which tensor cores would cut the rest.

    Done where an operand is written, so that no product that reads it has to.
    """
    b = b.to(DTYPE)
    if b.dtype == tl.float32 and (PRECISION == "tf32" or PRECISION == "tf32 portable"):
        b = rounded_tf32(b, PRECISION == "tf32 portable")
    return b


@triton.jit
def product(b_a, b_b, b_acc, PRECISION: tl.constexpr):
    """b_acc + b_a @ b_b. "tf32x3": three TF32 products of the halves of float32 numbers.

    Triton's own tf32x3 takes five times the instructions to split a number, since it keeps infinities. TF32's operands
    are rounded already (`operand`).
    """
    if PRECISION == "tf32x3" and b_a.dtype == tl.float32:
        b_a_big, b_a_small = halves(b_a)
        b_b_big, b_b_small = halves(b_b)
        b_acc = dot(b_a_small, b_b_big, b_acc, "tf32 rounded")
        b_acc = dot(b_a_big, b_b_small, b_acc, "tf32 rounded")
        return dot(b_a_big, b_b_big, b_acc, "tf32 rounded")
    return dot(b_a, b_b, b_acc, "ieee" if PRECISION == "ieee" else "tf32 rounded")


@triton.jit
def tanh(b):
    """Hyperbolic tangent to float32 accuracy; NaN stays NaN."""
    b_abs = tl.abs(b)
    b_exp = tl.exp(-2.0 * b_abs)
    b_far = (1.0 - b_exp) / (1.0 + b_exp)
    b_sq = b * b
    # The Taylor series below 0.25, where the quotient cancels.
    b_near = b * (1.0 + b_sq * (-1.0 / 3 + b_sq * (2.0 / 15 + b_sq * (-17.0 / 315 + b_sq * (62.0 / 2835)))))
    return tl.where(b_abs < 0.25, b_near, tl.where(b < 0, -b_far, b_far))


@triton.jit
def larger(b_0, b_1):
    """The maximum, NaN where one of them is."""
    return tl.maximum(b_0, b_1, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def activation(b, TANH: tl.constexpr):
    """tanh, or a ReLU that keeps NaN."""
    if TANH:
        return tanh(b)
    return larger(b, 0.0)


@triton.jit
def slope(b_y, TANH: tl.constexpr):
    """The activation's derivative, from its value."""
    if TANH:
        return 1.0 - b_y * b_y
    return tl.where(b_y <= 0, 0.0, 1.0)


@triton.jit
def linear(
    x_ptr,
    w_ptr,
    o_n,
    m_row,
    K: tl.constexpr,
    N: tl.constexpr,
    STRIDE_K: tl.constexpr,
    STRIDE_N: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """x [ROWS, K] @ w [K, N] for the columns o_n; x has dense rows of operands, those without m_row count as zero."""
    p_x = x_ptr + tl.arange(0, ROWS)[:, None] * K
    b_y = tl.zeros((ROWS, BLOCK_N), tl.float32)
    for k_0 in range(0, K, BLOCK_K):
        o_k = k_0 + tl.arange(0, BLOCK_K)
        m_k = o_k < K
        b_x = tl.load(p_x + o_k[None, :], mask=m_row[:, None] & m_k[None, :], other=0.0)
        o_w = o_k[:, None] * STRIDE_K + o_n[None, :] * STRIDE_N
        b_w = tl.load(w_ptr + o_w, mask=m_k[:, None] & (o_n < N)[None, :], other=0.0)
        b_y = product(b_x.to(DTYPE), operand(b_w, DTYPE, PRECISION), b_y, PRECISION)
    return b_y


@triton.jit
def linear_one(
    x_ptr,
    w_ptr,
    o_n,
    K: tl.constexpr,
    N: tl.constexpr,
    DTYPE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """x [1, K] @ w [N, K]^T for the columns o_n, without tensor cores: one row would fill a sixteenth of a tile."""
    b_y = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    for k_0 in range(0, K, BLOCK_K):
        o_k = k_0 + tl.arange(0, BLOCK_K)
        m_k = o_k < K
        b_x = tl.load(x_ptr + o_k, mask=m_k, other=0.0).to(tl.float32)
        p_w = w_ptr + (o_n[:, None] * K + o_k[None, :])
        b_w = tl.load(p_w, mask=(o_n < N)[:, None] & m_k[None, :], other=0.0)
        b_y += operand(b_w, DTYPE, PRECISION).to(tl.float32) * b_x[None, :]
    return tl.sum(b_y, axis=1)[None, :]
