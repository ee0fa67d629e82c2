"""What one operation of a network is: its kind, its window and its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kernels import ConvReLU2d, ConvReLUPool2d
from kernels.common.arguments import Pair, pair

KIND_NAMES = {
    "conv": "convolution",
    "relu": "ReLU",
    "tanh": "tanh",
    "max": "max pool",
    "avg": "average pool",
    "flatten": "flatten",
    "linear": "fully connected",
    "scale": "batch normalisation",
    "identity": "dropout, asleep",
    "other": "other",
}
_FUNCTIONS = {
    "relu": "relu",
    "relu_": "relu",
    "tanh": "tanh",
    "tanh_": "tanh",
    "max_pool2d": "max",
    "avg_pool2d": "avg",
    "adaptive_max_pool2d": "max",
    "adaptive_avg_pool2d": "avg",
    "amax": "max",
    "mean": "avg",
    "flatten": "flatten",
    "view": "flatten",
    "reshape": "flatten",
    "dropout": "identity",
    "linear": "linear",
    "conv2d": "conv",
}
# Functions that leave every value where it is.
_SAME = ("contiguous", "clone", "detach", "to", "float", "cpu", "cuda")


@dataclass(frozen=True, eq=False)
class Op:
    """kind: conv, relu, tanh, max, avg, flatten, linear, scale (batch norm), identity, or other.

    Sizes are (rows, columns). padding is what stands before the first row and column. weight of a conv is
    (K, C / groups, R, S), of a linear layer (out, in), of a scale (C,).
    """

    kind: str
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    weight: Tensor | None = None
    bias: Tensor | None = None
    # False where a page or a reader would need more than the fields above to redo the numbers.
    plain: bool = True

    @property
    def parameters(self) -> int:
        """Numbers learned in training."""
        return sum(t.numel() for t in (self.weight, self.bias) if t is not None)

    @classmethod
    def of_conv(cls, module: nn.Conv2d) -> Op:
        """The convolution of a layer, fused or not."""
        return _conv(
            module.weight,
            module.bias,
            module.stride,
            module.padding,
            module.dilation,
            module.groups,
            plain=module.padding_mode == "zeros",
        )


_OTHER = Op("other", plain=False)


def describe_module(module: nn.Module, x: Tensor) -> Op:
    """The operation of a leaf module that reads x; of a fused layer, its last one."""
    if isinstance(module, ConvReLUPool2d):
        return _pool(
            "max" if module.pool == "max" else "avg",
            module.pool_kernel_size,
            module.pool_stride,
            module.pool_padding,
            plain=module.pool == "max" or not module.ceil_mode,
        )
    if isinstance(module, (ConvReLU2d, nn.ReLU)):
        return Op("relu")
    if isinstance(module, nn.Conv2d):
        return Op.of_conv(module)
    if isinstance(module, nn.Linear):
        return Op("linear", weight=module.weight.detach(), bias=_detached(module.bias))
    if isinstance(module, nn.MaxPool2d):
        return _pool("max", module.kernel_size, module.stride, module.padding, module.dilation)
    if isinstance(module, nn.AvgPool2d):
        plain = module.divisor_override is None and not (module.padding and not module.count_include_pad)
        return _pool("avg", module.kernel_size, module.stride, module.padding, plain=plain and not module.ceil_mode)
    if isinstance(module, (nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)):
        kind = "max" if isinstance(module, nn.AdaptiveMaxPool2d) else "avg"
        return _global_pool(kind, x) if module.output_size in (1, (1, 1)) else Op(kind, plain=False)
    if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
        scale = 1 / torch.sqrt(module.running_var + module.eps) * (1 if module.weight is None else module.weight)
        shift = (0 if module.bias is None else module.bias) - module.running_mean * scale
        return Op("scale", weight=scale.detach(), bias=_detached(shift))
    if isinstance(module, nn.Tanh):
        return Op("tanh")
    if isinstance(module, nn.Flatten):
        return Op("flatten", plain=module.start_dim == 1 and module.end_dim == -1)
    if isinstance(module, (nn.Identity, nn.Dropout, nn.Dropout2d)):
        return Op("identity")
    return _OTHER


def describe_function(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor
) -> Op | None:
    """The operation of a function called between layers; None for one that changes nothing (contiguous, to, ...).

    "other" stands for a function that is not known, such as a sum or leaky_relu.
    """
    name = getattr(func, "__name__", "")
    kind = _FUNCTIONS.get(name)
    if kind is None or not args or not isinstance(args[0], Tensor):
        return None if name in _SAME else _OTHER
    x = args[0]
    if kind == "flatten":
        if result.shape == x.shape:
            return None
        return Op("flatten") if result.dim() == 2 and len(result) == len(x) else _OTHER
    if kind == "linear":
        weight, bias = _arguments(args, kwargs, "weight", "bias")
        return Op("linear", weight=weight.detach(), bias=_detached(bias))
    if kind == "conv":
        weight, bias, stride, padding, dilation, groups = _arguments(
            args, kwargs, "weight", "bias", "stride", "padding", "dilation", "groups"
        )
        return _conv(weight, bias, stride or 1, padding or 0, dilation or 1, groups or 1)
    if name == "max_pool2d":
        size, stride, padding, dilation = _arguments(args, kwargs, "kernel_size", "stride", "padding", "dilation")
        return _pool("max", size, stride, padding or 0, dilation or 1)
    if name == "avg_pool2d":
        size, stride, padding, ceil, counts_pad, divisor = _arguments(
            args, kwargs, "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"
        )
        plain = not ceil and divisor is None and not (padding and counts_pad is False)
        return _pool("avg", size, stride, padding or 0, plain=plain)
    if kind in ("max", "avg"):
        # amax and mean over rows and columns, or an adaptive pool to one cell.
        wanted = (1, (1, 1), [1, 1]) if "adaptive" in name else ((2, 3), [2, 3], (-2, -1), [-2, -1])
        whole = x.dim() == 4 and _arguments(args, kwargs, "output_size" if "adaptive" in name else "dim")[0] in wanted
        return _global_pool(kind, x) if whole else Op(kind, plain=False)
    return Op(kind)


def _conv(
    weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int, *, plain: bool = True
) -> Op:
    kernel = (weight.shape[2], weight.shape[3])
    spread = pair(dilation, "trace", "dilation")
    if padding == "same":
        before = (spread[0] * (kernel[0] - 1) // 2, spread[1] * (kernel[1] - 1) // 2)
    else:
        before = (0, 0) if padding == "valid" else pair(padding, "trace", "padding")
    return Op(
        "conv",
        kernel,
        pair(stride, "trace", "stride"),
        before,
        spread,
        groups,
        weight.detach(),
        _detached(bias),
        plain=plain,
    )


def _pool(kind: str, size: Any, stride: Any, padding: Any, dilation: Any = 1, *, plain: bool = True) -> Op:
    kernel = pair(size, "trace", "kernel_size")
    step = kernel if stride is None or stride == [] else pair(stride, "trace", "stride")
    before, spread = pair(padding, "trace", "padding"), pair(dilation, "trace", "dilation")
    return Op(kind, kernel, step, before, spread, plain=plain)


def _global_pool(kind: str, x: Tensor) -> Op:
    size = (x.shape[-2], x.shape[-1])
    return Op(kind, size, size)


def _detached(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any], *names: str) -> list[Any]:
    """Arguments after the input, by position or by name; None where not given."""
    positional = dict(zip(names, args[1:], strict=False))
    return [positional.get(name, kwargs.get(name)) for name in names]
