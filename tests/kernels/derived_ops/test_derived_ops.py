"""The operators built on others: geometries, refusals, derivatives, autocast, compile.

torch's own samples of them are in tests/conformance.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kernels
from kernels.common.launch import record
from tests.compare import assert_as_good, assert_same_form
from tests.kernels.paths import Path

NAMES = ("conv_transpose2d", "conv1d", "max_pool1d", "avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool2d")
Call = tuple[Any, tuple[Any, ...], dict[str, Any]]


def tensors(call: Call) -> list[Tensor]:
    return [t for t in (call[0], *call[1], *call[2].values()) if isinstance(t, Tensor)]


def in_float64(call: Call) -> Call:
    def change(v: Any) -> Any:
        return v.detach().double().requires_grad_() if isinstance(v, Tensor) else v

    return change(call[0]), tuple(map(change, call[1])), {k: change(v) for k, v in call[2].items()}


def results(function: Callable[..., Any], call: Call, dy: Tensor | None = None) -> tuple[list[Tensor], list[Tensor]]:
    """The outputs, and the gradients for `dy`."""
    y = function(call[0], *call[1], **call[2])
    outputs = list(y) if isinstance(y, tuple) else [y]
    if not outputs[0].requires_grad:
        return outputs, []
    given = torch.ones_like(outputs[0]) if dy is None else dy.to(outputs[0].dtype)
    return outputs, list(torch.autograd.grad(outputs[0], tensors(call), given))


X, W = (2, 4, 5, 5), (4, 3, 3, 3)
WRONG: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    (X, (5, 3, 3, 3), {}),
    (X, (4, 3, 3), {}),
    ((4, 5), W, {}),
    (X, W, {"stride": 0}),
    (X, W, {"dilation": 0}),
    (X, W, {"groups": 3}),
    (X, W, {"padding": -1}),
    (X, W, {"output_padding": 1}),
    (X, W, {"stride": 2, "output_padding": 2}),
    (X, W, {"output_padding": -1}),
    (X, W, {"padding": 9}),
    (X, W, {"bias": torch.zeros(4)}),
    (X, W, {"bias": torch.zeros(3, dtype=torch.float64)}),
]


@pytest.mark.parametrize(("x", "w", "options"), WRONG)
def test_transposed_convolution_refuses_what_torch_refuses(x: Any, w: Any, options: Any, path: Path) -> None:
    call = torch.ones(x, device=path.device), torch.ones(w, device=path.device)
    options = {k: v.to(path.device) if isinstance(v, Tensor) else v for k, v in options.items()}
    with pytest.raises((RuntimeError, ValueError)) as theirs:
        F.conv_transpose2d(*call, **options)
    with pytest.raises(theirs.type):
        kernels.conv_transpose2d(*call, **options)


GEOMETRIES = list(itertools.product((1, 2, (3, 2)), (0, (1, 2)), (1, 2), (1, 2)))
"""Stride, padding, groups, dilation; every second one in channels_last."""


def test_transposed_convolution_over_geometries(path: Path) -> None:
    for i, (stride, padding, groups, dilation) in enumerate(GEOMETRIES):
        for output_padding in (0, 1):
            steps = stride if isinstance(stride, tuple) else (stride, stride)
            if output_padding >= max(min(steps), dilation):
                continue
            x, w = torch.randn(1, 4, 4, 3, device=path.device), torch.randn(4, 3, 3, 3, device=path.device)
            b = torch.randn(3 * groups, device=path.device)
            if i % 2:
                x = x.contiguous(memory_format=torch.channels_last)
            call: Call = (
                x.requires_grad_(),
                (w.requires_grad_(), b.requires_grad_()),
                {
                    "stride": stride,
                    "padding": padding,
                    "output_padding": output_padding,
                    "groups": groups,
                    "dilation": dilation,
                },
            )
            found = [
                results(f, c)
                for f, c in (
                    (kernels.conv_transpose2d, call),
                    (F.conv_transpose2d, call),
                    (F.conv_transpose2d, in_float64(call)),
                )
            ]
            assert_same_form(found[0][0][0], found[1][0][0], str(call[2]))
            for a, b_, c in zip(*(y + g for y, g in found), strict=True):
                assert_as_good(a, b_, c, str(call[2]))


SMALL: dict[str, Call] = {
    "conv_transpose2d": ((1, 2, 2, 2), ((2, 1, 2, 2),), {"stride": 2, "groups": 2}),
    "conv1d": ((1, 2, 5), ((3, 2, 3),), {"padding": 1}),
    "max_pool1d": ((1, 2, 6), (2,), {}),
    "avg_pool1d": ((1, 2, 6), (3, 2, 1), {}),
    "adaptive_avg_pool2d": ((1, 2, 4, 4), (2,), {}),
    "adaptive_max_pool2d": ((1, 2, 4, 4), ((None, 1),), {}),
}


def small(name: str, path: Path) -> tuple[Callable[..., Any], Callable[..., Any], list[Tensor]]:
    """Ours and torch's as functions of float64 tensors alone, and those tensors."""
    shape, args, kwargs = SMALL[name]
    is_weight = name.startswith("conv")
    shapes = [shape, *args] if is_weight else [shape]
    given = [torch.randn(s, dtype=torch.float64, device=path.device, requires_grad=True) for s in shapes]
    rest = () if is_weight else args

    def bind(function: Any) -> Callable[..., Any]:
        return lambda *tensors: function(*tensors, *rest, **kwargs)

    return bind(getattr(kernels, name)), bind(getattr(F, name)), given


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_of_every_kind(name: str, triton: Path) -> None:
    ours, torchs, given = small(name, triton)
    assert torch.autograd.gradcheck(ours, given, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(ours, given)
    batch = [torch.stack([t, 2 * t]).detach() for t in given]
    torch.testing.assert_close(torch.func.vmap(ours)(*batch), torch.func.vmap(torchs)(*batch))


@pytest.mark.parametrize("name", NAMES)
def test_compiles_and_launches(name: str, triton: Path) -> None:
    ours, torchs, given = small(name, triton)
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*given), torchs(*given))
    torch._dynamo.reset()
    with record() as launches, torch.no_grad():
        ours(*given)
    assert launches


