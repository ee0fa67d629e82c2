"""One small problem per function, and what it takes to run any problem three ways: ours, torch's, the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import kernels
from kernels.conv2d import reference as conv_reference
from kernels.pool2d import reference as pool_reference
from tests.compare import assert_as_good, assert_exact, assert_same_form

CONVOLUTIONS = ("conv2d", "conv2d_relu", "conv2d_relu_pool2d")
POOLS = ("max_pool2d", "avg_pool2d")
ATEN = ("conv2d", *POOLS)
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def torch_conv2d_relu(x: Tensor, w: Tensor, b: Tensor | None = None, *numbers: Any, **options: Any) -> Tensor:
    """torch's two operators."""
    return F.relu(F.conv2d(x, w, b, *numbers, **options))


def torch_conv2d_relu_pool2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *numbers: Any,
    pool: str = "max",
    pool_kernel_size: Any = 2,
    pool_stride: Any = None,
    pool_padding: Any = 0,
    ceil_mode: bool = False,
    **options: Any,
) -> Tensor:
    """torch's three operators."""
    z = torch_conv2d_relu(x, w, b, *numbers, **options)
    run = F.max_pool2d if pool == "max" else F.avg_pool2d
    return run(z, pool_kernel_size, pool_stride, pool_padding, ceil_mode=ceil_mode)


TORCH: dict[str, Callable[..., Any]] = {
    "conv2d": F.conv2d,
    "conv2d_relu": torch_conv2d_relu,
    "conv2d_relu_pool2d": torch_conv2d_relu_pool2d,
    "max_pool2d": F.max_pool2d,
    "avg_pool2d": F.avg_pool2d,
}
REFERENCE: dict[str, Callable[..., Any]] = {
    name: getattr(conv_reference if name in CONVOLUTIONS else pool_reference, name) for name in TORCH
}
OURS: dict[str, Callable[..., Any]] = {name: getattr(kernels, name) for name in TORCH}


@dataclass(frozen=True)
class Problem:
    """A function, the shapes of its tensors (None: no bias) and its other arguments; `name` says what it breaks."""

    name: str
    function: str
    shapes: tuple[tuple[int, ...] | None, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    def tensors(
        self, device: str, dtype: torch.dtype = torch.float32, channels_last: bool = False, integers: bool = False
    ) -> list[Tensor | None]:
        """Inputs: normal numbers, or small sparse integers, for which every sum is exact in every dtype."""
        return [make(s, device, dtype, channels_last, integers) for s in self.shapes]

    def ours(self, *tensors: Any) -> Any:
        """This package's answer."""
        return OURS[self.function](*tensors, **self.options)

    def torchs(self, *tensors: Any) -> Any:
        """torch's answer."""
        return TORCH[self.function](*tensors, **self.options)

    def reference(self, *tensors: Any) -> Any:
        """The answer in float64."""
        return REFERENCE[self.function](*tensors, **self.options)


def conv(
    name: str, x: Sequence[int], w: Sequence[int], bias: bool = True, function: str = "conv2d", **o: Any
) -> Problem:
    """A convolution problem."""
    return Problem(name, function, (tuple(x), tuple(w), (w[0],) if bias else None), o)


STANDARD = (
    conv("conv2d", (2, 4, 7, 6), (6, 2, 3, 3), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2),
    conv("conv2d_relu", (2, 3, 7, 6), (4, 3, 3, 2), function="conv2d_relu", padding=1),
    conv("conv2d_relu_pool2d", (2, 3, 7, 6), (4, 3, 3, 3), function="conv2d_relu_pool2d", padding=1),
    conv("conv2d_relu_avgpool", (2, 3, 7, 6), (4, 3, 3, 3), function="conv2d_relu_pool2d", padding=1, pool="avg"),
    Problem("max_pool2d", "max_pool2d", ((2, 3, 7, 6),), {"kernel_size": 3, "stride": 2, "padding": 1}),
    Problem(
        "avg_pool2d", "avg_pool2d", ((2, 3, 7, 6),), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}
    ),
)
"""Every function on a problem that is small, has no symmetry to hide behind, and is differentiable at its inputs."""


def make(
    shape: Sequence[int] | None,
    device: str,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    integers: bool = False,
) -> Tensor | None:
    """A random tensor. `channels_last` applies to 4-D shapes."""
    if shape is None:
        return None
    if integers:
        t = (torch.randint(-2, 3, tuple(shape)) * (torch.rand(tuple(shape)) < 0.5)).to(dtype)
    else:
        t = torch.randn(tuple(shape), dtype=torch.float64).to(dtype)
    if channels_last and t.dim() == 4:
        t = t.contiguous(memory_format=torch.channels_last)
    return t.to(device)


def leaves(tensors: Sequence[Tensor | None], wants: Sequence[bool] | None = None) -> list[Tensor | None]:
    """Copies that ask for gradients, with the strides of the originals."""
    wants = [True] * len(tensors) if wants is None else wants
    return [None if t is None else t.detach().clone().requires_grad_(w) for t, w in zip(tensors, wants, strict=True)]


def run(
    function: Callable[..., Tensor], tensors: Sequence[Tensor | None], dy: Tensor | None = None
) -> list[Tensor | None]:
    """[result, gradient of every tensor] of a function, backward from `dy` (ones if None)."""
    inputs = leaves(tensors)
    y = function(*inputs)
    y.backward(torch.ones_like(y) if dy is None else dy.to(y.dtype))
    return [y.detach(), *(None if t is None else t.grad for t in inputs)]


def judge(problem: Problem, tensors: Sequence[Tensor | None], integers: bool = False) -> None:
    """Result and every gradient against the reference and torch, in torch's memory formats."""
    torchs = run(problem.torchs, tensors)
    dy = make(torchs[0].shape, str(torchs[0].device), torchs[0].dtype, integers=integers)
    if torchs[0].is_contiguous(memory_format=torch.channels_last) and dy.dim() == 4:
        dy = dy.contiguous(memory_format=torch.channels_last)
    torchs = run(problem.torchs, tensors, dy)
    ours = run(problem.ours, tensors, dy)
    exact = run(problem.reference, [None if t is None else t.double().cpu() for t in tensors], dy.double().cpu())
    names = ["result", "gradient of input", "gradient of weight", "gradient of bias"]
    for a, b, c, name in zip(ours, torchs, exact, names, strict=False):
        what = f"{problem.name}: {name}"
        if a is not None and b is not None:
            assert_same_form(a, b, what, loose=name != "result" or problem.function not in ATEN)
        if integers and _is_exact(problem):
            assert_exact(a, c, what)
        assert_as_good(a, b, c, what)


def _is_exact(problem: Problem) -> bool:
    """Whether small integers give an answer without rounding: every average must be over a power of two."""
    window = problem.options.get("pool_kernel_size", 2)
    return problem.options.get("pool") != "avg" or window == 2
