"""Every step of a model at work on one image, read by forward hooks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cnn.errors import UserError
from cnn.see.steps import Op, describe_function, describe_module
from kernels import ConvReLU2d, ConvReLUPool2d, conv2d


@dataclass(frozen=True)
class Step:
    """One operation: what it is, what came out, and which step's output it read.

    output: a detached clone, batch dimension kept. source: index into Trace.steps, -1 for the image, None where
    the input was made by something that no hook sees.
    """

    name: str
    op: Op
    output: Tensor
    source: int | None


@dataclass
class Trace:
    """The image (1, C, H, W), the steps in the order they ran, and what the model returned."""

    image: Tensor
    steps: list[Step] = field(default_factory=list)
    output: Tensor | None = None

    def __getitem__(self, name: str) -> Step:
        """The step of that name; KeyError lists the names."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(f"no step {name!r}; the model has {', '.join(step.name for step in self.steps)}")

    def input_of(self, step: Step) -> Tensor | None:
        """What `step` read: the image, the output of its source, or None where that is unknown."""
        if step.source is None:
            return None
        return self.image if step.source < 0 else self.steps[step.source].output


def trace(model: nn.Module, image: Tensor) -> Trace:
    """Run `model` in evaluation mode on `image` (N, C, H, W) and keep a clone of every step's output.

    Sees modules by forward hooks and the functions called between them (F.relu, torch.flatten, ...). This package's
    fused layers are opened into convolution, activation and pool. Hooks are removed and the mode is restored, also
    when the model raises.
    """
    if image.dim() != 4:
        raise UserError(f"trace: the image must be (N, C, H, W), got {tuple(image.shape)}; add dimensions with [None]")
    recorder = _Recorder(model, image)
    modes = {module: module.training for module in model.modules()}
    handles = []
    try:
        for module in recorder.names:
            handles.append(module.register_forward_pre_hook(recorder.before))
            handles.append(module.register_forward_hook(recorder.after, always_call=True))
        model.eval()
        with torch.no_grad(), recorder:
            output = model(image)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    recorder.rename_shared()
    recorder.trace.output = output.detach().clone() if isinstance(output, Tensor) else None
    return recorder.trace


class _Recorder(TorchFunctionMode):
    """Collects steps; a tensor is known by its identity, so every tensor that was seen is kept alive."""

    def __init__(self, model: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.names = {m: name or type(m).__name__ for name, m in model.named_modules() if not list(m.children())}
        self.trace = Trace(image.detach().clone())
        self.made_by: dict[int, int] = {id(image): -1}
        self.alive: list[Any] = [image]
        self.module_steps: dict[str, list[int]] = {}
        self.depth = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Record a function that is called outside every leaf module."""
        self.depth += 1
        source = self.source(args)
        try:
            result = func(*args, **(kwargs or {}))
        finally:
            self.depth -= 1
        if self.depth == 0 and isinstance(result, Tensor) and result.is_floating_point():
            op = describe_function(func, args, kwargs or {}, result)
            if op is not None:
                label = func.__name__.strip("_") if op.kind == "other" else op.kind
                self.record(self.derived_name(label, source), op, result, source)
            elif source is not None:
                self.made_by[id(result)] = source
                self.alive.append(result)
        return result

    def before(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Functions inside a leaf module are the module's own business. An in-place layer may change its input."""
        self.depth += 1
        if self.depth == 1 and isinstance(module, (ConvReLU2d, ConvReLUPool2d)):
            self.open_fused(module, args[0])

    def after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """One step for a leaf module; the last of three for a fused one."""
        try:
            if self.depth == 1 and isinstance(output, Tensor):
                self.record_module(module, args, output)
        finally:
            self.depth -= 1

    def record_module(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        """What an outermost leaf module has done."""
        op, name = describe_module(module, args[0]), self.names[module]
        if isinstance(module, (ConvReLU2d, ConvReLUPool2d)):
            self.record(f"{name}.{op.kind}", op, output, len(self.trace.steps) - 1)
        else:
            self.module_steps.setdefault(name, []).append(len(self.trace.steps))
            self.record(name, op, output, self.source(args))

    def open_fused(self, module: ConvReLU2d | ConvReLUPool2d, x: Tensor) -> None:
        """Recompute what the fused kernel never writes: the convolution, and before a pool the activation."""
        name, source = self.names[module], self.source((x,))
        padded, padding = module._padded(x)
        y = conv2d(padded, module.weight, module.bias, module.stride, padding, module.dilation, module.groups)
        self.record(f"{name}.conv", Op.of_conv(module), y, source)
        if isinstance(module, ConvReLUPool2d):
            self.record(f"{name}.relu", Op("relu"), F.relu(y), len(self.trace.steps) - 1)

    def source(self, args: tuple[Any, ...]) -> int | None:
        """The step that made the first tensor argument."""
        first = next((a for a in args if isinstance(a, Tensor)), None)
        return None if first is None else self.made_by.get(id(first))

    def derived_name(self, label: str, source: int | None) -> str:
        """A name for what has none: the last layer with weights before it, then the kind, as in fc1.relu."""
        while source is not None and source >= 0:
            step = self.trace.steps[source]
            if step.op.weight is not None:
                return f"{step.name.removesuffix('.conv')}.{label}"
            source = step.source
        return label

    def rename_shared(self) -> None:
        """One activation module used in many places says nothing by its name: call it after each place."""
        for places in self.module_steps.values():
            for i in places if len(places) > 1 else ():
                step = self.trace.steps[i]
                self.trace.steps[i] = replace(step, name=self.unique(self.derived_name(step.op.kind, step.source)))

    def record(self, name: str, op: Op, output: Tensor, source: int | None) -> None:
        """Keep a clone, under a name that is not taken."""
        self.made_by[id(output)] = len(self.trace.steps)
        self.alive.append(output)
        self.trace.steps.append(Step(self.unique(name), op, output.detach().clone(), source))

    def unique(self, name: str) -> str:
        """`name`, or `name-2` and so on when it is taken."""
        taken = {step.name for step in self.trace.steps}
        counted = (name if i == 1 else f"{name}-{i}" for i in count(1))
        return next(n for n in counted if n not in taken)
