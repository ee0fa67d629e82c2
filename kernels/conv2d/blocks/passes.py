"""Launching convolutions over few channels on blocks of pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.common.arithmetic import accumulator
from kernels.common.device import MAXNREG
from kernels.common.precision import input_precision
from kernels.conv2d.blocks.sums import add_up
from kernels.conv2d.blocks.wgrad import blocks_wgrad_kernel
from kernels.conv2d.common.arguments import launch_gemm
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.blocks import LEAST, block_of
from kernels.conv2d.plans.plan import Plan

BYTES = 16
"""What a copy moves at most."""


@dataclass(frozen=True)
class Patch:
    """The input that a block's windows reach, as runs of `run` elements read `unit` at a time: `rows` of them, in NCHW
    of each of `planes` channels. start: units from a block's first run to the first column; lead: elements of the run
    before the first window."""

    last: bool
    unit: int
    planes: int
    rows: int
    run: int
    start: int
    lead: int

    @property
    def columns(self) -> int:
        """Elements of all runs."""
        return self.planes * self.rows * self.run

    @classmethod
    def of(cls, x: Tensor, g: Conv2dGeometry, tall: int, wide: int, side: int) -> Patch:
        """The patch of the widest unit that needs no more tiles of `side` elements than narrower ones do; of 4 bytes
        at least, which is the least that is copied asynchronously, where the strides allow it."""
        last = _is_last(x)
        inner = g.c if last else 1  # elements of a column
        whole = [_wide(x), g.w * inner, wide * g.stride[1] * inner]
        rows, pad = (tall - 1) * g.stride[0] + g.r, g.padding[2] * inner
        reach = ((wide - 1) * g.stride[1] + g.s) * inner
        found = []
        unit = 1
        while unit * x.element_size() <= BYTES and all(size % unit == 0 for size in whole):
            start = -(-pad // unit)
            lead = start * unit - pad
            run = -(-(lead + reach) // unit) * unit
            found.append(cls(last, unit, 1 if last else g.c, rows, run, start, lead))
            unit *= 2
        wide_ones = [patch for patch in found if patch.unit * x.element_size() >= LEAST]
        return min(reversed(wide_ones or found), key=lambda patch: -(-patch.columns // side))


def wgrad(dy: Tensor, x: Tensor, dw: Tensor, g: Conv2dGeometry, plan: Plan) -> None:
    """dw [k, c, r, s], dense in either layout, its sums cut in `plan.splits` parts."""
    tile, (tall, wide) = plan.block, block_of(g, x.element_size())
    dy, x = _adjacent(dy), _adjacent(x)
    patch = Patch.of(x, g, tall, wide, tile.block_n)
    last_y = _is_last(dy)
    unit_y = math.gcd(_wide(dy), wide * (g.k if last_y else 1), BYTES // dy.element_size())
    m, blocks = tall * wide * g.k, g.n * g.p * g.q // (tall * wide)
    steps = math.ceil(blocks / tile.block_k)
    band = torch.empty((plan.splits, m, patch.columns), dtype=torch.float32, device=dy.device)
    launch_gemm(
        blocks_wgrad_kernel,
        plan.splits * math.ceil(m / tile.block_m) * math.ceil(patch.columns / tile.block_n),
        tile,
        maxnreg=MAXNREG,
        dy_ptr=dy,
        x_ptr=x,
        dw_ptr=band,
        blocks=blocks,
        steps_per_split=math.ceil(steps / plan.splits),
        h=g.h,
        row_units=g.w * (g.c if patch.last else 1) // patch.unit,
        **_units("dy", dy, "nkp", unit_y),
        **_units("x", x, "nch", patch.unit),
        K=g.k,
        BLOCKS_P=g.p // tall,
        BLOCKS_Q=g.q // wide,
        TALL=tall,
        WIDE=wide,
        ROWS=patch.rows,
        RUN=patch.run,
        WIDTH=patch.columns,
        START=patch.start,
        STEP_H=g.stride[0],
        STEP_W=wide * g.stride[1] * (g.c if patch.last else 1) // patch.unit,
        PAD_H=g.padding[0],
        LAST_Y=last_y,
        UNIT_Y=unit_y,
        UNIT=patch.unit,
        PRECISION=input_precision(dy.dtype),
        ACC=accumulator(dy),
    )
    _add_up(band, dw, g, patch, (tall, wide), last_y)


def _add_up(band: Tensor, dw: Tensor, g: Conv2dGeometry, patch: Patch, block: tuple[int, int], last_y: bool) -> None:
    """dw from the parts of the band."""
    tall, wide = block
    line = patch.columns
    of_t, of_u, of_k = (wide * g.k, g.k, 1) if last_y else (wide, 1, tall * wide)
    of_c, of_j = (1, g.c) if patch.last else (patch.rows * patch.run, 1)
    pixel = (of_t * line + g.stride[0] * patch.run, of_u * line + g.stride[1] * of_j)
    add_up(band, dw, tall, wide, (*pixel, of_k * line, of_c, patch.run, of_j), patch.lead)


def _adjacent(t: Tensor) -> Tensor:
    """`t` if its rows, of columns or of columns and channels, are runs of adjacent elements; else a copy that has
    them."""
    plain = t.stride(3) == 1 or t.shape[3] == 1
    return t if plain or _is_last(t) else t.contiguous()


def _is_last(t: Tensor) -> bool:
    """Whether channels, and then columns, are adjacent."""
    c = t.shape[1]
    return c > 1 and t.stride(1) == 1 and (t.stride(3) == c or t.shape[3] == 1)


def _wide(t: Tensor) -> int:
    """What divides the distances between images, between rows and, in NCHW, between channels."""
    axes = (0, 2) if _is_last(t) else (0, 1, 2)
    return math.gcd(*(t.stride(axis) for axis in axes if t.shape[axis] > 1))


def _units(name: str, t: Tensor, axes: str, unit: int) -> dict[str, int]:
    """The distances along the first axes of a tensor, in units; 0 along one of a single element."""
    steps = zip(axes, t.shape, t.stride(), strict=False)
    return {f"stride_{name}_{axis}": stride // unit if size > 1 else 0 for axis, size, stride in steps}
