"""Small pieces that several kernels share."""

import triton
import triton.language as tl

from kernels.common.device import INTERPRET

# The interpreter multiplies the bit patterns of bfloat16; their float32 values give the sums a card gives.
_UPCAST = tl.constexpr(INTERPRET)
ROUNDS_TO_INFINITY = tl.constexpr((2 - 2**-11) * 2.0**127)
"""From here on a float32 number is nearer to what follows TF32's largest than to that itself."""


@triton.jit
def relu(b):
    """max(b, 0) that keeps NaN."""
    return tl.where(b < 0, 0.0, b)


@triton.jit
def nearest_tf32(b):
    """float32 rounded to the nearest TF32 number (10 bits of fraction), ties away from zero; NaN and infinity stay."""
    bits = b.to(tl.int32, bitcast=True)
    return tl.where(b == b, ((bits + 0x1000) & -0x2000).to(tl.float32, bitcast=True), b)


@triton.jit
def _convert_tf32(b):
    """nearest_tf32 as NVIDIA's conversion: 2 or 3 operations on the card, where the portable form is compiled to 6."""
    return tl.inline_asm_elementwise("cvt.rna.tf32.f32 $0, $1;", "=r,r", [b], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def halves(b):
    """float32 b = big + small: big is b rounded to TF32, small what is left, which fits TF32 but for its last bit.

    Numbers that would be rounded up to infinity are cut instead. What is left of an infinity or a NaN is NaN.
    """
    bits = b.to(tl.int32, bitcast=True)
    bits += tl.where(tl.abs(b) < ROUNDS_TO_INFINITY, 0x1000, 0)
    b_big = (bits & -0x2000).to(tl.float32, bitcast=True)
    return b_big, b - b_big


@triton.jit
def _dot_of_halves(b_a, b_b, b_acc):
    """b_acc + b_a @ b_b of float32 numbers by three TF32 products.

    Tensor cores cut their sums where float32 rounds, an error of one sign that grows with the number of additions. So
    every step starts from zero, and is added to b_acc outside of them. Where an operand is not finite, the products
    with small are NaN, and some number takes their place: those of the big ones are infinite or NaN as the exact sum
    is, whatever is added. The number is larger than they can be where the sum is finite.
    """
    b_a_big, b_a_small = halves(b_a)
    b_b_big, b_b_small = halves(b_b)
    b_step = tl.dot(b_a_small, b_b_big, input_precision="ieee" if _UPCAST else "tf32")
    b_step = tl.dot(b_a_big, b_b_small, b_step, input_precision="ieee" if _UPCAST else "tf32")
    if _UPCAST:  # the interpreter's minimum keeps NaN, a card's does not
        b_step = tl.where(b_step == b_step, b_step, 2.0**120)
    else:
        b_step = tl.minimum(b_step, 2.0**120)
    return b_acc + tl.dot(b_a_big, b_b_big, b_step, input_precision="ieee" if _UPCAST else "tf32")


@triton.jit
def rounded_tf32(b, PORTABLE: tl.constexpr):
    """nearest_tf32 in the form that takes fewest registers; PORTABLE: without NVIDIA's instruction."""
    if PORTABLE or _UPCAST:
        return nearest_tf32(b)
    return _convert_tf32(b)


@triton.jit
def dot(b_a, b_b, b_acc, PRECISION: tl.constexpr):
    """b_acc + b_a @ b_b, summed in b_acc's dtype.

    PRECISION: "ieee"; "tf32", which rounds the operands, since tensor cores would drop the bits that TF32 lacks and
    bias sums of one sign ("tf32 portable": without NVIDIA's instruction); "tf32 rounded" for operands that are so
    already; "tf32x3", float32 by three TF32 products. The interpreter multiplies as "ieee".
    """
    if PRECISION == "tf32x3":
        return _dot_of_halves(b_a, b_b, b_acc)
    if _UPCAST:
        b_a = b_a.to(b_acc.dtype)
        b_b = b_b.to(b_acc.dtype)
        return tl.dot(b_a, b_b, b_acc, input_precision="ieee", out_dtype=b_acc.dtype)
    if PRECISION == "tf32":
        b_a = _convert_tf32(b_a)
        b_b = _convert_tf32(b_b)
    elif PRECISION == "tf32 portable":
        b_a = nearest_tf32(b_a)
        b_b = nearest_tf32(b_b)
    return tl.dot(b_a, b_b, b_acc, input_precision="ieee" if PRECISION == "ieee" else "tf32", out_dtype=b_acc.dtype)


@triton.jit
def unravel(o, d1, d2):
    """Flat index over [d0, d1, d2] -> its three coordinates."""
    o_2 = o % d2
    o_rest = o // d2
    return o_rest // d1, o_rest % d1, o_2


@triton.jit
def near(first, d1, d2, BLOCK: tl.constexpr):
    """o = first + 0 .. BLOCK - 1 over [d0, d1, d2] -> o and its coordinates (o // d2 // d1, o // d2 % d1, o % d2).

    The two integer divisions are of the scalar `first`; the lanes, less than BLOCK away, divide by a product with the
    reciprocal, which is exact for d1 and d2 below 2^21.
    """
    o_lane = tl.arange(0, BLOCK)
    row = first // d2
    o_2 = (first - row * d2).to(tl.int32) + o_lane
    o_row = ((o_2.to(tl.float32) + 0.5) * (1.0 / d2)).to(tl.int32)
    o_2 = o_2 - o_row * d2
    i_0 = row // d1
    o_1 = (row - i_0 * d1).to(tl.int32) + o_row
    o_0 = ((o_1.to(tl.float32) + 0.5) * (1.0 / d1)).to(tl.int32)
    return first + o_lane, i_0 + o_0, o_1 - o_0 * d1, o_2


@triton.jit
def coordinates(o, d_c, d_h, d_w, CHANNELS_LAST: tl.constexpr):
    """Memory-order index of a dense [n, c, h, w] tensor -> (n, c, h, w)."""
    if CHANNELS_LAST:
        o_pixel = o // d_c
        o_c = o % d_c
        o_i, o_h, o_w = unravel(o_pixel, d_h, d_w)
    else:
        o_plane, o_h, o_w = unravel(o, d_h, d_w)
        o_i = o_plane // d_c
        o_c = o_plane % d_c
    return o_i, o_c, o_h, o_w


@triton.jit
def inside(o, size, TAPS: tl.constexpr, DIL: tl.constexpr, SIDE: tl.constexpr = 1):
    """The range [low, high) of the taps t for which one of SIDE positions from o + t * DIL on lies in [0, size); o is a
    scalar."""
    low = (tl.maximum(1 - SIDE - o, 0) + DIL - 1) // DIL
    high = tl.minimum((tl.maximum(size - o, 0) + DIL - 1) // DIL, TAPS)
    return low, tl.maximum(high, low)


@triton.jit
def taps_inside(o_h, o_w, m, h, w, R: tl.constexpr, S: tl.constexpr, DIL_H: tl.constexpr, DIL_W: tl.constexpr):
    """Bit t of a pixel is set where tap t of its window lies inside the image; 0 for windows of more than 32 taps."""
    b_taps = m.to(tl.int32) * 0
    if R * S <= 32:
        for t in tl.static_range(R * S):
            m_row = (o_h + t // S * DIL_H >= 0) & (o_h + t // S * DIL_H < h)
            m_col = (o_w + t % S * DIL_W >= 0) & (o_w + t % S * DIL_W < w)
            b_taps = b_taps | ((m & m_row & m_col).to(tl.int32) << t)
    return b_taps


@triton.jit
def tap_inside(b_taps, o_h, o_w, m, h, w, tap, r, s, TAPS: tl.constexpr, DIL_H: tl.constexpr, DIL_W: tl.constexpr):
    """Whether tap (r, s), number `tap`, of each pixel's window is inside the image: one bit test for small windows."""
    if TAPS <= 32:
        return ((b_taps >> tap) & 1) != 0
    m_row = (o_h + r * DIL_H >= 0) & (o_h + r * DIL_H < h)
    return m & m_row & (o_w + s * DIL_W >= 0) & (o_w + s * DIL_W < w)


@triton.jit
def first_tap(o, STRIDE: tl.constexpr, DILATION: tl.constexpr, STEP: tl.constexpr, NONE: tl.constexpr):
    """The smallest tap t with (o - t * DILATION) divisible by STRIDE, or NONE.

    Taps that hit a strided window repeat with period STEP = STRIDE / gcd(STRIDE, DILATION).
    """
    tap = o * 0 + NONE
    for i in tl.static_range(STEP):
        tap = tl.where((o - (STEP - 1 - i) * DILATION) % STRIDE == 0, STEP - 1 - i, tap)
    return tap


@triton.jit
def through_registers(b):
    """b itself, which Hopper's tensor cores then take from registers: the compiler leaves an operand as it was loaded
    in shared memory, and looks no further than an instruction that it does not know."""
    if _UPCAST:
        return b
    return tl.inline_asm_elementwise(
        "mov.b32 $0, $1;", "=r,r", [b], dtype=b.dtype, is_pure=True, pack=32 // b.dtype.primitive_bitwidth
    )


@triton.jit
def waited(b_acc):
    """A sum of `dot`, for which Hopper's tensor cores are waited. Where products with an operand in registers went on
    beyond the end of a loop's step, ptxas would wait for every single instruction of them: 48 times a step, not 12."""
    if _UPCAST:
        return b_acc
    return tl.inline_asm_elementwise("mov.b32 $0, $1;", "=r,r", [b_acc], dtype=b_acc.dtype, is_pure=True, pack=1)


@triton.jit
def masked_registers(b, m):
    """through_registers with zeros where not `m`."""
    if _UPCAST:
        return tl.where(m, b, 0.0)
    b_m = tl.where(m, -1, 0).to(tl.int16 if b.dtype.primitive_bitwidth == 16 else tl.int32)
    return tl.inline_asm_elementwise(
        "and.b32 $0, $1, $2;", "=r,r,r", [b, b_m], dtype=b.dtype, is_pure=True, pack=32 // b.dtype.primitive_bitwidth
    )


@triton.jit
def first_of_block(o, SIZE: tl.constexpr, DIL: tl.constexpr):
    """The first row of block o: blocks of SIZE rows that lie DIL apart, DIL of them side by side before the next."""
    if DIL == 1:
        return o * SIZE
    return o // DIL * (SIZE * DIL) + o % DIL


@triton.jit
def nothing():
    """0, which is found to be 0 at last, when machine code is made.

    Added to an offset that is promised to be a multiple of something (tl.multiple_of) and may be a sum of which all but
    one number are known to be 0: Triton drops the last addition of such a sum, and the promise with it, and copies one
    element at a time.
    """
    return tl.multiple_of(tl.minimum(tl.program_id(0), 0), 16)


@triton.jit
def rolled(steps, size):
    """As many steps of a loop, a number that LLVM does not know: it would write a loop of few steps out, whose
    addresses and tiles in flight need more registers than there are. size: any number of the launch's that is not
    negative."""
    return tl.minimum(steps, steps + size)
