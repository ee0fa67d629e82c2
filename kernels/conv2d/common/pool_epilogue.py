"""What the fused kernels do with the four sums of a 2x2 window: bias, ReLU, pool, and the byte that backward needs."""

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
