"""Convolutions over few channels: every tile of the padded rows, and the patch in registers, on problems that do not
fit them. Which form runs is asserted, since a test of the wrong kernel says nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kernels.common.device import H100
from kernels.common.launch import record
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.choose import force_plan
from kernels.conv2d.plans.few import suits_patch, suits_rows
from kernels.conv2d.plans.plan import PASSES, Plan
from kernels.conv2d.plans.tiles import Tile, rows_tiles
from tests.compare import assert_exact
from tests.kernels.conv2d.test_tiles import answer
from tests.kernels.paths import Path
from tests.kernels.problems import DTYPES, Problem, conv, judge, make, run

ROWS = (
    conv("rgb, strided, uneven padding", (2, 3, 7, 8), (37, 3, 3, 4), stride=(2, 1), padding=(2, 1)),
    conv("one channel", (1, 1, 5, 19), (19, 1, 5, 5), padding="same"),
    conv("sixteen channels", (1, 16, 5, 6), (21, 16, 2, 3), stride=(1, 3)),
    conv("rgb, same, even", (2, 3, 6, 5), (17, 3, 4, 2), padding="same", bias=False),
)
FEW_FILTERS = (
    conv("few filters, uneven", (2, 37, 7, 6), (13, 37, 3, 4), padding=(2, 1)),
    conv("few filters, padding that cuts", (1, 20, 4, 5), (3, 20, 2, 3), padding=(3, 4)),
    conv("few filters, same, even", (2, 18, 5, 19), (16, 18, 4, 2), padding="same"),
)
"""Their input gradients are convolutions over few channels."""
PATCH = (
    conv("patch", (2, 1, 9, 7), (5, 1, 3, 4), stride=(2, 1), padding=(2, 1)),
    conv("patch, same, even", (1, 2, 5, 19), (3, 2, 2, 3), padding="same"),
    conv("patch of one tap", (2, 16, 3, 5), (4, 16, 1, 1), bias=False),
    conv("patch, many filters", (1, 1, 4, 5), (40, 1, 3, 3), padding=1),
)


def _of(case: Problem, function: str) -> Problem:
    stride = 1 if function == "conv2d_relu_pool2d" else case.options.get("stride", 1)
    return replace(case, function=function, options={**case.options, "stride": stride})


def _launched(case: Problem, tensors: list[torch.Tensor | None]) -> set[str]:
    """The kernels of forward and backward."""
    with record() as launches:
        run(case.ours, [None if t is None else t.cpu() for t in tensors])
    return {launch.kernel.__name__ for launch in launches}


def _shipped() -> list[tuple[str, torch.dtype, Tile]]:
    cards = [(H100, dtype) for dtype in DTYPES] + [(replace(H100, tma=False, fma=True), torch.float32)]
    return [(p, dtype, tile) for p in PASSES for card, dtype in cards for tile in rows_tiles(p, dtype.itemsize, card)]


@pytest.mark.parametrize("which, dtype, tile", _shipped(), ids=lambda v: str(v).replace("torch.", ""))
def test_tile_of_rows(triton: Path, which: str, dtype: torch.dtype, tile: Tile) -> None:
    cases = FEW_FILTERS if which == "dgrad" else ROWS
    case = cases[(tile.block_m + tile.block_n + tile.block_k) // 16 % 3]
    case = _of(case, "conv2d_relu_pool2d" if which == "fprop_pool" else "conv2d_relu")
    tensors = case.tensors(triton.device, dtype, channels_last=tile.block_n % 64 == 0, integers=True)
    dy = make(case.torchs(*tensors).shape, triton.device, dtype, integers=True)
    plan = Plan("rows", tile, splits=3 if which == "wgrad" else 1)
    with force_plan(which, plan):
        got = answer(which, case.ours, tensors, dy)
        with record() as launches:
            answer(which, case.ours, [None if t is None else t.cpu() for t in tensors], dy.cpu())
    exact = [None if t is None else t.double() for t in tensors]
    assert_exact(got, answer(which, case.torchs, exact, dy.double()))
    found = [launch for launch in launches if launch.kernel.__name__.startswith("rows_")]
    assert any(launch.arguments.get("BLOCK_N") == tile.block_n for launch in found)


@pytest.mark.parametrize("dtype, channels_last, pool", [(torch.float32, False, "max"), (torch.float16, True, "avg")])
@pytest.mark.parametrize("case", [*ROWS, *PATCH], ids=str)
def test_pooled(triton: Path, case: Problem, dtype: torch.dtype, channels_last: bool, pool: str) -> None:
    case = _of(case, "conv2d_relu_pool2d")
    case = replace(case, options={**case.options, "pool": pool})
    judge(case, case.tensors(triton.device, dtype, channels_last, integers=True), integers=True)


@pytest.mark.parametrize("dtype, channels_last", [*zip(DTYPES, [False, True] * 2, strict=True)], ids=str)
@pytest.mark.parametrize("case", [*ROWS, *PATCH], ids=str)
def test_plain(triton: Path, case: Problem, dtype: torch.dtype, channels_last: bool) -> None:
    tensors = case.tensors(triton.device, dtype, channels_last, integers=True)
    judge(case, tensors, integers=True)
    names = _launched(case, tensors)
    assert "rows_fprop_kernel" in names or case in PATCH
    assert ("patch_fprop_kernel" in names) == (case in PATCH)
    few = case.shapes[1] is None or case.shapes[1][2:] == (1, 1)
    assert few or names & {"rows_wgrad_kernel", "blocks_wgrad_kernel"}


@pytest.mark.parametrize("dtype, channels_last", [*zip(DTYPES, [False, True] * 2, strict=True)], ids=str)
@pytest.mark.parametrize("case", FEW_FILTERS, ids=str)
def test_input_gradient(triton: Path, case: Problem, dtype: torch.dtype, channels_last: bool) -> None:
    tensors = case.tensors(triton.device, dtype, channels_last, integers=True)
    judge(case, tensors, integers=True)
    assert {"rows_fprop_kernel", "rows_pack_kernel"} <= _launched(case, tensors)
    assert "dgrad_kernel" not in _launched(case, tensors)


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize("pool", [None, "max", "avg"])
@pytest.mark.parametrize("case", [ROWS[0], ROWS[1], PATCH[0]], ids=str)
def test_a_special_value_reaches_only_the_windows_that_hold_it(
    triton: Path, case: Problem, pool: str | None, value: float
) -> None:
    """Zeros of the padded filters meet no pixel: 0 * inf would be NaN in a window's neighbour."""
    case = _of(case, "conv2d" if pool is None else "conv2d_relu_pool2d")
    case = case if pool is None else replace(case, options={**case.options, "pool": pool})
    x, w, b = case.tensors(triton.device)
    assert x is not None and w is not None
    x[0, 0, 3, 4] = value
    w = w + w.sign()
    got, want = case.ours(x, w, b), case.torchs(x.double().cpu(), w.double().cpu(), None if b is None else b.double())
    assert torch.equal(got.isnan().cpu(), want.isnan())
    assert torch.equal(got.isinf().cpu(), want.isinf())


