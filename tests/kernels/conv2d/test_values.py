"""Values and every gradient of the convolutions, by the rule of tests/compare.py."""

from dataclasses import replace

import pytest
import torch

from tests.kernels.conv2d.cases import CASES, CORE, FUSED
from tests.kernels.paths import Path
from tests.kernels.problems import DTYPES, Problem, judge

SWEEP = [
    (torch.float32, False),
    (torch.float16, True),
    (torch.float64, True),
    (torch.bfloat16, False),
]
"""Every dtype and both layouts, not every pair: the core cases run those."""


@pytest.mark.parametrize("dtype, channels_last", SWEEP)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_conv2d(path: Path, case: Problem, dtype: torch.dtype, channels_last: bool) -> None:
    judge(case, case.tensors(path.device, dtype, channels_last))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", ["conv2d", "conv2d_relu"])
@pytest.mark.parametrize("case", CORE, ids=str)
def test_core(path: Path, case: Problem, function: str, dtype: torch.dtype, channels_last: bool) -> None:
    case = replace(case, function=function)
    judge(case, case.tensors(path.device, dtype, channels_last, integers=True), integers=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_conv2d_relu(path: Path, case: Problem) -> None:
    case = replace(case, function="conv2d_relu")
    judge(case, case.tensors(path.device, torch.float32, channels_last=True))


@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize("dtype, channels_last", SWEEP)
@pytest.mark.parametrize("case", FUSED, ids=str)
def test_conv2d_relu_pool2d(path: Path, case: Problem, dtype: torch.dtype, channels_last: bool, pool: str) -> None:
    """Integers: in low precision normal numbers tie after rounding, and then no float64 answer is the right one."""
    case = replace(case, options={**case.options, "pool": pool})
    judge(case, case.tensors(path.device, dtype, channels_last, integers=True), integers=True)


@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_conv2d_relu_pool2d_of_normal_numbers(path: Path, channels_last: bool, pool: str) -> None:
    case = replace(FUSED[1], options={**FUSED[1].options, "pool": pool})
    judge(case, case.tensors(path.device, torch.float32, channels_last))
