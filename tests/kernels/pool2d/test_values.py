"""Values, indices and the gradient of the pools, by the rule of tests/compare.py."""

from typing import Any

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
    "2x2": (2, {}, (8, 6), "stride2_pool", "stride2_pool_backward"),
    "2x2 of an odd plane": (2, {}, (7, 6), "", "stride2_squares_backward"),
    "3x3 padded": (3, {"stride": 2, "padding": 1}, (8, 6), "stride2_pool", "stride2_pool_backward"),
    "3x3 padded, odd": (3, {"stride": 2, "padding": 1}, (8, 5), "", "stride2_squares_backward"),
    "3x3 ceil": (3, {"stride": 2, "ceil_mode": True}, (8, 6), "stride2_pool", "stride2_pool_backward"),
    "3x3 padded ceil: a window more": (
        3, {"stride": 2, "padding": 1, "ceil_mode": True}, (8, 6), "", "stride2_squares_backward",
    ),
    "3x3 with stride 1": (3, {"stride": 1, "padding": 1}, (8, 6), "stride1", "stride1"),
    "5x5 with stride 1": (5, {"stride": 1, "padding": 2}, (8, 6), "stride1", "stride1"),
    "5x3 with stride 1": ((5, 3), {"stride": 1, "padding": (2, 1)}, (8, 6), "", ""),
    "3x3 with stride 3": (3, {}, (8, 6), "", ""),
    "the plane": ((8, 6), {}, (8, 6), "global", "global_pool_backward"),
}  # fmt: skip
"""Window, options, plane, and the kernels forward and backward in NCHW; "" for those of any window."""


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("function", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize("name", KERNELS)
def test_which_kernel_runs(triton: Path, name: str, function: str, channels_last: bool) -> None:
    """One launch each; squares with rows of 16 bytes in NCHW alone, since the others read 16 bytes as they are."""
    window, options, plane, forward, backward = KERNELS[name]
    form = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(2, 3, *plane).contiguous(memory_format=form).requires_grad_()
    with record() as launches:
        getattr(kernels, function)(x, window, **options).sum().backward()
    plain = function.removesuffix("2d")
    if channels_last:
        forward = forward.replace("stride2_pool", "")
        backward = backward.replace("stride2_pool", "stride2_squares")
    if forward == "global":
        forward = f"global_{plain}"
    if forward == "stride1":
        forward = f"stride1_{plain}"
        backward = "stride1_avg_pool" if function == "avg_pool2d" else "stride1_max_pool_backward"
    names = [f"{forward or plain}_kernel", f"{backward or plain + '_backward'}_kernel"]
    assert [launch.kernel.__name__ for launch in launches] == names


@pytest.mark.parametrize("channels_last", [False, True])
def test_large_windows_take_their_axes_apart(triton: Path, channels_last: bool) -> None:
    """7 + 7 taps in place of 49: two launches each way, of which the first keeps a byte for each of its results; the
    indices, and windows with a stride or a dilation, are looked for tap by tap."""
    form = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(2, 3, 16, 18).contiguous(memory_format=form).requires_grad_()

    def names(**options: Any) -> list[str]:
        with record() as launches:
            y = kernels.max_pool2d(x, 7, padding=3, **options)
            (y[0] if isinstance(y, tuple) else y).sum().backward()
        return [launch.kernel.__name__.removesuffix("_kernel") for launch in launches]

    assert names(stride=1) == ["line_max_pool"] * 2 + ["line_max_pool_backward"] * 2
    assert names(stride=2) == names(stride=1, dilation=2) == ["max_pool", "max_pool_backward"]
    assert names(stride=1, return_indices=True) == ["max_pool"] + ["line_max_pool_backward"] * 2


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("window", [(6, 5), (2, 32), (17, 3)], ids=str)
def test_every_length_of_a_run(path: Path, window: tuple[int, int], channels_last: bool) -> None:
    """Planes that are not whole runs, of ties, infinities and NaN: values, codes and gradients are torch's."""
    form = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randint(-2, 3, (2, 4, 21, 37), device=path.device).float().contiguous(memory_format=form)
    chance = torch.rand(x.shape, device=path.device)
    x[chance < 0.002] = float("nan")
    x[chance > 0.6] = -float("inf")
    x[:, :, :, 20:] = -float("inf")
    padding = (window[0] // 2, window[1] // 2)
    results = []
    for pool in (kernels.max_pool2d, F.max_pool2d):
        leaf = x.clone().requires_grad_()
        y = pool(leaf, window, stride=1, padding=padding)
        (gradient,) = torch.autograd.grad(y, leaf, torch.ones_like(y))
        results.append((y.detach(), gradient))
    for got, want in zip(*results, strict=True):
        assert_exact(got, want)


@pytest.mark.parametrize("channels_last", [False, True])
def test_few_large_planes_are_averaged_in_parts(triton: Path, channels_last: bool) -> None:
    """One image of 32 planes: some 50 programs that go at most twice over their pixels, and the sum of their parts."""
    form = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.empty(1, 32, 112, 112, dtype=torch.float16, memory_format=form)
    with record() as launches:
        kernels.avg_pool2d(x, 112)
    first, second = launches
    assert [first.kernel.__name__, second.kernel.__name__] == ["global_avg_pool_kernel", "reduce_splits_kernel"]
    assert first.grid >= 48 and first.arguments["part"] <= 2 * first.arguments["BLOCK_E"]
    assert first.arguments["parts"] * first.arguments["part"] >= 112 * 112


@pytest.mark.parametrize("function", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize("options", [{"stride": 1, "padding": 1}, {"stride": 2}, {"stride": 3}], ids=str)
def test_a_view_is_pooled_as_its_copy(path: Path, function: str, options: dict[str, int]) -> None:
    """Every second row of every second channel, and a gradient that is one number everywhere."""
    whole = torch.randn(2, 6, 14, 8, device=path.device)
    results = []
    for x in (whole[:, ::2, ::2], whole[:, ::2, ::2].contiguous()):
        x = x.detach().requires_grad_()
        y = getattr(kernels, function)(x, 3, **options)
        y.sum().backward()
        results.append((y.detach(), x.grad))
    for got, want in zip(*results, strict=True):
        assert_exact(got, want)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("window, options", [(2, {}), (3, {"stride": 1, "padding": 1}), (5, {"stride": 1})], ids=str)
def test_wide_rows_are_those_of_a_lane_an_element(
    path: Path, window: int, options: dict[str, int], dtype: torch.dtype, channels_last: bool
) -> None:
    """Sizes that let a lane read 16 bytes agree with the same map one column and one channel shorter."""
    form = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(2, 16, 5, 16, device=path.device).to(dtype).contiguous(memory_format=form)
    narrow = x[:, :15, :, :15].contiguous(memory_format=form)
    wide_y = kernels.max_pool2d(x, window, **options)
    narrow_y = kernels.max_pool2d(narrow, window, **options)
    assert_exact(wide_y[:, :15, :, : narrow_y.shape[3] - 1], narrow_y[..., :-1])


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("k", [3, 5, 7])
def test_maxima_without_a_code_are_those_with_one(path: Path, k: int, dtype: torch.dtype, channels_last: bool) -> None:
    """Inference takes another instruction for the greater of two numbers: NaN and infinities must pass it alike."""
    form = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(2, 8, 7, 11, device=path.device).to(dtype).contiguous(memory_format=form)
    chance = torch.rand(x.shape, device=path.device)
    for value, low, high in ((float("nan"), 0.0, 0.01), (float("inf"), 0.01, 0.03), (-float("inf"), 0.2, 0.7)):
        x[(low <= chance) & (chance < high)] = value
    with torch.no_grad():
        values = kernels.max_pool2d(x, k, stride=1, padding=k // 2)
    assert values.isnan().any()
    assert_exact(values, kernels.max_pool2d(x.requires_grad_(), k, stride=1, padding=k // 2))
    assert_exact(values, F.max_pool2d(x.detach(), k, stride=1, padding=k // 2))


def test_codes_are_bytes_and_indices_are_made_on_request_alone(triton: Path) -> None:
    """What training keeps of a window is one byte; nothing writes int64 unless asked; inference writes neither."""
    x = torch.randn(2, 3, 8, 8)

    def written(want_gradient: bool, **options: Any) -> list[tuple[torch.dtype, int]]:
        with record() as launches:
            kernels.max_pool2d(x.requires_grad_(want_gradient), 2, **options)
        (launch,) = launches
        found = {n: launch.arguments.get(n) for n in ("code_ptr", "indices_ptr")}
        return [(t.dtype, t.numel()) for t in found.values() if t is not None and t.numel()]

    assert written(False) == []
    assert written(True) == [(torch.uint8, 96)]
    assert written(False, return_indices=True) == [(torch.int64, 96)]
    assert written(True, return_indices=True) == [(torch.uint8, 96), (torch.int64, 96)]
