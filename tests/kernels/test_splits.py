"""The second pass of sums in parts, for every number of parts that a program reads at a time."""

import math

import pytest
import torch
from torch import Tensor

from kernels.common.launch import record
from kernels.common.splits import partial_sums, reduce
from tests.compare import assert_exact
from tests.kernels.paths import Path

SIZES = {
    "one number": ((1, 1, 1, 1), 5, 16),
    "three numbers of very many parts": ((3,), 300, 256),
    "a bias": ((64,), 264, 256),
    "a small filter, no multiple of 16 bytes": ((6, 1, 5, 5), 40, 64),
    "a filter beyond one block": ((10, 9, 3, 3), 17, 64),
    "two parts": ((7, 5, 3, 3), 2, 4),
    "parts beyond a round": ((136, 128, 3, 3), 6, 4),
    "many numbers": ((135, 4, 32, 32), 2, 1),
}
"""Shape, parts, and how many a program reads at a time."""


def _launched(partial: Tensor, out: Tensor) -> dict[str, int]:
    with record() as launches:
        reduce(partial, out)
    (launch,) = launches
    return {name: launch.arguments[name] for name in ("PARTS", "BLOCK")} | {"grid": launch.grid}


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
@pytest.mark.parametrize("name", SIZES)
def test_parts_are_added(triton: Path, name: str, dtype: torch.dtype) -> None:
    """Small integers: every sum is exact."""
    shape, splits, rows = SIZES[name]
    out = torch.full(shape, math.nan, dtype=dtype)
    partial = partial_sums(out, splits)
    assert partial.shape == (splits, out.numel())
    partial.copy_(torch.randint(-2, 3, partial.shape))
    launched = _launched(partial, out)
    assert launched["PARTS"] == rows
    assert launched["grid"] * launched["BLOCK"] >= out.numel() > (launched["grid"] - 1) * launched["BLOCK"]
    reduce(partial, out)
    assert_exact(out, partial.sum(0).to(dtype).view(shape))


@pytest.mark.parametrize("channels_last", [False, True])
def test_bias_and_relu_follow_the_sum(triton: Path, channels_last: bool) -> None:
    form = torch.channels_last if channels_last else torch.contiguous_format
    out = torch.empty(2, 5, 3, 4).contiguous(memory_format=form)
    partial = partial_sums(out, 3)
    partial.copy_(torch.randint(-4, 5, partial.shape))
    bias = torch.randint(-4, 5, (5,)).float()
    reduce(partial, out, bias, relu=True)
    summed = torch.empty_like(out)
    summed.as_strided((out.numel(),), (1,)).copy_(partial.sum(0))
    assert_exact(out, torch.relu(summed + bias[:, None, None]))


def test_small_results_take_many_programs_and_few_rounds() -> None:
    """A gradient of 64 x 64 x 3 x 3 in 88 parts and a bias of 64 in 264, which one lane each would add one by one."""
    for shape, splits in (((64, 64, 3, 3), 88), ((64,), 264)):
        out = torch.empty(shape, dtype=torch.float16)
        launched = _launched(partial_sums(out, splits), out)
        assert math.ceil(splits / launched["PARTS"]) <= 6
        assert launched["grid"] >= min(264, out.numel() // 8)
