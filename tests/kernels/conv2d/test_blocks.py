"""Convolutions over few channels on blocks of pixels: every tile, blocks of all shapes, runs of all widths."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kernels.common.device import H100
from kernels.common.launch import record
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
    assert block_of(_geometry(CASES[block]), 2) == block


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
    assert block_of(g, 4) == (4, 4)
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
        for card in (replace(H100, fma=True, tma=False), replace(H100, tf32x3=True)):
            assert rule("wgrad", g, 4, card).algorithm == "rows"
    assert not suits_blocks("wgrad", replace(lenet, n=2**22), 2, H100)
    assert not suits_blocks("wgrad", replace(lenet, c=17), 2, H100)
    assert not suits_blocks("wgrad", replace(lenet, groups=2), 2, H100)
