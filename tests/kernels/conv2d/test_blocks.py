"""Convolutions over few channels on blocks of pixels: every tile, blocks of all shapes, runs of all widths."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kernels.common.device import H100
from kernels.common.launch import record
from kernels.conv2d.forward import fprop_pool
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.gradients import wgrad
from kernels.conv2d.plans.blocks import block_of, blocks_tiles, suits_blocks
from kernels.conv2d.plans.choose import force_plan
from kernels.conv2d.plans.plan import Plan, rule
from kernels.conv2d.plans.tiles import Tile
from tests.compare import assert_exact
from tests.kernels.conv2d.test_tiles import answer
from tests.kernels.paths import Path
from tests.kernels.problems import Problem, conv, make

NARROW = (torch.float16, torch.bfloat16, torch.float32)
CASES = {
    (4, 4): conv("one channel, blocks of 4 x 4", (2, 1, 8, 12), (6, 1, 5, 5), padding=2),
    (2, 2): conv("six channels, blocks of 2 x 2", (3, 6, 10, 10), (16, 6, 5, 5)),
    (1, 2): conv("rgb, strided, 7x7", (1, 3, 9, 16), (64, 3, 7, 7), stride=2, padding=3),
    (1, 4): conv("rgb, 3x3", (1, 3, 5, 8), (64, 3, 3, 3), padding=1),
    (1, 1): conv("nothing divides", (2, 5, 8, 11), (7, 5, 3, 3), stride=(2, 1), padding=(2, 1)),
    (1, 8): conv("one row", (3, 2, 1, 16), (9, 2, 1, 3), stride=(1, 2), padding=(0, 1)),
}
"""By the block that is chosen for half precision."""


def _geometry(case: Problem) -> Conv2dGeometry:
    options = case.options
    pairs = [v if isinstance(v, tuple) else (v, v) for v in (options.get("stride", 1), options.get("padding", 0))]
    return Conv2dGeometry.of(
        case.shapes[0], case.shapes[1], pairs[0], (pairs[1][0],) * 2 + (pairs[1][1],) * 2, (1, 1), 1
    )


def _tiles() -> list[tuple[tuple[int, int], torch.dtype, Tile]]:
    """Every tile in every dtype with half of the blocks, and every block with half of the tiles."""
    tiles = [(dtype, tile) for dtype in NARROW for tile in blocks_tiles("wgrad", dtype.itemsize, H100)]
    pairs = [(i + j, block, *tile) for i, block in enumerate(CASES) for j, tile in enumerate(tiles)]
    return [(block, dtype, tile) for number, block, dtype, tile in pairs if number % 2 == 0]


@pytest.mark.parametrize("block", CASES, ids=lambda block: CASES[block].name)
def test_the_block(block: tuple[int, int]) -> None:
    assert block_of("wgrad", _geometry(CASES[block]), 2) == block


@pytest.mark.parametrize("block, dtype, tile", _tiles(), ids=lambda v: str(v).replace("torch.", ""))
def test_weight_gradient(triton: Path, block: tuple[int, int], dtype: torch.dtype, tile: Tile) -> None:
    """In either layout of either map: small integers, so that one wrong element shows."""
    case = replace(CASES[block], function="conv2d")
    number = tile.block_m // 64 + tile.block_n // 64 + NARROW.index(dtype)
    tensors = case.tensors(triton.device, dtype, channels_last=number % 2 == 0, integers=True)
    form = torch.channels_last if number % 3 else torch.contiguous_format
    dy = make(case.torchs(*tensors).shape, triton.device, dtype, integers=True).contiguous(memory_format=form)
    with force_plan("wgrad", Plan("blocks", tile, splits=3)):
        got = answer("wgrad", case.ours, tensors, dy)
        with record() as launches:
            answer("wgrad", case.ours, [None if t is None else t.cpu() for t in tensors], dy.cpu())
    exact = [None if t is None else t.double() for t in tensors]
    assert_exact(got, answer("wgrad", case.torchs, exact, dy.double()))
    used = [launch.arguments["BLOCK_N"] for launch in launches if launch.kernel.__name__ == "blocks_wgrad_kernel"]
    assert used == [tile.block_n]


HALF = (torch.float16, torch.bfloat16)
FORWARD = {
    "fprop": (
        conv("blocks of 2 x 2", (2, 6, 14, 14), (16, 6, 5, 5)),
        conv("strided, 4 x 4", (2, 5, 9, 16), (3, 5, 3, 4), stride=(1, 2), padding=(1, 1)),
        conv("uneven, same", (3, 3, 7, 6), (7, 3, 4, 2), padding="same"),
    ),
    "fprop_pool": (
        conv("a window each", (3, 6, 14, 14), (16, 6, 5, 5)),
        conv("two windows, an odd row", (2, 5, 9, 8), (3, 5, 3, 3), padding=1),
        conv("strided", (2, 9, 12, 16), (10, 9, 3, 4), stride=(2, 1), padding=(1, 2)),
    ),
    "dgrad": (
        conv("16 to 6", (2, 6, 14, 14), (16, 6, 5, 5)),
        conv("padding that cuts", (1, 4, 6, 8), (9, 4, 2, 3), padding=(3, 4)),
        conv("same, even", (2, 3, 4, 6), (8, 3, 4, 2), padding="same"),
    ),
}


def _forward() -> list[tuple[str, torch.dtype, Tile, Problem]]:
    tiles = [(dtype, tile) for dtype in HALF for tile in blocks_tiles("fprop", 2, H100)]
    return [(which, *tile, case) for which, cases in FORWARD.items() for tile in tiles for case in cases]


@pytest.mark.parametrize("which, dtype, tile, case", _forward(), ids=lambda v: str(v).replace("torch.", ""))
def test_forward(triton: Path, which: str, dtype: torch.dtype, tile: Tile, case: Problem) -> None:
    """In either layout, with the pool's codes by what backward makes of them."""
    name = {"fprop": "conv2d_relu", "fprop_pool": "conv2d_relu_pool2d", "dgrad": "conv2d"}[which]
    last = (tile.block_n == 64) == (dtype == torch.float16)
    case = replace(case, function=name)
    tensors = case.tensors(triton.device, dtype, channels_last=last, integers=True)
    dy = make(case.torchs(*tensors).shape, triton.device, dtype, integers=True)
    with force_plan(which, Plan("blocks", tile)):
        got = answer(which, case.ours, tensors, dy)
        with record() as launches:
            answer(which, case.ours, [None if t is None else t.cpu() for t in tensors], dy.cpu())
    exact = [None if t is None else t.double() for t in tensors]
    assert_exact(got, answer(which, case.torchs, exact, dy.double()))
    used = [launch.arguments["BLOCK_N"] for launch in launches if launch.kernel.__name__ == "blocks_fprop_kernel"]
    assert used == [tile.block_n]


