"""A wrong call raises torch's exception type, with a message that names the values."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import kernels
from kernels.common.device import INTERPRET
from tests.kernels.paths import Path
from tests.kernels.problems import OURS, TORCH, torch_conv2d_relu, torch_conv2d_relu_pool2d

T = torch.ones


CONV: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "channels do not fit": ((T(1, 4, 5, 5), T(2, 3, 3, 3)), {}),
    "channels do not fit the groups": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"groups": 2}),
    "outputs not divided by groups": ((T(1, 4, 5, 5), T(3, 2, 3, 3)), {"groups": 2}),
    "groups 0": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"groups": 0}),
    "groups negative": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"groups": -1}),
    "groups a float": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"groups": 1.0}),
    "2-D input": ((T(5, 5), T(2, 1, 3, 3)), {}),
    "5-D input": ((T(1, 1, 1, 5, 5), T(2, 1, 3, 3)), {}),
    "3-D weight": ((T(1, 4, 5, 5), T(4, 3, 3)), {}),
    "5-D weight": ((T(1, 4, 5, 5), T(2, 4, 3, 3, 3)), {}),
    "bias too short": ((T(1, 4, 5, 5), T(2, 4, 3, 3), T(1)), {}),
    "bias 2-D": ((T(1, 4, 5, 5), T(2, 4, 3, 3), T(2, 1)), {}),
    "kernel too large": ((T(1, 4, 5, 5), T(2, 4, 6, 3)), {}),
    "dilated kernel too large": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"dilation": 3}),
    "no outputs": ((T(1, 4, 5, 5), T(0, 4, 3, 3)), {}),
    "kernel without taps": ((T(1, 4, 5, 5), T(2, 4, 0, 3)), {}),
    "no rows": ((T(1, 4, 0, 5), T(2, 4, 3, 3)), {}),
    "stride 0": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"stride": 0}),
    "stride negative": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"stride": (1, -1)}),
    "stride a float": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"stride": 1.5}),
    "stride a word": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"stride": "1"}),
    "three strides": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"stride": (1, 1, 1)}),
    "no strides": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"stride": ()}),
    "dilation 0": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"dilation": 0}),
    "three dilations": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"dilation": (1, 1, 1)}),
    "dilation negative": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"dilation": -1}),
    "padding negative": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"padding": -1}),
    "padding an unknown word": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"padding": "full"}),
    "padding None": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"padding": None}),
    "three paddings": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"padding": (1, 1, 1)}),
    "same with a stride": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"padding": "same", "stride": 2}),
    "weight of another dtype": ((T(1, 4, 5, 5), T(2, 4, 3, 3).double()), {}),
    "bias of another dtype": ((T(1, 4, 5, 5), T(2, 4, 3, 3), T(2).half()), {}),
    "weight not a tensor": ((T(1, 4, 5, 5), [1.0]), {}),
    "bias not a tensor": ((T(1, 4, 5, 5), T(2, 4, 3, 3), 1.0), {}),
    "input not a tensor": (([1.0], T(2, 4, 3, 3)), {}),
    "no weight": ((T(1, 4, 5, 5),), {}),
    "an unknown argument": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"pad": 1}),
}
POOL: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "2-D input": ((T(5, 5), 2), {}),
    "5-D input": ((T(1, 1, 1, 5, 5), 2), {}),
    "no channels": ((T(1, 0, 5, 5), 2), {}),
    "no rows": ((T(1, 3, 0, 5), 2), {}),
    "window 0": ((T(1, 3, 5, 5), 0), {}),
    "window negative": ((T(1, 3, 5, 5), (2, -1)), {}),
    "window too large": ((T(1, 3, 5, 5), 6), {}),
    "window a float": ((T(1, 3, 5, 5), 2.0), {}),
    "three windows": ((T(1, 3, 5, 5), (2, 2, 2)), {}),
    "no window": ((T(1, 3, 5, 5), ()), {}),
    "window None": ((T(1, 3, 5, 5), None), {}),
    "no padding": ((T(1, 3, 5, 5), 2, 1, ()), {}),
    "three paddings": ((T(1, 3, 5, 5), 2, 1, (1, 1, 1)), {}),
    "stride 0": ((T(1, 3, 5, 5), 2, 0), {}),
    "stride negative": ((T(1, 3, 5, 5), 2, -1), {}),
    "three strides": ((T(1, 3, 5, 5), 2, (1, 1, 1)), {}),
    "padding beyond half the window": ((T(1, 3, 5, 5), 2, 1, 2), {}),
    "padding negative": ((T(1, 3, 5, 5), 2, 1, -1), {}),
    "padding a float": ((T(1, 3, 5, 5), 2, 1, 0.5), {}),
    "input not a tensor": (([1.0], 2), {}),
    "an unknown argument": ((T(1, 3, 5, 5), 2), {"window": 2}),
}
MAX_POOL: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "dilation 0": ((T(1, 3, 5, 5), 2), {"dilation": 0}),
    "three dilations": ((T(1, 3, 5, 5), 2), {"dilation": (1, 1, 1)}),
    "dilation negative": ((T(1, 3, 5, 5), 2), {"dilation": -1}),
    "dilated window too large": ((T(1, 3, 5, 5), 3), {"dilation": 3}),
    "padding beyond half the undilated window": ((T(1, 3, 9, 9), 3), {"padding": 2, "dilation": 2}),
}
AVG_POOL: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "divisor 0": ((T(1, 3, 5, 5), 2), {"divisor_override": 0}),
    "divisor a float": ((T(1, 3, 5, 5), 2), {"divisor_override": 2.5}),
    "bool input": ((T(1, 3, 5, 5).bool(), 2), {}),
}
FUSED: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "map smaller than the pool": ((T(1, 4, 3, 3), T(2, 4, 3, 3)), {}),
    "pool window 0": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"pool_kernel_size": 0}),
    "pool padding beyond half": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"pool_padding": 2}),
    "pool stride negative": ((T(1, 4, 5, 5), T(2, 4, 3, 3)), {"pool_stride": -1}),
}
CASES = [
    (function, name, case)
    for function, cases in [
        ("conv2d", CONV),
        ("conv2d_relu", CONV),
        ("conv2d_relu_pool2d", {**CONV, **FUSED}),
        ("max_pool2d", {**POOL, **MAX_POOL}),
        ("avg_pool2d", {**POOL, **AVG_POOL}),
    ]
    for name, case in cases.items()
]


def _moved(values: Any, device: str) -> list[Any]:
    return [v.to(device) if isinstance(v, torch.Tensor) else v for v in values]


@pytest.mark.parametrize("function, name, case", CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_exception_type(path: Path, function: str, name: str, case: tuple[Any, Any]) -> None:
    args, kwargs = _moved(case[0], path.device), case[1]
    with pytest.raises(Exception) as theirs:
        TORCH[function](*args, **kwargs)
    with pytest.raises(Exception) as ours:
        OURS[function](*args, **kwargs)
    accepted = {type(theirs.value)}
    if name == "bool input" and path.backend == "triton":
        accepted.add(NotImplementedError)  # says which dtypes have a kernel
    assert type(ours.value) in accepted, f"ours: {ours.value!r}, torch's: {theirs.value!r}"


@pytest.mark.parametrize("function", ["conv2d", "conv2d_relu", "conv2d_relu_pool2d"])
def test_messages_name_both_values_and_a_way_out(triton: Path, function: str) -> None:
    x, w = T(1, 4, 5, 5, device=triton.device), T(2, 3, 3, 3, device=triton.device)
    with pytest.raises(RuntimeError, match=r"input has 4 channels.*weight \(2, 3, 3, 3\).*expects 3"):
        OURS[function](x, w)
    with pytest.raises(RuntimeError, match=r"float32.*float64.*cast one"):
        OURS[function](x, T(2, 4, 3, 3, device=triton.device, dtype=torch.float64))
    with pytest.raises(RuntimeError, match=r"negative padding.*slice the input"):
        OURS[function](x, T(2, 4, 3, 3, device=triton.device), padding=-1)


def test_tensors_on_two_devices(triton: Path) -> None:
    """torch's own convolution returns uninitialised memory for a meta weight on the CPU; ours says what is where."""
    x = T(1, 4, 5, 5, device=triton.device)
    for function in ("conv2d", "conv2d_relu", "conv2d_relu_pool2d"):
        with pytest.raises(RuntimeError, match=r"input is on .*, but weight on meta"):
            OURS[function](x, T(2, 4, 3, 3, device="meta"))


