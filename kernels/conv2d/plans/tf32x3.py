"""Which sums of float32 products are worth three TF32 products on tensor cores."""

from __future__ import annotations

from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.cost import LONG_SUM
from kernels.conv2d.plans.few import is_direct, is_wide, suits_groups, suits_rows


def suits_tf32x3(which: str, g: Conv2dGeometry) -> bool:
    """Whether the sum is long enough to be at least as accurate so, in a form whose tiles fill tensor cores.

    A last block of channels that is not whole would need masks beside the halves: more registers than there are.
    """
    if is_direct(which, g) or suits_groups(which, g, 4) or not (is_wide(which, g, 4) or suits_rows(which, g)):
        return False
    if which == "wgrad":
        return g.n * g.p * g.q >= LONG_SUM
    summed, taps = g.c_group, g.r * g.s
    if which == "dgrad":  # those of the phase that the fewest reach
        summed, taps = g.k_group, max(1, g.r // g.stride[0]) * max(1, g.s // g.stride[1])
    return (summed % 32 == 0 or suits_rows(which, g)) and summed * taps >= LONG_SUM
