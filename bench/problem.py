"""A case with its tensors: inputs, weights, and the step that a provider runs on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import networks
from bench.cases import Case, Layer

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
FORMATS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
Forward = Callable[[Tensor], Tensor]
Step = Callable[[int], tuple[Tensor, ...]]


@dataclass
class Problem:
    """A case on a device.

    inputs: several copies of x (N, C, H, W); a step takes them in turn so that one call does not find the last call's
    input in the cache. weight, bias: of a layer. dy: the gradient of the output. labels: of a network.
    """

    case: Case
    device: torch.device
    inputs: list[Tensor]
    weight: Tensor | None = None
    bias: Tensor | None = None
    dy: Tensor | None = None
    labels: Tensor | None = None
    model: nn.Sequential | None = None
    dtype: torch.dtype = torch.float32
    placed: dict[str, list[Tensor]] = field(default_factory=dict)

    def in_layout(self, layout: str) -> list[Tensor]:
        """The inputs in that memory format, one set for all contenders: large ones would not fit several times."""
        if layout not in self.placed:
            self.placed[layout] = [x.detach().contiguous(memory_format=FORMATS[layout]) for x in self.inputs]
        return self.placed[layout]


def problem(case: Case, device: torch.device, copies: int = 1, seed: int = 0) -> Problem:
    """Random tensors for the case; the same seed gives the same values."""
    g = torch.Generator(device=device).manual_seed(seed)
    dtype = DTYPES[case.precision]

    def randn(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(shape, device=device, generator=g).mul_(scale).to(dtype)

    if case.layer is None:
        x = [randn(case.batch, *networks.IMAGES[case.network]) for _ in range(copies)]
        labels = torch.randint(networks.CLASSES, (case.batch,), device=device, generator=g)
        return Problem(case, device, x, labels=labels, model=networks.build(case.network), dtype=dtype)
    found = case.layer
    x = [randn(case.batch, found.c, found.h, found.w) for _ in range(copies)]
    made = Problem(case, device, x, dtype=dtype)
    if found.op == "conv2d":
        fan_in = (found.c // found.groups) * found.kernel[0] * found.kernel[1]
        made.weight = randn(found.k, found.c // found.groups, *found.kernel, scale=fan_in**-0.5)
        if found.bias or case.op != "conv2d":
            made.bias = randn(found.k)
    if case.work in ("dgrad", "wgrad", "training"):
        p, q = found.out
        if case.op == "conv2d_relu_pool2d":
            p, q = p // 2, q // 2
        made.dy = randn(case.batch, found.k_out, p, q)
    return made


def placed(model: nn.Module, problem: Problem, layout: str) -> nn.Module:
    """The model on the problem's device, in its type, with weights in that memory format."""
    typed: Any = model.to(problem.device, problem.dtype)
    moved: nn.Module = typed.to(memory_format=FORMATS[layout])
    return moved


def arguments(found: Layer, op: str) -> tuple[Any, ...]:
    """The arguments of the function after its tensors."""
    if op == "max_pool2d":
        return (found.kernel, found.stride, found.padding, (1, 1), found.ceil_mode)
    if op == "avg_pool2d":
        return (found.kernel, found.stride, found.padding, found.ceil_mode)
    return (found.stride, found.padding, found.dilation, found.groups)


def layer_forward(problem: Problem, api: Any, layout: str) -> tuple[Forward, list[Tensor]]:
    """The case's function out of `api`, bound to its own copies of the parameters; (forward, parameters)."""
    found = problem.case.layer
    assert found is not None
    function, more = getattr(api, problem.case.op), arguments(found, problem.case.op)
    if problem.weight is None:
        return (lambda x: function(x, *more)), []
    weight = problem.weight.clone(memory_format=FORMATS[layout])
    bias = None if problem.bias is None else problem.bias.clone()
    return (lambda x: function(x, weight, bias, *more)), [weight] if bias is None else [weight, bias]


def step(problem: Problem, forward: Forward, parameters: Sequence[Tensor], layout: str) -> Step:
    """What is timed: `step(i)` runs the case's pass on input i and returns what has to be right.

    inference, fprop: (output,). dgrad: (input gradient,). wgrad: (weight gradient, bias gradient). training: the
    output, the input's gradient unless the input is an image, and the parameters' gradients.
    """
    work = problem.case.work
    inputs = problem.in_layout(layout)
    if problem.case.layer is None:
        return network_step(problem, forward, parameters, inputs)
    if work == "inference":

        def inference(i: int) -> tuple[Tensor, ...]:
            with torch.inference_mode():
                return (forward(inputs[i % len(inputs)]),)

        return inference
    wants_x = work in ("fprop", "dgrad", "training") and not problem.case.layer.from_image
    wants_w = work in ("fprop", "wgrad", "training")
    inputs = [x.requires_grad_(wants_x) for x in inputs]
    for parameter in parameters:
        parameter.requires_grad_(wants_w)
    if work == "fprop":
        return lambda i: (forward(inputs[i % len(inputs)]),)
    leaves = [[*([x] if wants_x else []), *(parameters if wants_w else [])] for x in inputs]
    dy = problem.dy
    assert dy is not None
    dy = dy.contiguous(memory_format=FORMATS[layout])
    if work == "training":

        def training(i: int) -> tuple[Tensor, ...]:
            y = forward(inputs[i % len(inputs)])
            return (y, *torch.autograd.grad(y, leaves[i % len(inputs)], dy))

        return training
    outputs = [forward(x) for x in inputs]
    return lambda i: torch.autograd.grad(outputs[i % len(inputs)], leaves[i % len(inputs)], dy, retain_graph=True)


def network_step(problem: Problem, forward: Forward, parameters: Sequence[Tensor], inputs: list[Tensor]) -> Step:
    """Inference: the scores. Training: zero, forward, cross-entropy, backward, SGD; the scores and the gradients."""
    if problem.case.work == "inference":

        def inference(i: int) -> tuple[Tensor, ...]:
            with torch.inference_mode():
                return (forward(inputs[i % len(inputs)]),)

        return inference
    # A rate so small that the weights, and with them the work and the expected result, stay what they were.
    optimizer = torch.optim.SGD(parameters, lr=1e-7)
    labels = problem.labels
    assert labels is not None

    def training(i: int) -> tuple[Tensor, ...]:
        optimizer.zero_grad(set_to_none=True)
        scores = forward(inputs[i % len(inputs)])
        loss: Any = F.cross_entropy(scores.float(), labels)
        loss.backward()
        optimizer.step()
        gradients = [p.grad for p in parameters if p.grad is not None]
        return (scores.detach(), *gradients)

    return training