def test_pool_name(path: Path) -> None:
    with pytest.raises(ValueError, match="'min'"):
        kernels.conv2d_relu_pool2d(T(1, 4, 5, 5), T(2, 4, 3, 3), pool="min")
    with pytest.raises(ValueError, match="'min'"):
        kernels.ConvReLUPool2d(1, 1, 1, pool="min")


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64, torch.uint8, torch.bool], ids=str)
def test_dtypes_without_a_kernel(triton: Path, dtype: torch.dtype) -> None:
    """ "triton" says that there is none; by default torch answers, or refuses as it does."""
    x, w = T(1, 2, 4, 4, device=triton.device).to(dtype), T(3, 2, 3, 3, device=triton.device).to(dtype)
    calls = [(kernels.conv2d, F.conv2d, (x, w)), (kernels.conv2d_relu, torch_conv2d_relu, (x, w))]
    calls += [(kernels.conv2d_relu_pool2d, torch_conv2d_relu_pool2d, (x, w))]
    calls += [(kernels.max_pool2d, F.max_pool2d, (x, 2)), (kernels.avg_pool2d, F.avg_pool2d, (x, 2))]
    for ours, theirs, args in calls:
        with pytest.raises(NotImplementedError, match=str(dtype)):
            ours(*args)
        with kernels.backend("auto"):
            try:
                want = theirs(*args)
            except Exception as error:
                with pytest.raises(type(error)):
                    ours(*args)
            else:
                assert torch.equal(ours(*args), want)


def test_an_unknown_backend() -> None:
    with pytest.raises(ValueError, match="cuda"), kernels.backend("cuda"):
        pass


def test_the_backend_is_put_back_after_an_error() -> None:
    from kernels.backend import current_backend

    with pytest.raises(KeyError), kernels.backend("triton"):
        raise KeyError
    assert current_backend() == "auto"


@pytest.mark.skipif(not INTERPRET, reason="the interpreter runs CPU tensors")
def test_a_cpu_tensor_without_the_interpreter(triton: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("kernels.common.device"), "INTERPRET", False)
    with pytest.raises(NotImplementedError, match="TRITON_INTERPRET=1"):
        kernels.max_pool2d(T(1, 1, 4, 4), 2)