@pytest.mark.parametrize("name", ["conv_transpose2d", "conv1d"])
def test_autocast_chooses_torchs_dtype(name: str, path: Path) -> None:
    ours, torchs, given = small(name, path)
    for dtype in (torch.float32, torch.float64):
        inputs = [t.detach().to(dtype).requires_grad_() for t in given]
        with torch.autocast(path.device, torch.bfloat16):
            a, b = ours(*inputs), torchs(*inputs)
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=2e-2, atol=2e-2)
        assert torch.autograd.grad(a.sum(), inputs)[0].dtype == dtype


def test_empty_batches_and_windows_of_two_sizes(triton: Path) -> None:
    x = torch.randn(0, 4, 5, 5, device=triton.device)
    w = torch.randn(4, 3, 3, 3, device=triton.device)
    assert kernels.conv_transpose2d(x, w).shape == F.conv_transpose2d(x, w).shape
    with pytest.raises(NotImplementedError, match=r"\(5, 5\) does not divide into 2 windows"):
        kernels.adaptive_avg_pool2d(x[:, :, :5], 2)
    with kernels.backend("auto"):
        y = torch.randn(1, 2, 5, 5, device=triton.device)
        torch.testing.assert_close(kernels.adaptive_avg_pool2d(y, 2), F.adaptive_avg_pool2d(y, 2))


def layers_and_shapes() -> list[tuple[nn.Module, tuple[int, ...]]]:
    """torch's layer of every operator, and an input of it."""
    return [
        (nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2), (2, 4, 5, 5)),
        (nn.Conv1d(4, 6, 3, 2, 1, 2, 2, padding_mode="reflect"), (2, 4, 9)),
        (nn.MaxPool1d(3, 2, 1), (2, 4, 9)),
        (nn.AvgPool1d(3, 2, 1), (2, 4, 9)),
        (nn.AdaptiveAvgPool2d(1), (2, 4, 6, 6)),
        (nn.AdaptiveMaxPool2d((2, 3)), (2, 4, 6, 6)),
    ]


def test_layers_on_the_triton_path(triton: Path) -> None:
    for layer, shape in layers_and_shapes():
        x = torch.randn(shape, device=triton.device)
        layer = layer.to(triton.device)
        torch.testing.assert_close(kernels.convert(layer)(x), layer(x))


def test_layers_are_exported_and_come_back(path: Path) -> None:
    for layer, shape in layers_and_shapes():
        x = torch.randn(shape, device=path.device)
        ours = kernels.convert(layer.to(path.device))
        file = io.BytesIO()
        torch.export.save(torch.export.export(ours, (x,)), file)
        file.seek(0)
        torch.testing.assert_close(torch.export.load(file).module()(x), layer(x))


@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
def test_a_global_average_is_one_pass_each_way(layout: str, triton: Path) -> None:
    """Also of planes too large for one lane a window, which "auto" leaves to torch in other pools."""
    x = torch.randn(2, 3, 20, 16, device=triton.device, requires_grad=True)
    if layout == "channels_last":
        x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    with record() as launches:
        kernels.adaptive_avg_pool2d(x, 1).sum().backward()
    assert [launch.kernel.__name__ for launch in launches] == [
        "global_avg_pool_kernel",
        "global_pool_backward_kernel",
    ]
