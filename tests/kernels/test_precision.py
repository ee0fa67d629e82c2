"""torch's precision flags are obeyed, and float32 is as accurate as torch's float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch
import triton.language as tl
from triton import jit

import kernels
from kernels.common.jit import nearest_tf32
from kernels.common.launch import launch, record
from kernels.conv2d.common import descriptors
from kernels.conv2d.plans.choose import force_plan
from kernels.conv2d.plans.plan import PASSES, Plan, batch_tiles
from kernels.conv2d.plans.strips import strips_tile
from kernels.conv2d.plans.tiles import Tile
from tests.kernels.paths import Path
from tests.kernels.problems import conv, judge, make

DEEP = conv("deep sum", (1, 40, 6, 6), (17, 40, 3, 3), padding=1)


@pytest.fixture(autouse=True)
def restored_flags() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    yield
    if hasattr(torch.backends.cudnn, "conv"):
        torch.backends.cudnn.conv.fp32_precision = "none"
        torch.backends.fp32_precision = "none"
    torch.backends.cudnn.allow_tf32 = before


def _precisions(dtype: torch.dtype) -> set[str]:
    """tl.dot's input_precision of every pass of a convolution."""
    x, w = (make(s, "cpu", dtype).requires_grad_() for s in DEEP.shapes[:2])
    with kernels.backend("triton"), record() as launches:
        kernels.conv2d(x, w, padding=1).sum().backward()
    return {launch.arguments["PRECISION"] for launch in launches if "PRECISION" in launch.arguments}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("allowed", [False, True])
def test_the_old_flag(triton: Path, allowed: bool, dtype: torch.dtype) -> None:
    torch.backends.cudnn.allow_tf32 = allowed
    wants_tf32 = allowed and dtype == torch.float32
    assert all(p.startswith("tf32") == wants_tf32 for p in _precisions(dtype))
    assert _precisions(dtype)


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="this torch has no fp32_precision")
@pytest.mark.parametrize("value", ["ieee", "tf32"])
def test_the_new_flag(triton: Path, value: str) -> None:
    torch.backends.cudnn.conv.fp32_precision = value
    assert all(p.startswith("tf32") == (value == "tf32") for p in _precisions(torch.float32))


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="this torch has no fp32_precision")
@pytest.mark.parametrize("value", ["ieee", "tf32"])
def test_the_global_flag_reaches_convolutions(triton: Path, value: str) -> None:
    """An unset flag of a backend takes the one above it."""
    torch.backends.cudnn.conv.fp32_precision = "none"
    torch.backends.cudnn.fp32_precision = "none"
    torch.backends.fp32_precision = value
    expected = torch.backends.cudnn.conv.fp32_precision
    assert expected == value
    assert all(p.startswith("tf32") == (value == "tf32") for p in _precisions(torch.float32))


def test_tf32_operands_are_rounded_not_truncated(triton: Path) -> None:
    """1 + 2^-11 + 2^-12 lies above the middle of two TF32 numbers: truncated it would be 1."""
    if triton.device != "cuda":
        pytest.skip("the interpreter multiplies in float32; the machine-code tests look for the conversion")
    torch.backends.cudnn.allow_tf32 = True
    value = 1 + 2**-11 + 2**-12
    x = torch.full((1, 64, 4, 4), value, device=triton.device)
    w = torch.ones(64, 64, 1, 1, device=triton.device)
    y = kernels.conv2d(x, w)
    assert float(y.min()) >= 64 * (1 + 2**-11)


@pytest.mark.parametrize("channels_last", [False, True])
def test_float32_is_as_accurate_as_torchs(path: Path, channels_last: bool) -> None:
    torch.backends.cudnn.allow_tf32 = False
    judge(DEEP, DEEP.tensors(path.device, torch.float32, channels_last))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_low_precision_sums_in_float32(path: Path, dtype: torch.dtype) -> None:
    """2048 and 4,607 times 1/64: in 16 bits what follows the 2048 would be rounded away."""
    w: Any = torch.full((1, 512, 3, 3), 1 / 64, device=path.device, dtype=dtype)
    w[0, 0, 0, 0] = 2048
    y = kernels.conv2d(torch.ones(1, 512, 3, 3, device=path.device, dtype=dtype), w)
    assert float(y) == float(torch.tensor(2048 + 4607 / 64, dtype=dtype))


@jit
def _nearest(x_ptr, y_ptr, N: tl.constexpr):  # type: ignore[no-untyped-def]
    o = tl.arange(0, N)
    tl.store(y_ptr + o, nearest_tf32(tl.load(x_ptr + o)))


def test_nearest_tf32(triton: Path) -> None:
    """To nearest, ties away from zero, beyond the largest to infinity; NaN and infinities as they were."""
    step, inf, nan = 2.0**-10, float("inf"), float("nan")
    given = [1 + 0.4 * step, 1 + 0.6 * step, 1 + 0.5 * step, -1 - 0.5 * step, inf, -inf, nan, 3.4e38]
    wanted = [1, 1 + step, 1 + step, -1 - step, inf, -inf, nan, (2 - 2 * step) * 2.0**127]
    x = torch.tensor(given, device=triton.device)
    x[6] = torch.tensor([0x7FFFFFFF], dtype=torch.int32).view(torch.float32)[0]  # the NaN that cards make
    y = torch.empty_like(x)
    launch(_nearest, 1, x_ptr=x, y_ptr=y, N=8)
    torch.testing.assert_close(y.cpu(), torch.tensor(wanted), rtol=0, atol=0, equal_nan=True)


@pytest.mark.skipif(not descriptors._CAN_ROUND, reason="this Triton's TMA rounds nothing")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_tma_rounds_operands_and_no_result(triton: Path, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that is stored as TF32, or a half precision sum's parts, would lose 13 bits."""
    monkeypatch.setattr(descriptors, "INTERPRET", False)
    torch.backends.cudnn.allow_tf32 = True
    form = torch.channels_last
    x = torch.empty((64, 256, 6, 6), dtype=dtype).to(memory_format=form).requires_grad_()
    w = torch.empty((256, 256, 3, 3), dtype=dtype).to(memory_format=form).requires_grad_()
    w_1 = torch.empty((256, 256, 1, 1), dtype=dtype, requires_grad=True)
    with kernels.backend("triton"), record() as launches:
        kernels.conv2d(x, w_1).sum().backward()
        for algorithm in ("batch", "strips"):
            with ExitStack() as forced:
                for which in PASSES:
                    batch = batch_tiles(which, dtype.itemsize)[0]
                    tile = batch if algorithm == "batch" else Tile(*strips_tile(which, dtype.itemsize))
                    forced.enter_context(force_plan(which, Plan(algorithm, tile, True)))
                kernels.conv2d(x, w, padding=1).sum().backward()
                kernels.conv2d_relu_pool2d(x, w, padding=1)
    rounded = {
        (launch.kernel.__name__, name): value.round_f32_to_tf32
        for launch in launches
        for name, value in launch.arguments.items()
        if hasattr(value, "round_f32_to_tf32")
    }
    assert {kernel for kernel, _ in rounded} == {
        *(f"batch_{which}_kernel" for which in PASSES),
        *(f"strips_{which}_kernel" for which in ("fprop", "fprop_pool", "wgrad")),
        "matmul_kernel",
    }
    for (kernel, name), value in rounded.items():
        result = name in ("y_desc", "dx_desc")
        assert value == (dtype == torch.float32 and not result), f"{kernel} {name}"
