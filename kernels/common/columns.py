"""What a lane's run of adjacent elements becomes: columns by themselves, and tiles of columns again.

Both only rename registers, as long as each lane holds a whole row of the tile.
"""

import triton
import triton.language as tl


@triton.jit
def columns(b, N: tl.constexpr):
    """[BLOCK, N] -> its N columns, each [BLOCK]; N is a power of two."""
    BLOCK: tl.constexpr = b.shape[0]
    if N == 1:
        b_all = (b.reshape(BLOCK),)
    else:
        b_even, b_odd = tl.split(b.reshape(BLOCK, N // 2, 2))
        b_evens = columns(b_even, N // 2)
        b_odds = columns(b_odd, N // 2)
        b_all = ()
        for i in tl.static_range(N // 2):
            b_all = b_all + (b_evens[i], b_odds[i])
    return b_all


@triton.jit
def tile(b_columns, FIRST: tl.constexpr, STEP: tl.constexpr, N: tl.constexpr):
    """The columns FIRST, FIRST + STEP, ... of a tuple of them -> [BLOCK, N]; N is a power of two."""
    BLOCK: tl.constexpr = b_columns[0].shape[0]
    if N == 1:
        b = b_columns[FIRST].reshape(BLOCK, 1)
    else:
        b_even = tile(b_columns, FIRST, 2 * STEP, N // 2)
        b_odd = tile(b_columns, FIRST + STEP, 2 * STEP, N // 2)
        b = tl.join(b_even, b_odd).reshape(BLOCK, N)
    return b
