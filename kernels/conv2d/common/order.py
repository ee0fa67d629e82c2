"""Which tile a program computes.

Programs start in the order of their numbers. Neighbours run at the same time, so they should share what they read, and
the last to start should be short, so that none runs on alone. What each order costs in memory traffic is in the README.
"""

import triton
import triton.language as tl

GROUP = tl.constexpr(16)
"""Tiles of M that share one walk through N and the layers."""


@triton.jit
def place(i, num_m, num_n, LAYERS: tl.constexpr):
    """Program i of num_m * num_n * LAYERS -> (i_m, i_n, i_layer): bands of GROUP tiles of M, M fastest within a band.

    A layer reads the same rows of M as the others of its band (a phase of dgrad). Number the layer with most work 0.
    """
    band = GROUP * num_n * LAYERS
    i_band = i // band
    height = tl.minimum(num_m - i_band * GROUP, GROUP)
    j = i - i_band * band
    i_m = i_band * GROUP + j % height
    j = j // height
    return i_m, j % num_n, j // num_n


@triton.jit
def share(total, i_split, splits):
    """The steps [first, last) of part i_split: as even as whole steps allow."""
    return total * i_split // splits, total * (i_split + 1) // splits


@triton.jit
def phase_of(i, TAPS: tl.constexpr, STRIDE: tl.constexpr, PAD: tl.constexpr, DIL: tl.constexpr, STEP: tl.constexpr):
    """The i-th phase of an axis, those that more taps reach first -> (phase, its first tap, or TAPS where none does).

    Row h of phase h mod STRIDE is reached by the taps t with t * DIL = h + PAD (mod STRIDE): t = first, first + STEP...
    """
    first = i % STEP
    beyond = i // STEP  # not 0 only where stride and dilation have a common divisor: no tap comes here
    phase = (first * DIL + beyond + PAD * (STRIDE - 1)) % STRIDE
    return phase, tl.where(beyond == 0, first, TAPS)
