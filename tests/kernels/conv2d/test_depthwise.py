"""Depthwise convolutions: streamed rows in every pass and layout, for every width, stride and alignment."""

from __future__ import annotations

import pytest
import torch

from kernels.common.launch import Launch, record
from tests.compare import assert_exact
from tests.kernels.paths import Path
from tests.kernels.problems import Problem, conv, judge, make, run

CASES = (
    conv("depthwise 3x3/2", (2, 5, 7, 10), (5, 1, 3, 3), groups=5, padding=1, stride=2),
    conv("depthwise 3x3: rows of 16 bytes", (2, 3, 5, 16), (3, 1, 3, 3), groups=3, padding=1),
    conv("depthwise 3x3/2: rows of 16 bytes", (1, 2, 9, 32), (2, 1, 3, 3), groups=2, padding=1, stride=2),
    conv("depthwise 5x4/2x1", (1, 3, 3, 5), (3, 1, 5, 4), groups=3, padding=(2, 0), stride=(2, 1)),
    conv("depthwise 7x7", (1, 3, 6, 8), (3, 1, 7, 7), groups=3, padding=3),
    conv("depthwise 2x3/3x2: rows that no tap reaches", (1, 4, 9, 9), (4, 1, 2, 3), groups=4, stride=(3, 2)),
    conv("depthwise 3x2/2x4: columns that no tap reaches", (1, 4, 5, 12), (4, 1, 3, 2), groups=4, stride=(2, 4)),
    conv("depthwise 2x3/4x3", (1, 2, 9, 8), (2, 1, 2, 3), groups=2, stride=(4, 3), padding=(1, 2)),
    conv("depthwise 1x1/4, padded beyond the kernel", (1, 2, 5, 7), (2, 1, 1, 1), groups=2, stride=4, padding=2),
    conv("depthwise 3x3, dilation 2: rows of 16 bytes", (1, 3, 9, 16), (3, 1, 3, 3), groups=3, padding=2, dilation=2),
    conv("depthwise 2x3/2x1, dilation 1x3", (1, 4, 7, 10), (4, 1, 2, 3), groups=4, stride=(2, 1), dilation=(1, 3)),
    conv(
        "depthwise 3x3, dilation 3x18: taps that share no read",
        (1, 2, 5, 24),
        (2, 1, 3, 3),
        groups=2,
        padding=(3, 18),
        dilation=(3, 18),
    ),
)
NAMES = ("depthwise{}_kernel", "depthwise{}_wgrad_kernel")
FORMATS = pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "channels_last"])


def _launches(case: Problem, tensors: list[torch.Tensor | None]) -> list[Launch]:
    with record() as launches:
        run(case.ours, [None if t is None else t.cpu() for t in tensors])
    return [launch for launch in launches if "depthwise" in launch.kernel.__name__]


@FORMATS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_streamed(triton: Path, case: Problem, dtype: torch.dtype, channels_last: bool) -> None:
    tensors = case.tensors(triton.device, dtype, channels_last, integers=True)
    judge(case, tensors, integers=True)
    found = [launch.kernel.__name__ for launch in _launches(case, tensors)]
    forward, wgrad = (name.format("" if channels_last else "_nchw") for name in NAMES)
    assert found.count(forward) == 2 and found.count(wgrad) == 1


@FORMATS
@pytest.mark.parametrize("case", CASES[3:5], ids=str)
def test_a_large_window_in_float64(triton: Path, case: Problem, channels_last: bool) -> None:
    """Blocks are smaller where each element takes two registers."""
    judge(case, case.tensors(triton.device, torch.float64, channels_last, integers=True), integers=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("width", [16, 12, 14, 7], ids=lambda width: f"width {width}")
def test_every_width(triton: Path, width: int, dtype: torch.dtype) -> None:
    """Rows are read as many bytes at a time as their width allows, up to 16; channels_last likewise by channels."""
    most = 16 // dtype.itemsize
    unit = min(most, {16: 16, 12: 4, 14: 2, 7: 1}[width])
    across = conv("across", (2, 3, 6, width), (3, 1, 3, 3), groups=3, padding=1)
    deep = conv("deep", (2, width, 5, 3), (width, 1, 3, 3), groups=width, padding=1)
    for case, channels_last in ((across, False), (deep, True)):
        tensors = case.tensors(triton.device, dtype, channels_last, integers=True)
        judge(case, tensors, integers=True)
        launches = [launch.arguments for launch in _launches(case, tensors)]
        assert [found.get("UNIT") or found["WIDE"] for found in launches] == [unit] * 3


@pytest.mark.parametrize("items", [1, 40, 100, 600])
def test_every_number_of_warps(triton: Path, items: int) -> None:
    """The weight gradient in NCHW has a warp for 32 blocks of a channel, up to four, and then parts of the sum."""
    case = conv("small maps", (items, 2, 4, 8), (2, 1, 1, 1), groups=2)
    tensors = case.tensors(triton.device, torch.float16, integers=True)
    judge(case, tensors, integers=True)
    (launch,) = (each for each in _launches(case, tensors) if "wgrad" in each.kernel.__name__)
    assert launch.options["num_warps"] == {1: 1, 40: 2}.get(items, 4)
    assert launch.grid == 2 * {600: 2}.get(items, 1)


@FORMATS
@pytest.mark.parametrize("view", ["sliced", "shifted", "other order"])
def test_views(triton: Path, view: str, channels_last: bool) -> None:
    """Maps whose rows lie apart, begin at an odd element or lie in another order, and a gradient of one number."""
    case = conv("view", (2, 8, 5, 16), (8, 1, 3, 3), groups=8, padding=1)
    x, w, b = case.tensors(triton.device, torch.float16, channels_last, integers=True)
    assert x is not None and w is not None
    big = make((2, 16, 10, 33), triton.device, torch.float16, channels_last, integers=True)
    assert big is not None
    if view == "sliced":
        x = big[:, ::2, ::2, 1::2]
    elif view == "shifted":
        x = big[:, :8, :5, 1:17]
    else:
        x = x.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2)
        w = w.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0)
    x, w = (t.detach().requires_grad_() for t in (x, w))
    want = case.torchs(x.double(), w.double(), b.double())  # type: ignore[union-attr]
    got = case.ours(x, w, b)
    gradients = zip(torch.autograd.grad(got.sum(), [x, w]), torch.autograd.grad(want.sum(), [x, w]), strict=True)
    for ours, exact in ((got, want), *gradients):
        assert_exact(ours, exact)


def test_more_channels_than_a_block(triton: Path) -> None:
    """The weight gradient in channels_last takes 32 channels at a time, of which the last block has few."""
    case = conv("35 channels", (2, 35, 5, 3), (35, 1, 3, 2), groups=35, padding=1, stride=(1, 2))
    judge(case, case.tensors(triton.device, torch.float16, True, integers=True), integers=True)
