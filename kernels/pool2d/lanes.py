"""What a lane works on: a chunk of V neighbouring elements of a dense map, along its rows or its channels.

Sizes are in chunks: a plane has rows of `cols` times `cc` chunks, cc being 1 in NCHW.
"""

import triton
import triton.language as tl

from kernels.common.jit import near, unravel


@triton.jit
def places(rows, cols, cc, NEAR: tl.constexpr, INDEX: tl.constexpr, BLOCK: tl.constexpr):
    """A program's chunks in memory order -> their number, and of each its image, row, column and place in the pixel.

    NEAR: rows and cols * cc are below 2^21, so that lanes divide in float32.
    """
    first = tl.program_id(0).to(INDEX) * BLOCK
    if NEAR:
        o, o_i, o_row, o_rest = near(first, rows, cols * cc, BLOCK)
        o_col = ((o_rest.to(tl.float32) + 0.5) * (1.0 / cc)).to(tl.int32)
        o_c = o_rest - o_col * cc
    else:
        o = first + tl.arange(0, BLOCK)
        o_c = o % cc
        o_i, o_row, o_col = unravel(o // cc, rows, cols)
    return o, o_i, o_row, o_col, o_c


@triton.jit
def met(b, o_tap, b_best, o_best, CODED: tl.constexpr = True):
    """The best so far after b and, if CODED, its tap: a greater value wins, and any NaN.

    Without a tap it is one instruction, half of one in float16, and of +0 and -0 the positive one wins.
    """
    if not CODED:
        return tl.maximum(b_best, b, propagate_nan=tl.PropagateNan.ALL), o_best
    m = (b > b_best) | (b != b)
    return tl.where(m, b, b_best), tl.where(m, o_tap, o_best)


@triton.jit
def added(b_sum, b, m):
    """b_sum and, where m, b: in this form two instructions, a comparison and what it allows."""
    return tl.where(m, b_sum + b, b_sum)


@triton.jit
def averaged(
    b, o_p, o_q, h, w, divisor, KH, KW, STRIDE_H, STRIDE_W, PAD_H, PAD_W, COUNT: tl.constexpr, TYPE: tl.constexpr
):
    """b over the divisor of window (o_p, o_q).

    COUNT "divisor": `divisor` for all. "padded": the window clipped to the padded image. "inside": its taps inside the
    image.
    """
    if COUNT == "divisor":
        return b * (1.0 / tl.full((), divisor, TYPE))
    o_top = o_p * STRIDE_H - PAD_H
    o_left = o_q * STRIDE_W - PAD_W
    if COUNT == "padded":
        rows = tl.minimum(o_top + KH, h + PAD_H) - o_top
        cols = tl.minimum(o_left + KW, w + PAD_W) - o_left
    else:
        rows = tl.minimum(o_top + KH, h) - tl.maximum(o_top, 0)
        cols = tl.minimum(o_left + KW, w) - tl.maximum(o_left, 0)
    # Windows that are not there have no taps either: they divide by one.
    d = tl.where((rows > 0) & (cols > 0), rows * cols, 1)
    return b / d.to(TYPE)
