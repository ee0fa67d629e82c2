"""Values, indices and the gradient of the pools, by the rule of tests/compare.py."""

import pytest
import torch
import torch.nn.functional as F

import kernels
from kernels.common.launch import record
from tests.compare import assert_exact, assert_same_form
from tests.kernels.paths import Path
from tests.kernels.pool2d.cases import CASES, HUGE_WINDOW
from tests.kernels.problems import DTYPES, STANDARD, Problem, judge

SWEEP = [
    (torch.float32, True),
    (torch.float16, False),
    (torch.float64, False),
    (torch.bfloat16, True),
]


@pytest.mark.parametrize("dtype, channels_last", SWEEP)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_pool2d(path: Path, case: Problem, dtype: torch.dtype, channels_last: bool) -> None:
    judge(case, case.tensors(path.device, dtype, channels_last))


@pytest.mark.parametrize("case", HUGE_WINDOW, ids=str)
def test_huge_window(path: Path, case: Problem) -> None:
    judge(case, case.tensors(path.device))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", [*STANDARD[-2:], *CASES[:2]], ids=str)
def test_every_dtype_in_both_layouts(path: Path, case: Problem, dtype: torch.dtype, channels_last: bool) -> None:
    judge(case, case.tensors(path.device, dtype, channels_last))


@pytest.mark.parametrize("case", [c for c in CASES if c.function == "max_pool2d"], ids=str)
def test_ties_and_indices(path: Path, case: Problem) -> None:
    """Integers tie in most windows: the first of equals must win, in the indices and in the gradient."""
    tensors = case.tensors(path.device, torch.float32, integers=True)
    judge(case, tensors, integers=True)
    y, indices = kernels.max_pool2d(*tensors, **case.options, return_indices=True)
    want_y, want_indices = F.max_pool2d(*tensors, **case.options, return_indices=True)
    assert_exact(y, want_y)
    assert_exact(indices, want_indices)
    assert_same_form(indices, want_indices)


KERNELS = {
    "2x2": (2, {}, "stride2"),
    "3x3 padded": (3, {"stride": 2, "padding": 1}, "stride2"),
    "3x3 ceil": (3, {"stride": 2, "ceil_mode": True}, "stride2"),
    "3x3 padded ceil: a window more": (3, {"stride": 2, "padding": 1, "ceil_mode": True}, None),
    "3x3 with stride 1": (3, {"stride": 1, "padding": 1}, None),
}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("function", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize("name", KERNELS)
def test_which_kernel_runs(triton: Path, name: str, function: str, channels_last: bool) -> None:
    """Squares of 2x2 pixels where they apply: forward in NCHW, backward in both layouts; one launch each."""
    window, options, special = KERNELS[name]
    form = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(2, 3, 8, 6).contiguous(memory_format=form).requires_grad_()
    with record() as launches:
        getattr(kernels, function)(x, window, **options).sum().backward()
    plain = function.removesuffix("2d")
    names = [
        f"{plain}_kernel" if special is None or channels_last else "stride2_pool_kernel",
        f"{plain}_backward_kernel" if special is None else "stride2_pool_backward_kernel",
    ]
    assert [launch.kernel.__name__ for launch in launches] == names