def test_the_rules() -> None:
    def geometry(c: int, k: int, taps: int, groups: int = 1, dilation: int = 1, w: int = 9) -> Conv2dGeometry:
        return Conv2dGeometry(1, c, 9, w, k, taps, taps, (1, 1), (0,) * 4, (dilation,) * 2, groups)

    assert suits_rows("fprop", geometry(3, 64, 7)) and suits_rows("wgrad", geometry(16, 64, 3))
    assert not suits_rows("dgrad", geometry(3, 64, 7)) and not suits_rows("fprop", geometry(17, 64, 3))
    assert suits_rows("dgrad", geometry(64, 16, 3)) and not suits_rows("dgrad", geometry(64, 17, 3))
    assert not suits_rows("dgrad", replace(geometry(64, 16, 3), stride=(1, 2)))
    assert not suits_rows("fprop", geometry(16, 64, 1)) and not suits_rows("fprop", geometry(4, 4, 3, groups=2))
    assert not suits_rows("fprop", geometry(3, 64, 3, dilation=2)) and not suits_rows(
        "fprop", geometry(3, 8, 3, w=2**20)
    )
    assert suits_patch("fprop_pool", geometry(1, 6, 5)) and suits_patch("fprop", geometry(1, 64, 3))
    assert not suits_patch("fprop", geometry(3, 64, 3)) and not suits_patch("wgrad", geometry(1, 6, 5))
    assert not suits_patch("fprop_pool", geometry(2, 6, 5))
