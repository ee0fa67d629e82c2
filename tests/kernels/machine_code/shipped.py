"""Compiles plans that a call may ship with and prints a line for each: target, pass, tile, bytes on the stack.

Run as a script without TRITON_INTERPRET. The problems are those whose plans once spilled on these cards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

import kernels
from bench.machine_code.compile import CARDS, compile_launch
from bench.machine_code.read import read
from kernels.common.device import assume_card
from kernels.common.launch import record
from kernels.common.precision import set_float32_products
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.choose import force_plan
from kernels.conv2d.plans.plan import Plan, shipped

RGB, GRAY, TWENTY = (4, 3, 56, 56, 64, 3), (4, 1, 28, 28, 64, 5), (4, 20, 14, 14, 24, 3)
WIDE, SIXTEEN, FEW = (8, 64, 28, 28, 128, 3), (8, 16, 28, 28, 32, 7), (4, 6, 14, 14, 16, 5)
"""Sizes n, c, h, w of the input, filters and taps a side."""
CASES = (
    ("sm_90", "wgrad", GRAY, torch.float16, False, "rows", 64 * 128),
    ("sm_100", "wgrad", RGB, torch.float16, False, "rows", 64 * 64),
    ("sm_120", "wgrad", GRAY, torch.float32, False, "rows", 32 * 64),
    ("sm_86", "fprop_pool", RGB, torch.float16, True, "rows", 64 * 16),
    ("sm_80", "fprop_pool", FEW, torch.float16, False, "rows", 64 * 64),
    ("sm_80", "dgrad", TWENTY, torch.float16, True, "gemm", 32 * 32),
    ("sm_90", "dgrad", TWENTY, torch.float64, False, "gemm", 32 * 32),
)
THREE = (
    ("sm_80", "dgrad", WIDE, torch.float32, True, "gemm", 64 * 64),
    ("sm_80", "fprop_pool", SIXTEEN, torch.float32, True, "rows", 64 * 16),
    ("sm_80", "wgrad", GRAY, torch.float32, True, "rows", 64 * 64),
    ("sm_100", "fprop", WIDE, torch.float32, True, "gemm", 64 * 64),
)
"""Target, pass, sizes, dtype, whether channels lie last, algorithm, and results of the tiles that are compiled; THREE:
by three TF32 products."""


def _plans(which: str, sizes: tuple[int, ...], itemsize: int, target: str, three: bool) -> Iterator[Plan]:
    n, c, h, w, k, taps = sizes
    g = Conv2dGeometry(n, c, h, w, k, taps, taps, (1, 1), (0,) * 4, (1, 1), 1)
    return iter(shipped(which, g, itemsize, replace(CARDS[target], tf32x3=three)))


def main() -> None:
    """Print the rows."""
    for case in CASES:
        _print(False, *case)
    torch.backends.cudnn.allow_tf32 = False
    with set_float32_products("tf32x3"):
        for case in THREE:
            _print(True, *case)


def _print(
    three: bool,
    target: str,
    which: str,
    sizes: tuple[int, ...],
    dtype: torch.dtype,
    last: bool,
    algorithm: str,
    results: int,
) -> None:
    form = torch.channels_last if last else torch.contiguous_format
    n, c, h, w, k, taps = sizes
    function = kernels.conv2d_relu_pool2d if which == "fprop_pool" else kernels.conv2d_relu
    for plan in _plans(which, sizes, dtype.itemsize, target, three):
        tile = plan.tile
        if plan.algorithm != algorithm or tile is None or tile.block_m * tile.block_n != results:
            continue
        x = torch.empty(n, c, h, w, dtype=dtype, memory_format=form).requires_grad_()
        f = torch.empty(k, c, taps, taps, dtype=dtype, memory_format=form).requires_grad_()
        with kernels.backend("triton"), assume_card(CARDS[target]), record() as launches, force_plan(which, plan):
            y = function(x, f)
            y.backward(torch.empty_like(y))
        name = {"fprop_pool": "fprop"}.get(which, which) if algorithm == "rows" else which
        prefix = "rows_" if algorithm == "rows" else ""
        found = [launch for launch in launches if launch.kernel.__name__ == f"{prefix}{name}_kernel"]
        for launch in found[:1]:
            assert (launch.arguments["PRECISION"] == "tf32x3") == three
            stack = read(compile_launch(launch, target)).stack
            print(target, which, f"{tile.block_m}x{tile.block_n}x{tile.block_k}", stack)


if __name__ == "__main__":
    main()