@pytest.mark.parametrize("average", [False, True])
def test_codes(triton: Path, average: bool) -> None:
    """The byte that backward needs is that of the padded rows, position by position."""
    x = make((2, 6, 10, 12), triton.device, torch.float16, integers=True)
    w = make((7, 6, 3, 3), triton.device, torch.float16, integers=True)
    g = Conv2dGeometry.of(x.shape, w.shape, (1, 1), (1,) * 4, (1, 1), 1)
    found = []
    for chosen in (Plan("blocks", Tile(128, 64, 32, 8, 3)), Plan("rows", Tile(64, 16, 32, 4, 3))):
        with force_plan("fprop_pool", chosen):
            found.append(fprop_pool(x, w, None, g, average, True))
    assert_exact(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize("pool", [None, "max", "avg"])
def test_zeros_of_the_band_meet_no_special_value(triton: Path, pool: str | None, value: float) -> None:
    """A block of 2 x 2 or of two windows has neighbours whose windows do not hold the pixel."""
    name = "conv2d" if pool is None else "conv2d_relu_pool2d"
    case = conv("special", (2, 2, 9, 12), (3, 2, 3, 3), function=name, **({} if pool is None else {"pool": pool}))
    x, w, b = case.tensors(triton.device, torch.float16)
    assert x is not None and w is not None
    x[0, 0, 3, 4] = x[1, 1, 0, -1] = value
    w = w + w.sign()
    which = "fprop" if pool is None else "fprop_pool"
    with force_plan(which, Plan("blocks", blocks_tiles(which, 2, H100)[0])):
        got = case.ours(x, w, b)
    want = case.torchs(x.double().cpu(), w.double().cpu(), None if b is None else b.double().cpu())
    assert torch.equal(got.isnan().cpu(), want.isnan())
    assert torch.equal(got.isinf().cpu(), want.isinf())


def test_maps_whose_rows_are_not_runs_of_adjacent_elements(triton: Path) -> None:
    """One number for a whole gradient, as `sum().backward()` gives it, and every second column of a larger map."""
    x = make((2, 3, 6, 16), triton.device, torch.float16, integers=True)[..., ::2]
    dy = torch.ones(1, device=triton.device, dtype=torch.float16).expand(2, 4, 4, 6)
    g = Conv2dGeometry.of(x.shape, (4, 3, 3, 3), (1, 1), (0,) * 4, (1, 1), 1)
    with force_plan("wgrad", Plan("blocks", blocks_tiles("wgrad", 2, H100)[0], splits=2)):
        dw = wgrad(dy, x, g, False)
    assert_exact(dw, torch.nn.grad.conv2d_weight(x.double(), (4, 3, 3, 3), dy.double()))


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
def test_a_special_pixel_reaches_no_weight_but_its_own(triton: Path, value: float) -> None:
    """The zeros around an image and behind the last block meet none; products off the diagonal are not read."""
    x = make((1, 1, 8, 12), triton.device, torch.float32, integers=True) + 7
    x[..., -1, -1] = x[..., 0, 0] = value
    dy = make((1, 4, 4, 8), triton.device, torch.float32, integers=True) + 7
    g = Conv2dGeometry.of(x.shape, (4, 1, 5, 5), (1, 1), (0,) * 4, (1, 1), 1)
    assert block_of("wgrad", g, 4) == (4, 4)
    with force_plan("wgrad", Plan("blocks", blocks_tiles("wgrad", 4, H100)[0], splits=2)):
        dw = wgrad(dy, x, g, False)
    corners = torch.zeros(5, 5, dtype=torch.bool)
    corners[0, 0] = corners[-1, -1] = True
    assert torch.equal(dw.cpu().isfinite(), ~corners.expand(4, 1, 5, 5))


def test_the_rule() -> None:
    """LeNet's layers and RGB stems; not by multiply-adds, in three TF32 products, or in float64."""
    lenet = Conv2dGeometry(4096, 6, 14, 14, 16, 5, 5, (1, 1), (0,) * 4, (1, 1), 1)
    rgb = Conv2dGeometry(256, 3, 224, 224, 64, 7, 7, (2, 2), (3,) * 4, (1, 1), 1)
    for g in (lenet, rgb):
        assert rule("wgrad", g, 2, H100).algorithm == rule("wgrad", g, 4, H100).algorithm == "blocks"
        assert rule("wgrad", g, 8, H100).algorithm == "rows"
        assert rule("fprop", g, 4, H100).algorithm == rule("fprop", rgb, 2, H100).algorithm == "rows"
        for card in (replace(H100, fma=True, tma=False), replace(H100, tf32x3=True)):
            assert rule("wgrad", g, 4, card).algorithm == "rows"
    for which in ("fprop", "fprop_pool", "dgrad"):
        assert rule(which, lenet, 2, H100).algorithm == "blocks"
        assert not suits_blocks(which, replace(lenet, w=15), 2, H100)
    assert not suits_blocks("wgrad", replace(lenet, n=2**22), 2, H100)
    assert not suits_blocks("wgrad", replace(lenet, c=17), 2, H100)
    assert not suits_blocks("wgrad", replace(lenet, groups=2), 2, H100)
