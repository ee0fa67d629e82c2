"""What the programs of a tiled product do, read off its launch: the tiles that a step fetches, and how many steps.

A step multiplies tiles of BLOCK_M x BLOCK_K and BLOCK_K x BLOCK_N; most kernels fetch one of each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kernels.common.launch import Launch, tensors_of

STRIP_TAPS, STRIP_ROWS = 3, 4
"""Rows of the windows that strips are for, and rows of a strip (conv2d/plans/strips.py)."""


@dataclass(frozen=True)
class Step:
    """Tiles of M and of N that a step fetches, and the products that they make."""

    left: int = 1
    right: int = 1
    joint: int = 1


def step_of(launch: Launch) -> Step:
    """The step of a launch's kernel: for one result, for the four under a window of a pool, or for a strip's rows."""
    name, a = launch.kernel.__name__, launch.arguments
    if name.startswith("strips"):
        rows = a.get("ROWS", STRIP_ROWS)
        right = rows if "dw_ptr" in a else STRIP_TAPS
        return Step(rows + STRIP_TAPS - 1, right, rows * STRIP_TAPS)
    # Blocks of pixels have the four side by side in N.
    pooled = "pool" in name or (name.startswith("rows") and a.get("POOL"))
    return Step(left=4, joint=4) if pooled else Step()


def work_of_step(launch: Launch) -> tuple[float, float]:
    """FLOPs and bytes of one step."""
    m, n, k = (launch.arguments[f"BLOCK_{axis}"] for axis in "MNK")
    step = step_of(launch)
    size = float(next(tensors_of(launch.arguments)).element_size())
    return 2.0 * step.joint * m * n * k, (step.left * m + step.right * n) * k * size


def steps_of(launch: Launch) -> float:
    """Steps of a program, on average over the grid."""
    a = launch.arguments
    block = int(a["BLOCK_K"])
    parts = int(a.get("splits", 1))
    if "steps_per_split" in a:
        return float(a["steps_per_split"])
    if "pixels_per_split" in a:
        return float(math.ceil(a["pixels_per_split"] / block))
    if "depth" in a:
        return math.ceil(int(a["depth"]) / block) / parts
    if "TOTAL" in a:
        return float(math.ceil(a["TOTAL"] / block))
    if "dw_ptr" in a:
        return _pixels(a, block) / parts
    if "PACK" in a:  # all channels at once
        return _taps(a)
    depth = int(a["K"] if _is_back(a) else a["C"])
    if a.get("FLAT"):  # the taps are joined
        return math.ceil(_taps(a) * depth / block) / parts
    return _taps(a) * math.ceil(depth / block) / parts


def inside(a: Mapping[str, Any]) -> float:
    """The share of all taps that lie inside the image, where a kernel leaves the others out; else 1."""
    return _met(a, "H") * _met(a, "W") / int(a["R"] * a["S"]) if _leaves_out(a) else 1.0


def _is_back(a: Mapping[str, Any]) -> bool:
    """Whether a product is an input gradient."""
    return "dx_ptr" in a or "dx_desc" in a or bool(a.get("TRANSPOSED"))


def _leaves_out(a: Mapping[str, Any]) -> bool:
    """Whether programs skip taps outside the image: those that know its size and fetch by TMA."""
    return ("x_desc" in a or "dy_desc" in a) and "h" in a


def _taps(a: Mapping[str, Any]) -> float:
    """Taps of a program, or columns of them in strips."""
    if "R" not in a:
        return float(a["S"])
    if _leaves_out(a):
        back, sides = _is_back(a), (a.get("BOX_ROWS", 1), a.get("BOX_COLUMNS", 1))
        return _met(a, "H", sides[0], back) * _met(a, "W", sides[1], back)
    return float(a["R"] * a["S"]) / (a["STRIDE_H"] * a["STRIDE_W"] if _is_back(a) else 1)


def _pixels(a: Mapping[str, Any], block: int) -> float:
    """Steps of a whole weight gradient by TMA: strips, or pixels that meet a tap, each of so many images."""
    if "COLUMNS" in a:
        return float(a["p"] // a["ROWS"] * math.ceil(a["q"] / a["COLUMNS"]) * math.ceil(a["n"] * a["COLUMNS"] / block))
    return inside(a) * float(a["p"] * a["q"] * math.ceil(a["n"] / block))


def _met(a: Mapping[str, Any], axis: str, side: int = 1, back: bool = False) -> float:
    """Taps along an axis that `side` adjacent results, or of the input gradient (back), have inside the other map, on
    average."""
    big, small, taps = (int(a[name]) for name in ("hpR" if axis == "H" else "wqS"))
    step, pad, dil = (int(a[f"{name}_{axis}"]) for name in ("STRIDE", "PAD", "DIL"))
    results = range(0, big if back else small, side)
    if back:
        met = sum((o + pad - t * dil) % step == 0 and -side < (o + pad - t * dil) // step < small
                  for o in results for t in range(taps))  # fmt: skip
    else:
        met = sum(-side < o * step - pad + t * dil < big for o in results for t in range(taps))
    return met / max(1, len(results))
