"""Every tile that can ship, in every dtype, on problems that do not fit it: Triton has miscompiled single tiles."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels.common.device import H100, Card
from kernels.common.launch import record
from kernels.conv2d.forward import fprop_pool
from kernels.conv2d.geometry import Conv2dGeometry, resolve_padding
from kernels.conv2d.gradients import wgrad
from kernels.conv2d.plans.blocks import blocks_tiles
from kernels.conv2d.plans.box import box_of
from kernels.conv2d.plans.choose import force_plan, plan
from kernels.conv2d.plans.plan import PASSES, Plan, batch_tiles, matmul_tiles
from kernels.conv2d.plans.strips import strips_tile
from kernels.conv2d.plans.tiles import Tile, rows_tiles, tiles
from tests.compare import assert_exact
from tests.kernels.paths import Path
from tests.kernels.problems import DTYPES, Problem, conv, make

# More pixels, channels and products than some tiles hold, and a multiple of none.
WIDE = {"x": (2, 35, 7, 9), "w": (37, 35, 2, 2)}
FLAT = {"x": (2, 5, 9, 8), "w": (19, 5, 3, 2)}
FMA, A100 = replace(H100, tma=False, fma=True), Card(166_912, False)
GROUPED = {"x": (1, 40, 5, 6), "w": (34, 20, 2, 2), "groups": 2}


@pytest.fixture(autouse=True)
def tf32_plans(float32_is_exact_on_a_card: None) -> None:
    """Tiles of float32 are those of TF32 too; small integers are exact in both."""
    torch.backends.cudnn.allow_tf32 = True


def _shipped() -> list[tuple[str, torch.dtype, Tile]]:
    cards = [(H100, dtype) for dtype in DTYPES] + [(FMA, torch.float32)]
    every = [(p, card, dtype, wide) for p in PASSES for card, dtype in cards for wide in (True, False)]
    found = [(p, dtype, tile) for p, card, dtype, wide in every for tile in tiles(p, dtype.itemsize, card, wide)]
    found += [
        (p, torch.float32, tile) for p in PASSES for wide in (True, False) for tile in tiles(p, 4, FMA, wide, True)
    ]
    return list(dict.fromkeys(found))


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


def _pads(problem: Problem) -> tuple[Any, Any]:
    dilation = problem.options.get("dilation", (1, 1))
    return resolve_padding(problem.options["padding"], problem.shapes[1], (1, 1), dilation, "test"), dilation


@pytest.mark.parametrize("which", PASSES)
def test_two_stages_of_multiply_adds(which: str) -> None:
    """Their steps are long; a third stage took registers, which single elements far apart had not (sm_86, sm_100)."""
    every = [tiles(which, 4, FMA, wide, far) for wide in (True, False) for far in (True, False)]
    every += [rows_tiles(which, 4, FMA, far) for far in (True, False)]
    assert {tile.num_stages for some in every for tile in some} == {2}
    assert {tile.block_k for tile in tiles(which, 4, FMA, False, True)} == {16}


def test_tiles_that_leave_no_registers() -> None:
    """Eight warps of 64 x 64 pooled on sm_80, and 128 x 128 of TF32 beside offsets of 64 bits on sm_90."""
    pooled = [tile.num_stages for tile in rows_tiles("fprop_pool", 2, A100) if tile.block_n * tile.block_k == 64 * 64]
    assert pooled == [2]
    assert {tile.block_n for tile in tiles("fprop_pool", 2, A100, far=True)} == {32}
    assert {tile.block_n for tile in tiles("fprop_pool", 2, H100, far=True)} == {64, 32}
    assert {tile.block_n for tile in tiles("dgrad", 4, H100, far=True)} == {64}
    assert {tile.block_n for tile in tiles("fprop", 4, H100, far=True)} == {128, 64}


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


@pytest.mark.parametrize("which", ["fprop", "dgrad"])
@pytest.mark.parametrize(
    "shape, options, single",
    [
        ((128, 64, 3, 4), {"padding": (1, 0)}, True),
        ((2, 64, 9, 10), {"padding": (2, 1)}, False),
        ((5, 64, 6, 7), {"padding": (0, 4), "dilation": (2, 1)}, False),
        ((3, 64, 1, 19), {"padding": "same", "dilation": (1, 3)}, False),
    ],
    ids=str,
)
def test_boxes(triton: Path, which: str, shape: Any, options: Any, single: bool) -> None:
    """Tiles of several pixels: maps that they do not fit, taps outside of the image, and batches that they do not."""
    problem = conv(which, shape, (64, 64, 3, 2), function="conv2d_relu", **options)
    g = Conv2dGeometry.of(*problem.shapes[:2], (1, 1), *_pads(problem), 1)
    box = box_of(which, g, 128, 2)
    assert (box.rows == box.columns == 1) == single
    for splits, tile in enumerate(batch_tiles(which, 2), 1):
        _check(triton.device, which, torch.float16, problem, Plan("batch", tile, True, splits), splits == 1)


def test_a_box_counts_its_taps() -> None:
    """Against the definition: a tap counts where one of a box's pixels finds the image under it."""
    g = Conv2dGeometry(5, 64, 6, 7, 64, 3, 2, (1, 1), (1, 2, 0, 4), (2, 1), 1)
    for which, made in (("fprop", g), ("dgrad", g.turned)):
        box = box_of(which, g, 16, 2)
        steps = 0
        for p, q in product(range(0, made.p, box.rows), range(0, made.q, box.columns)):
            for r, s in product(range(made.r), range(made.s)):
                rows = [p + i + r * made.dilation[0] - made.padding[0] for i in range(box.rows)]
                columns = [q + j + s * made.dilation[1] - made.padding[2] for j in range(box.columns)]
                steps += any(0 <= i < made.h for i in rows) and any(0 <= j < made.w for j in columns)
        assert box.steps == steps * -(-g.n // box.images)
        assert box.rows * box.columns * box.images == 16
    assert box_of("wgrad", g, 64, 2).images == box_of("fprop", replace(g, stride=(1, 2)), 64, 2).images == 64


FOR_TMA = [dtype for dtype in DTYPES if dtype != torch.float64]


def _strips(which: str, dtype: torch.dtype, parts: int = 1) -> Plan:
    return Plan("strips", Tile(*strips_tile(which, dtype.itemsize)), True, parts)


@pytest.mark.parametrize("dtype", FOR_TMA, ids=lambda v: str(v).replace("torch.", ""))
@pytest.mark.parametrize(
    "x, w, options",
    [
        ((1, 64, 6, 40), (64, 64, 3, 3), {"padding": 1}),
        ((5, 64, 6, 8), (64, 64, 3, 1), {"padding": 0}),
        ((2, 64, 5, 20), (72, 64, 3, 2), {"padding": (1, 2), "dilation": (1, 3)}),
    ],
    ids=str,
)
def test_strips_of_the_weight_gradient(triton: Path, dtype: torch.dtype, x: Any, w: Any, options: Any) -> None:
    """Rows of output that twos, fours and ones divide; runs of one image and of several, that end with a row or not."""
    problem = conv("wgrad", x, w, **options)
    _check(triton.device, "wgrad", dtype, problem, _strips("wgrad", dtype, x[0]), w[3] == 3)


@pytest.mark.parametrize("dtype", FOR_TMA, ids=lambda v: str(v).replace("torch.", ""))
@pytest.mark.parametrize("which", ["fprop", "fprop_pool", "dgrad"])
@pytest.mark.parametrize(
    "shape, taps, options",
    [
        ((3, 64, 7, 13), 3, {"padding": 1}),
        ((1, 64, 5, 70), 2, {"padding": (0, 2), "dilation": (1, 3)}),
        ((5, 64, 4, 6), 1, {"padding": (3, 0)}),
    ],
    ids=str,
)
def test_strips(triton: Path, which: str, dtype: torch.dtype, shape: Any, taps: int, options: Any) -> None:
    """Rows that do not fill the last strip, runs of one image and of several, and images that do not fill a tile."""
    c, k = (72, 64) if which == "dgrad" else (64, 72)
    function = "conv2d_relu_pool2d" if which == "fprop_pool" else "conv2d_relu" if taps == 2 else "conv2d"
    problem = conv(which, (shape[0], c, *shape[2:]), (k, c, 3, taps), function=function, **options)
    _check(triton.device, which, dtype, problem, _strips(which, dtype), taps == 3)


@pytest.mark.parametrize("average", [False, True])
def test_codes_of_pooled_strips(triton: Path, average: bool) -> None:
    """The byte that backward needs is the gather's, position by position."""
    x = make((2, 64, 6, 9), triton.device, torch.float16, integers=True)
    w = make((64, 64, 3, 3), triton.device, torch.float16, integers=True)
    g = Conv2dGeometry.of(x.shape, w.shape, (1, 1), (1, 1, 1, 1), (1, 1), 1)
    found = []
    for chosen in (_strips("fprop_pool", torch.float16), Plan("gemm", Tile(16, 32, 32, 4, 3), True)):
        with force_plan("fprop_pool", chosen):
            found.append(fprop_pool(x, w, None, g, average, True))
    assert_exact(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_an_infinite_pixel_of_strips_stays_within_its_taps(triton: Path) -> None:
    """Where a run of pixels goes on beyond the last column, dy's zeros meet zeros."""
    x = make((1, 64, 4, 20), triton.device, torch.float16, integers=True) + 7
    x[..., -1, -1] = float("inf")
    dy = make((1, 64, 4, 18), triton.device, torch.float16, integers=True) + 7
    g = Conv2dGeometry.of(x.shape, (64, 64, 3, 3), (1, 1), (1, 1, 0, 0), (1, 1), 1)
    with force_plan("wgrad", _strips("wgrad", torch.float16)):
        dw = wgrad(dy, x, g, True)
    assert torch.isfinite(dw[..., :2]).all() and torch.isinf(dw[:, :, 1, 2]).all()


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
                "strips": [Tile(*strips_tile(which, itemsize))],
                "rows": rows_tiles(which, itemsize),
                "blocks": blocks_tiles(which, itemsize, H100),
                "gemm": tiles(which, itemsize, wide=chosen.packed),
                "patch": [None],
                "direct": [None],
            }
            assert chosen.tile in shipped[chosen.algorithm]
