"""What becomes of a kernel's sums: bias, ReLU, and of a 2x2 window's four the pool and the byte that backward needs."""

import triton
import triton.language as tl

from kernels.common.jit import relu


@triton.jit
def _taken(b, b_best):
    """Whether b replaces the maximum so far: torch keeps the first of equals and any later NaN."""
    return (b > b_best) | (b != b)


@triton.jit
def _rounded(b, b_bias, DTYPE: tl.constexpr):
    """b + bias as the unfused layers would hand it on: rounded to the output's dtype."""
    return (b + b_bias).to(DTYPE).to(b.dtype)


@triton.jit
def pooled(b_0, b_1, b_2, b_3, b_bias, AVERAGE: tl.constexpr, DTYPE: tl.constexpr):
    """The pooled value and its code (int32): see fprop_pool.py for what the code says."""
    b_0 = _rounded(b_0, b_bias, DTYPE)
    b_1 = _rounded(b_1, b_bias, DTYPE)
    b_2 = _rounded(b_2, b_bias, DTYPE)
    b_3 = _rounded(b_3, b_bias, DTYPE)
    if AVERAGE:
        b_0 = relu(b_0)
        b_1 = relu(b_1)
        b_2 = relu(b_2)
        b_3 = relu(b_3)
        b_y = (b_0 + b_1 + b_2 + b_3) * 0.25
        # A NaN passes the ReLU, so the test is "not <= 0".
        b_code = tl.where(b_0 <= 0, 0, 1) + tl.where(b_1 <= 0, 0, 2)
        b_code += tl.where(b_2 <= 0, 0, 4) + tl.where(b_3 <= 0, 0, 8)
    else:
        b_y = b_0
        b_code = tl.where(_taken(b_1, b_y), 1, 0)
        b_y = tl.where(_taken(b_1, b_y), b_1, b_y)
        b_code = tl.where(_taken(b_2, b_y), 2, b_code)
        b_y = tl.where(_taken(b_2, b_y), b_2, b_y)
        b_code = tl.where(_taken(b_3, b_y), 3, b_code)
        b_y = tl.where(_taken(b_3, b_y), b_3, b_y)
        b_code = tl.where(b_y <= 0, 4, b_code)
        b_y = relu(b_y)  # of the maximum alone, which it leaves the maximum
    return b_y, b_code


@triton.jit
def finish(
    b_0,
    b_1,
    b_2,
    b_3,
    b_bias,
    y_ptr,
    code_ptr,
    o_row,
    o_column,
    m_row,
    m_column,
    POOL: tl.constexpr,
    RELU: tl.constexpr,
    AVERAGE: tl.constexpr,
    HAS_CODE: tl.constexpr,
):
    """Stores at o_row + o_column what becomes of the sums: of b_0, or the pool of all four with its code."""
    o_y = o_row[:, None] + o_column[None, :]
    m_y = m_row[:, None] & m_column[None, :]
    if POOL:
        b_y, b_code = pooled(b_0, b_1, b_2, b_3, b_bias, AVERAGE, y_ptr.dtype.element_ty)
        if HAS_CODE:
            tl.store(code_ptr + o_y, b_code.to(tl.uint8), mask=m_y)
    else:
        b_y = b_0 + b_bias
        if RELU:
            b_y = relu(b_y)
    tl.store(y_ptr + o_y, b_y.to(y_ptr.dtype.element_ty), mask=m_y)
