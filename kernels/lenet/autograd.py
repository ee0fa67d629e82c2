"""The two operators: the network forward, and the gradients of its ten parameters.

A gradient of the input, derivatives of higher order and torch.func's transforms go through the layers instead: `op`
sends them there, and a backward that is itself recorded (create_graph) computes the layers again.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

from kernels.common.registration import OpSpec, register
from kernels.lenet import layers
from kernels.lenet.geometry import LeNetGeometry

# Places of the arguments of the forward operator.
PARAMETERS = slice(2, 12)
_TENSORS = ", ".join(f"Tensor w{i}, Tensor b{i}" for i in range(1, 6))
_KEPT = ", ".join(f"Tensor {name}" for name in ("y1", "code1", "y2", "code2", "h1", "h2", "packed", "padded"))
_STYLE = "int padding, bool average, bool tanh, ScalarType compute, str precision"


@cache
def _passes() -> Any:
    """The launchers; Triton is imported by the first call that needs it."""
    from kernels.lenet import passes

    return passes


def _outputs(x: Tensor, classes: int, output: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """(scores, share, classes, loss), those that `output` does not ask for empty."""
    n = x.shape[0]
    share = (n, classes) if output != "scores" else (0, classes)
    return (
        x.new_empty((n, classes), dtype=dtype),
        x.new_empty(share, dtype=torch.float32),
        x.new_empty((n if output == "prediction" else 0,), dtype=torch.int64),
        x.new_empty((n if output == "loss" else 0,), dtype=torch.float32),
    )


def _run(x: Tensor, labels: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    parameters, (padding, *style, dtype, output, keep) = rest[:10], rest[10:]
    passes = _passes()
    g = LeNetGeometry.of(x, parameters, padding)
    outputs = _outputs(x, g.classes, output, dtype)
    kept = passes.forward(x, labels, parameters, g, passes.Style(*style), output, keep, outputs)
    return (*outputs, *(kept or [x.new_empty((0,), dtype=d) for _, d in passes.kept_shapes(g, passes.Style(*style))]))


def _fake(x: Tensor, labels: Tensor | None, *rest: Any) -> tuple[Tensor, ...]:
    parameters, (padding, *style, dtype, output, keep) = rest[:10], rest[10:]
    passes = _passes()
    g = LeNetGeometry.of(x, parameters, padding)
    shapes = passes.kept_shapes(g, passes.Style(*style))
    kept = (x.new_empty(shape if keep else (0,), dtype=d) for shape, d in shapes)
    return (*_outputs(x, g.classes, output, dtype), *kept)


def _save(ctx: Any, args: Any, output: Any) -> None:
    x, labels, *rest = args
    if rest[-2] == "prediction" or not rest[-1]:
        raise RuntimeError("lenet: keep must be True, and output scores or loss, when a gradient is needed")
    if ctx.needs_input_grad[0]:
        raise RuntimeError("lenet: the fused operator gives no gradient of the input; call kernels.lenet.lenet")
    scores, share, classes, loss, *kept = output
    by_loss = rest[-2] == "loss"
    ctx.mark_non_differentiable(*kept, share, classes, scores if by_loss else loss)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, labels, *rest[:10], share if by_loss else None, *kept)
    ctx.style, ctx.dtype = rest[10:15], rest[15]


def _backward(ctx: Any, dscores: Tensor | None, *others: Tensor | None) -> tuple[Tensor | None, ...]:
    x, labels, *rest = ctx.saved_tensors
    parameters, (share, *kept) = rest[:10], rest[10:]
    dy = dscores if share is None else others[2]
    tail = (None,) * 8
    if dy is None:
        return (None,) * 12 + tail
    if torch.is_grad_enabled():
        return None, None, *_through_layers(ctx, x, labels, parameters, dy), *tail
    flat = lenet_gradients(dy, share, x, *parameters[2::2], *kept, parameters[0].shape[0], *ctx.style)
    gradients: list[Tensor | None] = []
    first = 0
    for p, want in zip(parameters, ctx.needs_input_grad[PARAMETERS], strict=True):
        # One view each; split and view would take the host three times as long, an eighth of a training step.
        gradients.append(flat.as_strided(p.shape, p.stride(), first) if want else None)
        first += p.numel()
    return None, None, *gradients, *tail


def _through_layers(ctx: Any, x: Tensor, labels: Any, parameters: Any, dy: Tensor) -> list[Tensor | None]:
    """The gradients as a graph of their own."""
    padding, average, tanh, compute, *_ = ctx.style
    y = layers.lenet(x.to(compute), [p.to(compute) for p in parameters], padding, average, tanh).to(ctx.dtype)
    if labels is not None:
        y = torch.nn.functional.cross_entropy(y.float(), labels, reduction="none")
    wanted = [p for p, want in zip(parameters, ctx.needs_input_grad[PARAMETERS], strict=True) if want]
    found = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
    return [next(found) if want else None for want in ctx.needs_input_grad[PARAMETERS]]


def _no_transform(name: str) -> Any:
    def refuse(*_: Any) -> Any:
        raise NotImplementedError(f"lenet: the operator has no {name}; kernels.lenet.lenet takes the layers for it")

    return refuse


def _gradients_run(dy: Tensor, share: Tensor | None, x: Tensor, *rest: Any) -> Tensor:
    weights, kept, (c1, padding, *style) = rest[:4], rest[4:12], rest[12:]
    passes = _passes()
    g = _geometry(x, weights, c1, padding)
    dy = dy.contiguous() if share is None else dy  # the gradient of a mean's losses is one number, expanded
    gradients: Tensor = passes.backward(dy, share, x, weights, kept, g, passes.Style(*style))
    return gradients


def _gradients_fake(dy: Tensor, share: Tensor | None, x: Tensor, *rest: Any) -> Tensor:
    g = _geometry(x, rest[:4], rest[12], rest[13])
    return x.new_empty((sum(math.prod(shape) for shape in g.shapes),), dtype=rest[0].dtype)


def _geometry(x: Tensor, weights: Any, c1: int, padding: int) -> LeNetGeometry:
    n, _, h, w = x.shape
    return LeNetGeometry(n, h, w, padding, c1, *(weight.shape[0] for weight in weights))


def _gradients_save(ctx: Any, args: Any, output: Any) -> None:
    """Nothing: it has no derivative."""


lenet = register(
    OpSpec(
        "lenet",
        f"(Tensor x, Tensor? labels, {_TENSORS}, {_STYLE}, ScalarType dtype, str output, bool keep) -> "
        f"({', '.join(['Tensor'] * 12)})",
        _run,
        _fake,
        _save,
        _backward,
        _no_transform("forward-mode derivative"),
        _no_transform("vmap rule"),
    )
)
lenet_gradients = register(
    OpSpec(
        "lenet_gradients",
        "(Tensor dy, Tensor? share, Tensor x, Tensor w2, Tensor w3, Tensor w4, Tensor w5, "
        f"{_KEPT}, SymInt c1, {_STYLE}) -> Tensor",
        _gradients_run,
        _gradients_fake,
        _gradients_save,
        _no_transform("second derivative"),
        _no_transform("forward-mode derivative"),
        _no_transform("vmap rule"),
    )
)
