"""Thin groups packed in one product: every tile, and no value that crosses from one group to another."""

from __future__ import annotations

import pytest
import torch

from kernels.common.arguments import pair
from kernels.common.launch import record
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.choose import force_plan
from kernels.conv2d.plans.few import group_pack, suits_groups
from kernels.conv2d.plans.plan import Plan, groups_tiles
from kernels.conv2d.plans.tiles import Tile
from tests.compare import assert_exact
from tests.kernels.conv2d.test_tiles import answer
from tests.kernels.paths import Path
from tests.kernels.problems import Problem, conv, judge, make, run

CASES = (
    conv("groups of 4", (2, 20, 5, 6), (20, 4, 3, 3), groups=5, padding=1),
    conv("groups of 8 to 16", (1, 40, 4, 7), (80, 8, 2, 3), groups=5, padding=(0, 2), dilation=(1, 2)),
    conv("groups of 16 to 8, strided", (2, 48, 6, 5), (24, 16, 3, 2), groups=3, stride=(2, 1)),
    conv("groups of 4, padded beyond the kernel", (1, 36, 3, 3), (36, 4, 2, 2), groups=9, padding=3),
    conv("groups of 3: blocks of 24 channels", (1, 30, 5, 7), (30, 3, 3, 3), groups=10, padding=1, stride=2),
    conv("groups of 6 to 12, phases of no tap", (1, 18, 6, 8), (36, 6, 2, 3), groups=3, stride=(3, 2), dilation=(2, 2)),
    conv("groups of 2 to 4, one tap", (1, 24, 5, 5), (48, 2, 1, 1), groups=12, stride=2, padding=1),
    conv("groups of 5 to 40, one a product", (1, 10, 4, 4), (80, 5, 3, 2), groups=2, stride=(1, 2)),
)
HALF = (
    conv("one input channel, two outputs", (1, 36, 5, 5), (72, 1, 3, 3), groups=36, padding=1, stride=(2, 1)),
    conv("strided, dilated and depthwise", (1, 9, 6, 7), (9, 1, 3, 3), groups=9, padding=2, dilation=2, stride=2),
    conv("a window of 60 taps", (1, 3, 7, 8), (3, 1, 6, 10), groups=3, padding=(2, 5), stride=(1, 2)),
)
"""Groups of one input channel, which in float32 have no TF32 to lose."""
DTYPES = (torch.float16, torch.float32, torch.bfloat16)
EACH = [*((case, dtype) for case in CASES for dtype in DTYPES[: 3 if case in CASES[::3] else 2])]
EACH += [(case, torch.float16) for case in HALF]


def _geometry(case: Problem) -> Conv2dGeometry:
    x, w, _ = case.shapes
    assert x is not None and w is not None
    numbers = {name: case.options.get(name, usual) for name, usual in (("stride", 1), ("padding", 0), ("dilation", 1))}
    (stride, pads, dilation) = (pair(value, "test", name) for name, value in numbers.items())
    padding = (pads[0], pads[0], pads[1], pads[1])
    return Conv2dGeometry.of(x, w, stride, padding, dilation, case.options["groups"])


@pytest.mark.parametrize("which", ["fprop", "dgrad", "wgrad"])
@pytest.mark.parametrize(("case", "dtype"), EACH, ids=str)
def test_every_tile(triton: Path, case: Problem, which: str, dtype: torch.dtype) -> None:
    geometry = _geometry(case)
    assert suits_groups(which, geometry, dtype.itemsize)
    tensors = case.tensors(triton.device, dtype, channels_last=dtype != torch.float32, integers=True)
    dy = make(case.torchs(*tensors).shape, triton.device, dtype, integers=True)
    want = answer(which, case.torchs, [t.double() for t in tensors], dy.double())
    for tile in groups_tiles(which, geometry, dtype.itemsize):
        with force_plan(which, Plan("groups", tile, True, 3 if which == "wgrad" else 1)):
            assert_exact(answer(which, case.ours, tensors, dy), want)
            with record() as launches:
                answer(which, case.ours, [t.cpu() for t in tensors], dy.cpu())
        assert any(
            launch.kernel.__name__ == f"groups_{'wgrad' if which == 'wgrad' else 'fprop'}_kernel" for launch in launches
        )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_normal_numbers(triton: Path, case: Problem) -> None:
    judge(case, case.tensors(triton.device, torch.float32, channels_last=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize("which", [0, 1, 2], ids=["x", "w", "dy"])
def test_a_special_value_stays_in_its_group(triton: Path, which: int, value: float) -> None:
    """The blocks beside the diagonal are zeros, and 0 * inf would be NaN."""
    stride, width = (2, 3) if which == 2 else (1, 4)
    case = conv("special", (2, 4 * width, 4, 5), (4 * width, width, 3, 3), groups=4, stride=stride)
    x, w, b = case.tensors(triton.device)
    dy = make((2, 4 * width, *((1, 2) if stride == 2 else (2, 3))), triton.device)
    assert x is not None and w is not None and b is not None and dy is not None
    (x, w, dy)[which].view(-1)[23] = value
    w += w.sign()
    got = run(case.ours, [x, w, b], dy)
    want = run(case.torchs, [t.double().cpu() for t in (x, w, b)], dy.double().cpu())
    for ours, theirs in zip(got, want, strict=True):
        assert ours is not None and theirs is not None
        if which != 1:  # beyond the edge of dy the weight meets a zero
            assert torch.equal(ours.isnan().cpu(), theirs.isnan())
    assert torch.equal(got[0].isinf().cpu(), want[0].isinf())  # type: ignore[union-attr]


def test_the_rule() -> None:
    def geometry(c_group: int, k_group: int, dilation: int = 1, groups: int = 32) -> Conv2dGeometry:
        return Conv2dGeometry(
            2, groups * c_group, 9, 9, groups * k_group, 3, 3, (2, 2), (1,) * 4, (dilation,) * 2, groups
        )

    for widths in ((4, 8), (2, 4), (3, 3), (12, 48), (16, 16), (64, 1)):
        assert all(suits_groups(which, geometry(*widths), 4) for which in ("fprop", "dgrad", "wgrad"))
    assert not suits_groups("fprop", geometry(4, 65), 2) and not suits_groups("fprop", geometry(17, 18), 2)
    assert not suits_groups("fprop", geometry(4, 4), 8) and not suits_groups("fprop_pool", geometry(4, 4), 2)
    assert suits_groups("dgrad", geometry(1, 2), 2) and not suits_groups("dgrad", geometry(1, 2), 4)
    assert suits_groups("wgrad", geometry(1, 1, 2), 2) and not suits_groups("wgrad", geometry(1, 1), 2)
    assert groups_tiles("wgrad", geometry(4, 8), 2) == [Tile(128, 64, 64, 8, 3)]
    assert [group_pack("fprop", geometry(*widths), 2) for widths in ((4, 4), (3, 3), (1, 1), (8, 4), (48, 12))] == [
        8, 8, 32, 8, 1,
    ]  # fmt: skip
    assert group_pack("fprop", geometry(4, 4, groups=3), 2) == 4 and group_pack("dgrad", geometry(8, 4), 4) == 8
