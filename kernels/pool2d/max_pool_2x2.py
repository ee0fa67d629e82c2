"""2x2 max pooling with stride 2 of dense NCHW maps of even size, 16 bytes at a time.

A program takes 2 * BLOCK neighbouring elements of the even rows and those below them: pairs split into left and right
give BLOCK outputs. Code and order of taps are those of max_pool.py.
"""

import triton
import triton.language as tl


@triton.jit
def _top_left(o, W: tl.constexpr, INDEX: tl.constexpr):
    """Flat index over the even rows -> offset in the map: row r of them is row 2 * r of the map.

    W is a constant so that the compiler sees how many neighbours a row guarantees (Triton itself notes only 16 or 1).
    """
    return (o // W).to(INDEX) * 2 * W + o % W


@triton.jit
def _better(b, b_best):
    return (b > b_best) | (b != b)


@triton.jit
def max_pool_2x2_kernel(
    x_ptr,
    y_ptr,
    code_ptr,
    numel,
    W: tl.constexpr,
    WANT_CODE: tl.constexpr,
    INDEX: tl.constexpr,
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0).to(INDEX)
    o_x = i * (2 * BLOCK) + tl.arange(0, 2 * BLOCK)
    m_x = o_x < 2 * numel
    p_x = x_ptr + _top_left(o_x, W, INDEX)
    b_top = tl.load(p_x, mask=m_x, other=0.0)
    b_bottom = tl.load(p_x + W, mask=m_x, other=0.0)
    if x_ptr.dtype.element_ty == tl.bfloat16:  # the interpreter compares the bit patterns of bfloat16
        b_top = b_top.to(tl.float32)
        b_bottom = b_bottom.to(tl.float32)
    b_0, b_1 = tl.split(b_top.reshape(BLOCK, 2))
    b_2, b_3 = tl.split(b_bottom.reshape(BLOCK, 2))
    b_y = b_0
    b_code = tl.where(_better(b_1, b_y), 1, 0)
    b_y = tl.where(_better(b_1, b_y), b_1, b_y)
    b_code = tl.where(_better(b_2, b_y), 2, b_code)
    b_y = tl.where(_better(b_2, b_y), b_2, b_y)
    b_code = tl.where(_better(b_3, b_y), 3, b_code)
    b_y = tl.where(_better(b_3, b_y), b_3, b_y)
    o = i * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + o, b_y.to(y_ptr.dtype.element_ty), mask=o < numel)
    if WANT_CODE:
        tl.store(code_ptr + o, b_code.to(tl.uint8), mask=o < numel)


@triton.jit
def max_pool_2x2_backward_kernel(
    dy_ptr, code_ptr, dx_ptr, numel, W: tl.constexpr, INDEX: tl.constexpr, BLOCK: tl.constexpr
):
    i = tl.program_id(0).to(INDEX)
    o = i * BLOCK + tl.arange(0, BLOCK)
    b_dy = tl.load(dy_ptr + o, mask=o < numel, other=0.0)
    b_code = tl.load(code_ptr + o, mask=o < numel, other=4).to(tl.int32)
    zero = tl.zeros((BLOCK,), b_dy.dtype)
    b_top = tl.join(tl.where(b_code == 0, b_dy, zero), tl.where(b_code == 1, b_dy, zero)).reshape(2 * BLOCK)
    b_bottom = tl.join(tl.where(b_code == 2, b_dy, zero), tl.where(b_code == 3, b_dy, zero)).reshape(2 * BLOCK)
    o_x = i * (2 * BLOCK) + tl.arange(0, 2 * BLOCK)
    p_dx = dx_ptr + _top_left(o_x, W, INDEX)
    tl.store(p_dx, b_top, mask=o_x < 2 * numel)
    tl.store(p_dx + W, b_bottom, mask=o_x < 2 * numel)
