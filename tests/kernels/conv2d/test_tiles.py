"""Every tile that can ship, in every dtype, on problems that do not fit it: Triton has miscompiled single tiles."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kernels.common.launch import record
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.choose import force_plan, plan
from kernels.conv2d.plans.plan import PASSES, Plan, Tile, batch_tiles, matmul_tiles, rows_tiles, tiles
from tests.compare import assert_exact
from tests.kernels.paths import Path
from tests.kernels.problems import DTYPES, Problem, conv, make

# More pixels, channels and products than some tiles hold, and a multiple of none.
WIDE = {"x": (2, 35, 7, 9), "w": (37, 35, 2, 2)}
FLAT = {"x": (2, 5, 9, 8), "w": (19, 5, 3, 2)}
GROUPED = {"x": (1, 40, 5, 6), "w": (34, 20, 2, 2), "groups": 2}


def _shipped() -> list[tuple[str, torch.dtype, Tile]]:
    return [(p, dtype, tile) for p in PASSES for dtype in DTYPES for tile in tiles(p, dtype.itemsize)]


def _problem(which: str, x: tuple[int, ...], w: tuple[int, ...], *, relu: bool, **options: int) -> Problem:
    function = "conv2d_relu_pool2d" if which == "fprop_pool" else "conv2d_relu" if relu else "conv2d"
    return conv(which, x, w, function=function, stride=1 if which == "fprop_pool" else (1, 2), **options)


def answer(which: str, function: Callable[..., Tensor], tensors: list[Tensor], dy: Tensor) -> Tensor:
    """What the pass computes, and no other pass."""
    wanted = {"dgrad": 0, "wgrad": 1}.get(which)
    inputs = [t.detach().requires_grad_(i == wanted) for i, t in enumerate(tensors)]
    y = function(*inputs)
    return y if wanted is None else torch.autograd.grad(y, inputs[wanted], dy.to(y))[0]


def _check(device: str, which: str, dtype: torch.dtype, problem: Problem, chosen: Plan, channels_last: bool) -> None:
    """Small integers: the answer is exact in every order of summation, so that one wrong element shows."""
    tensors = problem.tensors(device, dtype, channels_last, integers=True)
    dy = make(problem.torchs(*tensors).shape, device, dtype, integers=True)
    with force_plan(which, chosen):
        got = answer(which, problem.ours, tensors, dy)
        with record() as launches:
            answer(which, problem.ours, [t.cpu() for t in tensors], dy.cpu())
    assert_exact(got, answer(which, problem.torchs, [t.double() for t in tensors], dy.double()))
    tile = chosen.tile
    assert tile is not None
    used = [(a.get("BLOCK_M"), a.get("BLOCK_N"), a.get("BLOCK_K")) for a in (launch.arguments for launch in launches)]
    assert (tile.block_m, tile.block_n, tile.block_k) in used


@pytest.mark.parametrize("which, dtype, tile", _shipped(), ids=lambda v: str(v).replace("torch.", ""))
def test_tile(triton: Path, which: str, dtype: torch.dtype, tile: Tile) -> None:
    shapes = (WIDE, FLAT, GROUPED)[(tile.block_m + tile.block_n + tile.block_k) // 16 % 3]
    problem = _problem(which, relu=tile.block_n == 32, **shapes)  # type: ignore[arg-type]
    packed = shapes is WIDE
    parts = 1 if which == "fprop_pool" or not packed else 1 + tile.block_m // 16 % 3
    _check(triton.device, which, dtype, problem, Plan("gemm", tile, packed, parts), tile.block_k >= 32)


@pytest.mark.parametrize(
    "which, dtype, tile",
    [(p, dtype, tile) for p in PASSES for dtype in DTYPES for tile in batch_tiles(p, dtype.itemsize)],
    ids=lambda v: str(v).replace("torch.", ""),
)
def test_batch_tile(triton: Path, which: str, dtype: torch.dtype, tile: Tile) -> None:
    c, k = (72, 64) if which == "dgrad" else (64, 72)
    problem = _problem(which, (3, c, 3, 3), (k, c, 2, 3), relu=tile.block_m == 64, padding=1)
    parts = 1 if which == "fprop_pool" else 1 + tile.block_n // 128
    _check(triton.device, which, dtype, problem, Plan("batch", tile, True, parts), tile.block_m == 128)


@pytest.mark.parametrize("which", ["fprop", "dgrad", "wgrad"])
@pytest.mark.parametrize(
    "dtype, tile",
    [(dtype, tile) for dtype in DTYPES for tile in matmul_tiles(dtype.itemsize)],
    ids=lambda v: str(v).replace("torch.", ""),
)
def test_matmul_tile(triton: Path, which: str, dtype: torch.dtype, tile: Tile) -> None:
    problem = conv(which, (3, 72, 5, 9), (40, 72, 1, 1), function="conv2d_relu" if tile.block_n == 64 else "conv2d")
    chosen = Plan("matmul", tile, True, 1 + tile.block_n // 64)
    _check(triton.device, which, dtype, problem, chosen, tile.block_m == 128)


@pytest.mark.parametrize("which", PASSES)
def test_the_heuristic_gives_only_shipped_tiles(which: str) -> None:
    for itemsize in (2, 4, 8):
        for n, c, size, k, taps, stride, groups in [
            (1, 1, 28, 6, 5, 1, 1), (128, 1, 28, 6, 5, 1, 1), (128, 6, 14, 16, 5, 1, 1), (64, 64, 56, 64, 3, 1, 1),
            (32, 3, 224, 64, 7, 2, 1), (256, 256, 14, 512, 1, 2, 1), (8, 64, 32, 64, 3, 1, 2), (2, 16, 9, 16, 3, 1, 16),
        ]:  # fmt: skip
            g = Conv2dGeometry(n, c, size, size, k, taps, taps, (stride,) * 2, (taps // 2,) * 4, (1, 1), groups)
            chosen = plan(which, g, itemsize)
            shipped = {
                "batch": batch_tiles(which, itemsize),
                "matmul": matmul_tiles(itemsize),
                "rows": rows_tiles(which, itemsize),
                "gemm": tiles(which, itemsize, packed=chosen.packed),
                "patch": [None],
                "direct": [None],
            }
            assert chosen.tile in shipped[chosen.algorithm]
