"""torch's own samples (OpInfo, ModuleInfo) for the operators and layers of this package."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kernels
from tests.kernels.problems import ATEN, OURS, TORCH

DERIVED = ("conv_transpose2d", "conv1d", "max_pool1d", "avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool2d")
"""Operators built on others; torch's function of the same name is what they are held against."""
OPERATORS = ("conv2d", "conv2d_relu", "conv2d_relu_pool2d", "max_pool2d", "avg_pool2d", *DERIVED)
DERIVED_LAYERS = ("ConvTranspose2d", "Conv1d", "MaxPool1d", "AvgPool1d", "AdaptiveAvgPool2d", "AdaptiveMaxPool2d")
LAYERS = ("Conv2d", "ConvReLU2d", "ConvReLUPool2d", "MaxPool2d", "AvgPool2d", *DERIVED_LAYERS)
TORCHS_OWN = (*ATEN, *DERIVED)
"""Those that torch has under the same name."""
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Sample:
    """One call: positional and keyword arguments, the tensors among which are differentiated."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    error: type[BaseException] | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Sample:
        """The same call with every tensor changed."""
        args, kwargs = (
            [change(v) if isinstance(v, Tensor) else v for v in vs] for vs in (self.args, self.kwargs.values())
        )
        return Sample(tuple(args), dict(zip(self.kwargs, kwargs, strict=True)), self.error)

    def tensors(self) -> list[Tensor]:
        """Those that can require a gradient."""
        return [v for v in (*self.args, *self.kwargs.values()) if isinstance(v, Tensor)]

    def __str__(self) -> str:
        show = [str(tuple(v.shape)) if isinstance(v, Tensor) else repr(v) for v in self.args]
        return ", ".join([*show, *(f"{k}={v!r}" for k, v in self.kwargs.items() if not isinstance(v, Tensor))])


@cache
def _op_info(name: str) -> Any:
    from torch.testing._internal.common_methods_invocations import op_db

    wanted = f"nn.functional.{name if name in TORCHS_OWN else 'conv2d'}"
    return next(info for info in op_db if info.name == wanted)


def dtypes(operator: str, device: str) -> list[torch.dtype]:
    """Every dtype that torch's operator supports on the device."""
    return sorted(_op_info(operator).supported_dtypes(device), key=str)


@cache
def samples(operator: str, device: str, dtype: torch.dtype) -> list[Sample]:
    """torch's samples of the operator. The fused operators run conv2d's, in integers: no order of rounding there."""
    torch.manual_seed(0)
    found = [
        Sample((s.input, *s.args), dict(s.kwargs))
        for s in _op_info(operator).sample_inputs(device, dtype, requires_grad=False)
    ]
    if operator in TORCHS_OWN:
        return found
    if dtype.is_floating_point:
        found = [s.map(lambda t: t.round().clamp(-2, 2)) for s in found]
    if operator == "conv2d_relu":
        return found
    return [Sample(s.args, {**s.kwargs, "pool": pool}) for s in found for pool in ("max", "avg")]


def error_samples(operator: str, device: str) -> list[Sample]:
    """Calls that torch refuses, with the exception it raises; none where torch lists none (conv_transpose2d)."""
    torch.manual_seed(0)
    if _op_info(operator).error_inputs_func is None:
        return []
    return [
        Sample((e.sample_input.input, *e.sample_input.args), dict(e.sample_input.kwargs), e.error_type)
        for e in _op_info(operator).error_inputs(device)
    ]


def functions(operator: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Ours and torch's."""
    if operator in DERIVED:
        return getattr(kernels, operator), getattr(F, operator)
    return OURS[operator], TORCH[operator]


def declines(operator: str, sample: Sample) -> bool:
    """Whether Triton leaves this call to torch: adaptive pools with windows of several sizes."""
    if not operator.startswith("adaptive"):
        return False
    h, w = sample.args[0].shape[-2:]
    size = sample.args[1] if len(sample.args) > 1 else sample.kwargs["output_size"]
    p, q = size if isinstance(size, (tuple, list)) else (size, size)
    return bool(h % (p or h) or w % (q or w))


def declines_layer(layer: str, sample: LayerSample) -> bool:
    """The same of a layer."""
    size = (*sample.args, *sample.kwargs.values())[:1]
    return layer.startswith("Adaptive") and declines("adaptive", Sample((sample.call.args[0], *size), {}))


@dataclass(frozen=True)
class LayerSample:
    """Constructor arguments, the arguments of the call, and the exception torch raises for them, if any."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    call: Sample
    error: type[BaseException] | None = None


def layer_samples(layer: str, device: str, dtype: torch.dtype) -> list[LayerSample]:
    """torch's samples of the layer, and those that its constructor or call must refuse."""
    from torch.testing._internal.common_modules import module_db

    name = layer if hasattr(nn, layer) else "Conv2d"
    info = next(i for i in module_db if i.module_cls is getattr(nn, name))
    options = {"device": device, "dtype": dtype, "requires_grad": False, "training": True}
    torch.manual_seed(0)
    found = [_layer_sample(s) for s in info.module_inputs_func(info, **options)]
    if info.module_error_inputs_func is not None:
        errors = info.module_error_inputs_func(info, **options)
        found += [_layer_sample(e.module_error_input, e.error_type) for e in errors]
    return found


def _layer_sample(s: Any, error: type[BaseException] | None = None) -> LayerSample:
    made, called = s.constructor_input, s.forward_input
    return LayerSample(tuple(made.args), dict(made.kwargs), Sample(tuple(called.args), dict(called.kwargs)), error)


def layer_pair(layer: str, sample: LayerSample, device: str, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """Our layer and torch's, with the same parameters."""
    pools = {"ConvReLUPool2d": nn.MaxPool2d(2)}
    kind = getattr(nn, layer, nn.Conv2d)
    theirs = kind(*sample.args, **sample.kwargs)
    ours = getattr(kernels, layer)(*sample.args, **sample.kwargs)
    ours.load_state_dict(theirs.state_dict())
    if layer.startswith("ConvReLU"):
        theirs = nn.Sequential(theirs, nn.ReLU(), pools.get(layer, nn.Identity()))
    return ours.to(device, dtype), theirs.to(device, dtype)


def formats(sample: Sample) -> Iterator[tuple[str, Sample]]:
    """The call in both memory formats, where it has a 4-D tensor."""
    yield "contiguous", sample
    if any(t.dim() == 4 for t in sample.tensors()):
        yield "channels_last", sample.map(_channels_last)


def _channels_last(t: Tensor) -> Tensor:
    return t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t


def part(items: Sequence[Any], index: int, parts: int) -> list[tuple[int, Any]]:
    """Every `parts`-th item from `index` on, with its number."""
    return [(i, item) for i, item in enumerate(items) if i % parts == index]
