"""Arguments that the passes have in common: strides, window, arithmetic, epilogue, and the launch of a tile."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from kernels.common.arithmetic import accumulator, index
from kernels.common.device import Card, card_of
from kernels.common.launch import launch
from kernels.common.precision import input_precision, tf32_allowed, tf32x3_wanted
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.tf32x3 import suits_tf32x3
from kernels.conv2d.plans.tiles import Tile

DIRECT_BLOCK = 256


def launch_gemm(kernel: Any, grid: int, tile: Tile, **arguments: Any) -> None:
    """Launch with the block sizes, warps and stages of a tile; offsets of 64 bits need the registers of eight warps."""
    launch(
        kernel,
        grid,
        num_warps=max(8, tile.num_warps) if arguments.get("INDEX") is tl.int64 else tile.num_warps,
        num_stages=tile.num_stages,
        **arguments,
        BLOCK_M=tile.block_m,
        BLOCK_N=tile.block_n,
        BLOCK_K=tile.block_k,
    )


def tiles(m: int, n: int, tile: Tile) -> int:
    """How many tiles cover m x n."""
    return math.ceil(m / tile.block_m) * math.ceil(n / tile.block_n)


def per_split(items: int, splits: int, block: int) -> int:
    """Items of a sum in each of its parts, a multiple of the block."""
    return math.ceil(items / splits / block) * block


def strides(name: str, t: Tensor, axes: str) -> dict[str, int]:
    """The keyword arguments stride_<name>_<axis>; 0 along an axis of one element, so that equal problems look equal."""
    steps = (stride if size > 1 else 0 for size, stride in zip(t.shape, t.stride(), strict=True))
    return {f"stride_{name}_{axis}": step for axis, step in zip(axes, steps, strict=True)}


def chunk(*tensors: Tensor) -> int:
    """The largest power of two up to 16 that the tensors' second axis, which is adjacent, and every other step are
    multiples of: Triton sees by itself only whether a step is a multiple of 16. Kernels also promise it of masks."""
    steps = [t.stride(axis) for t in tensors for axis in range(t.dim()) if axis != 1 and t.shape[axis] > 1]
    return math.gcd(16, *steps, *(t.shape[1] for t in tensors))


def window(g: Conv2dGeometry) -> dict[str, int]:
    """The constexprs that describe the window; only the padding above and to the left moves it."""
    return {
        "R": g.r,
        "S": g.s,
        "STRIDE_H": g.stride[0],
        "STRIDE_W": g.stride[1],
        "PAD_H": g.padding[0],
        "PAD_W": g.padding[2],
        "DIL_H": g.dilation[0],
        "DIL_W": g.dilation[1],
    }


def undilated_window(g: Conv2dGeometry) -> dict[str, int]:
    """The same of a kernel that knows no dilation."""
    return {name: value for name, value in window(g).items() if not name.startswith("DIL")}


def phase_steps(g: Conv2dGeometry) -> dict[str, int]:
    """STEP_H and STEP_W: from a tap to the next that reaches the same phase of the input gradient."""
    steps = (stride // math.gcd(stride, dil) for stride, dil in zip(g.stride, g.dilation, strict=True))
    return dict(zip(("STEP_H", "STEP_W"), steps, strict=True))


@dataclass(frozen=True)
class Epilogue:
    """What becomes of the sums: bias and ReLU, then a 2x2 pool by its maximum or average, whose code [n, k, p, q] says
    which of the four went on (None: not wanted)."""

    bias: Tensor | None = None
    relu: bool = False
    pool: bool = False
    average: bool = False
    code: Tensor | None = None

    def pointers(self, y: Tensor) -> dict[str, Any]:
        """The result and what belongs to it; y in place of what there is none of."""
        return {
            "bias_ptr": y if self.bias is None else self.bias,
            "y_ptr": y,
            "code_ptr": y if self.code is None else self.code,
        }

    @property
    def flags(self) -> dict[str, bool]:
        """What the kernel must know of them, but whether it pools."""
        return {
            "HAS_BIAS": self.bias is not None,
            "RELU": self.relu,
            "AVERAGE": self.average,
            "HAS_CODE": self.code is not None,
        }


def numerics(tf32x3: bool, *tensors: Tensor) -> dict[str, Any]:
    """INDEX, PRECISION and ACC of a gemm over these tensors, the first of which gives the dtype; tf32x3: its plan's."""
    first = tensors[0]
    precision = "tf32x3" if tf32x3 else input_precision(first.dtype)
    return {"INDEX": index(*tensors), "PRECISION": precision, "ACC": accumulator(first)}


def planning_card(t: Tensor, which: str, g: Conv2dGeometry) -> Card:
    """The card of `t`, as a plan of pass `which` sees it: float32 products that are not TF32 are no work for its tensor
    cores, nor for TMA, but where three TF32 products may take their place."""
    card = card_of(t.device)
    if t.dtype != torch.float32 or tf32_allowed():
        return card
    x3 = card.fast_tf32 and tf32x3_wanted() and suits_tf32x3(which, g)
    return replace(card, tma=card.tma and x3, tf32x3=x3, fma=not x3)
