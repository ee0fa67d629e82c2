"""lenet, lenet_predict, lenet_loss: arguments checked, path chosen, result returned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.compiler import is_compiling

from kernels import calls
from kernels.backend import CPU, TRITON, decline, path, unsupported
from kernels.calls import Prepared
from kernels.common.registration import any_requires_grad, may_need_gradient
from kernels.cpu import front
from kernels.cpu import lenet as cpu_lenet
from kernels.lenet import autograd, layers
from kernels.lenet.geometry import DTYPES, LeNetGeometry, check_dtypes

POOLS, ACTIVATIONS = ("max", "avg"), ("relu", "tanh")
ARITHMETIC = {"float32": torch.float32, "tf32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_known_lenet = front.lenet.ask


def lenet(
    input: Tensor,
    parameters: Sequence[Tensor],
    *,
    padding: int = 2,
    pool: str = "max",
    activation: str = "relu",
    arithmetic: str | None = None,
) -> Tensor:
    """LeNet-5: input [n, 1, h, w] and its ten parameters -> scores [n, classes] in the input's dtype.

    parameters: weight and bias of conv1, conv2, fc1, fc2, fc3 in this order, as in torch's layers; all sizes are read
    off them. float32, float16 or bfloat16. padding: of conv1. pool: "max" or "avg"; activation: "relu" or "tanh".
    arithmetic: "float32", "tf32", "float16" or "bfloat16", the numbers that are multiplied (sums are float32). None:
    the input's dtype, or autocast's inside autocast; for float32, TF32 where torch's flags allow it to convolutions
    and to linear layers. On the layer path it holds no more than torch's flags do.

    On CUDA one kernel, above two images a multiprocessor a short one before it; a gradient of the parameters in
    three. A gradient of the input, higher derivatives and torch.func go through the layers. An infinite pixel or
    activation gives NaN. Raises ValueError for unknown names, RuntimeError for tensors that do not fit, and
    NotImplementedError under backend("triton") for what has no kernel.
    """
    if not is_compiling():
        known = _known_lenet(input, *parameters, padding, pool, activation, arithmetic)
        if known is not None:
            return known  # type: ignore[no-any-return]
    scores: Tensor = _run(input, None, parameters, (padding, pool, activation, arithmetic, "scores"))
    return scores


def lenet_predict(
    input: Tensor,
    parameters: Sequence[Tensor],
    *,
    padding: int = 2,
    pool: str = "max",
    activation: str = "relu",
    arithmetic: str | None = None,
) -> tuple[Tensor, Tensor]:
    """The classes (int64 [n]) and their probabilities (float32 [n, classes]); no gradients. Arguments as in `lenet`."""
    with torch.no_grad():
        found: tuple[Tensor, Tensor]
        found = _run(input, None, parameters, (padding, pool, activation, arithmetic, "prediction"))
        return found


def lenet_loss(
    input: Tensor,
    labels: Tensor,
    parameters: Sequence[Tensor],
    *,
    padding: int = 2,
    pool: str = "max",
    activation: str = "relu",
    arithmetic: str | None = None,
) -> tuple[Tensor, Tensor]:
    """The cross-entropy of each image (float32 [n]; take its mean or sum) and the scores, which carry no gradient.

    labels: int64 [n], each from 0 to classes - 1; on CUDA any other gives a loss of NaN. The rest as in `lenet`.
    """
    found: tuple[Tensor, Tensor]
    found = _run(input, labels, parameters, (padding, pool, activation, arithmetic, "loss"))
    return found


def _run(input: Tensor, labels: Tensor | None, parameters: Sequence[Tensor], numbers: tuple[Any, ...]) -> Any:
    """What the call named by the last of `numbers` returns."""
    tensors = (input, labels, *parameters)
    if path(input) == TRITON:
        return calls.run(_resolve, tensors, numbers)
    return _resolve(*tensors, *numbers)(*tensors)


def _resolve(x: Any, labels: Any, *rest: Any) -> Callable[..., Any]:
    parameters, (padding, pool, activation, arithmetic, output) = rest[:-5], rest[-5:]
    style = _style(pool, activation, arithmetic)
    if labels is not None and (labels.dtype != torch.int64 or labels.shape != x.shape[:1]):
        raise RuntimeError(f"lenet_loss: labels must be int64 [{x.shape[0]}], not {labels.dtype} {tuple(labels.shape)}")
    fused = _fused(x, labels, parameters, padding, style, arithmetic, output)
    return fused or (
        lambda x, labels, *parameters: _by_layers(x, labels, parameters, padding, style, arithmetic, output)
    )


def _style(pool: str, activation: str, arithmetic: str | None) -> tuple[bool, bool]:
    """(average, tanh) of the two names; ValueError for a name that is none."""
    for name, value, known in (("pool", pool, POOLS), ("activation", activation, ACTIVATIONS)):
        if value not in known:
            raise ValueError(f"lenet: {name} must be one of {known}, not {value!r}")
    if arithmetic is not None and arithmetic not in ARITHMETIC:
        raise ValueError(f"lenet: arithmetic must be one of {tuple(ARITHMETIC)} or None, not {arithmetic!r}")
    return pool == "avg", activation == "tanh"


def _numbers(x: Tensor, arithmetic: str | None) -> tuple[torch.dtype, str, torch.dtype]:
    """(dtype of the factors, their precision, dtype of the scores)."""
    if arithmetic is not None:
        return ARITHMETIC[arithmetic], "tf32" if arithmetic == "tf32" else "float32", x.dtype
    if (x.is_cuda or x.is_cpu) and torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        return dtype, "flags", dtype
    return x.dtype, "flags", x.dtype


def _fused(
    x: Tensor,
    labels: Tensor | None,
    parameters: Sequence[Tensor],
    padding: int,
    style: tuple[bool, bool],
    arithmetic: str | None,
    output: str,
) -> Callable[..., Any] | None:
    """The call on the operator, or None where the layers must run it."""
    g = LeNetGeometry.of(x, parameters, padding)
    if path(x) != TRITON:
        return None
    numbers = _numbers(x, arithmetic)
    check_dtypes(x, parameters, mixed=arithmetic is not None or numbers[0] != x.dtype)
    reason = unsupported("lenet", x) or g.unsupported()
    if reason is None and (x.dtype not in DTYPES or numbers[0] not in DTYPES):
        reason = f"lenet: {x.dtype} has no fused kernel (supported: float32, float16, bfloat16)"
    if reason is not None:
        decline(reason)
        return None
    keep = any_requires_grad(tuple(parameters))
    if g.n == 0 or any_requires_grad((x,)) or (may_need_gradient(x, *parameters) and not keep):
        return None
    if torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0:
        return None
    pick: Any = {"scores": 0, "prediction": (2, 1), "loss": (3, 0)}[output]
    prepared = Prepared(autograd.lenet, (padding, *style, *numbers, output, keep), pick)
    if all(t.is_contiguous() for t in (x, *parameters)):
        return prepared
    return lambda x, labels, *parameters: prepared(x.contiguous(), labels, *(p.contiguous() for p in parameters))


def _by_layers(
    x: Tensor, labels: Tensor | None, parameters: Any, padding: int, style: tuple[bool, bool], number: Any, output: str
) -> Any:
    scores = _layers(x, parameters, padding, style, number)
    if output == "scores":
        return scores
    if labels is None:
        return scores.argmax(1), F.softmax(scores.float(), dim=1)
    return F.cross_entropy(scores.float(), labels, reduction="none"), scores.detach()


def _layers(x: Tensor, parameters: Sequence[Tensor], padding: int, style: tuple[bool, bool], arithmetic: Any) -> Tensor:
    """The network by its layers, or compiled for the CPU; a reduced arithmetic is that of the tensors."""
    compute = ARITHMETIC[arithmetic] if arithmetic else x.dtype
    if compute != x.dtype:
        x, dtype = x.to(compute), x.dtype
        return _layers(x, [p.to(compute) for p in parameters], padding, style, None).to(dtype)
    average, tanh = style
    if path(x) == CPU and not tanh:
        w1, b1, w2, b2, w3, b3, w4, b4, w5, b5 = parameters
        return cpu_lenet.forward(x, w1, b1, w2, b2, w3, b3, w4, b4, w5, b5, "avg" if average else "max", padding)
    return layers.lenet(x, parameters, padding, *style)
