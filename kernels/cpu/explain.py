"""What the CPU path does with a call, and why."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kernels.common.signature import is_eager
from kernels.cpu import native
from kernels.cpu.conv import conv2d, conv2d_relu, conv2d_relu_pool2d, find_plan
from kernels.cpu.guard import TYPES, plain
from kernels.cpu.lenet import find_plan as find_lenet_plan
from kernels.cpu.lenet import forward as lenet
from kernels.cpu.pool import avg_pool2d, find_avg_plan, find_max_plan, max_pool2d, sliceable

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "conv2d": conv2d,
    "conv2d_relu": conv2d_relu,
    "conv2d_relu_pool2d": conv2d_relu_pool2d,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "lenet": lenet,
}
KINDS = {
    "direct": "conv_forward: direct convolution with its epilogue in registers",
    "depthwise": "depthwise_forward: one plane at a time",
    "pool": "torch's convolution (oneDNN), then pool_forward: ReLU and pool in one pass",
}


@dataclass(frozen=True)
class Description:
    """tier: "compiled", "strided" (elementwise operators on strided slices) or "torch". kernel: what runs."""

    tier: str
    kernel: str
    reason: str
    threads: int

    def __str__(self) -> str:
        return f"{self.tier}: {self.kernel} ({self.threads} threads): {self.reason}"


def describe(function_name: str, *args: Any, **kwargs: Any) -> Description:
    """How the CPU path runs `function_name(*args, **kwargs)`; nothing is run.

    function_name: one of the package's five functions, or "lenet". KeyError for another name, TypeError for arguments
    that the function does not take.
    """
    bound = inspect.signature(FUNCTIONS[function_name]).bind(*args, **kwargs)
    bound.apply_defaults()
    a = bound.arguments
    obstacle = _obstacle(next(iter(a.values())))
    if obstacle is not None:
        return Description("torch", "torch's operators", obstacle, torch.get_num_threads())
    found = _compiled(function_name, a)
    if found is not None:
        assert native.KERNELS is not None
        kernel, threads = found
        return Description("compiled", f"{kernel}, {native.KERNELS.isa}", native.REASON, threads)
    if native.KERNELS is None:
        if function_name.endswith("_pool2d") and function_name != "conv2d_relu_pool2d" and sliceable(function_name, a):
            return Description("strided", "elementwise operators on strided slices", native.REASON, 1)
        return Description("torch", "torch's operators", native.REASON, torch.get_num_threads())
    reason = "torch's operators were measured as fast for this problem, or it is none that the kernels do"
    return Description("torch", "torch's operators", reason, torch.get_num_threads())


def _obstacle(x: Any) -> str | None:
    """Why no kernel of ours may take the call, whatever its sizes."""
    if type(x) not in TYPES:
        return f"the input is a {type(x).__name__}, no plain tensor"
    if not is_eager():
        return "a compiler, tracer, mode, transform, forward-mode differentiation or autocast is at work"
    if not plain(x):
        return f"the input is {x.dtype} on {x.device} in layout {x.layout}: the kernels take dense float32 and bfloat16"
    return None


def _compiled(name: str, a: dict[str, Any]) -> tuple[str, int] | None:
    """The kernel and its threads, None where torch's operators run."""
    if native.KERNELS is None:
        return None
    values = list(a.values())
    if name == "lenet":
        parameters: tuple[Tensor, ...] = tuple(values[1:11])
        lenet_plan = find_lenet_plan(a["x"], parameters, a["pool"], a["padding"])
        return None if lenet_plan is None else ("lenet_forward: the whole network", lenet_plan.fields.threads)
    if name in ("max_pool2d", "avg_pool2d"):
        pool_plan = find_max_plan(*values) if name == "max_pool2d" else find_avg_plan(*values)
        return None if pool_plan is None else ("pool_forward", pool_plan.fields.threads)
    window = (a["pool"], *values[8:12]) if name == "conv2d_relu_pool2d" else (None, None, None, 0, False)
    x, w, b, stride, padding, dilation, groups = values[:7]
    plan = find_plan(x, w, b, stride, padding, dilation, groups, name != "conv2d", window)
    if plan is None:
        return None
    fields = plan.fields if plan.fields is not None else plan.after.fields if plan.after is not None else None
    return KINDS[plan.kind], 1 if fields is None else fields.threads
