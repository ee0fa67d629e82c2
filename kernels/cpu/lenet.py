"""The whole LeNet-5 on CPU tensors: one compiled call forward, one backward."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.common.signature import is_eager
from kernels.cpu import front, native
from kernels.cpu.conv import conv2d_relu_pool2d
from kernels.cpu.guard import TYPES, plain, plain_gradient
from kernels.cpu.pool_plan import layout

SHAPES = ((6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,), (120, 400), (120,), (84, 120), (84,))
"""Shapes of the first eight parameters; the last layer has 84 inputs and up to MOST_CLASSES outputs."""
MOST_CLASSES = 64
FRAME = 32
"""Side of the padded image."""
SAVED = 6 * 14 * 14 + 16 * 5 * 5 + 120 + 84
CODES = 6 * 14 * 14 + 16 * 5 * 5
"""csrc/lenet.h: floats and bytes per image that the backward pass reads."""
BLOCK = 16
"""Images that one thread takes at a time."""


class Plan(NamedTuple):
    """One batch size of LeNet, ready to run."""

    address: int
    fields: native.LeNetPlan
    classes: int


@lru_cache(maxsize=256)
def plan_of(shape: tuple[int, ...], padding: int, classes: int, average: bool, bf16: bool, threads: int) -> Plan | None:
    """The plan for images of this shape, None where the kernel does not apply."""
    if len(shape) != 4 or shape[1] != 1 or shape[2] != shape[3] or not 0 <= padding <= 2:
        return None
    if shape[2] + 2 * padding != FRAME or not shape[0] or not 1 <= classes <= MOST_CLASSES:
        return None
    workers = max(1, min(threads, shape[0] // BLOCK))
    fields = native.LeNetPlan(shape[0], shape[2], padding, classes, average, bf16, workers)
    return Plan(native.address(fields), fields, classes)


def layers(x: Tensor, parameters: tuple[Tensor, ...], pool: str, padding: int) -> Tensor:
    """The same network layer by layer: any geometry, any dtype, every order of derivative."""
    w1, b1, w2, b2, w3, b3, w4, b4, w5, b5 = parameters
    y = conv2d_relu_pool2d(x, w1, b1, padding=padding, pool=pool)
    y = conv2d_relu_pool2d(y, w2, b2, pool=pool).flatten(1)
    y = torch.relu_(F.linear(y, w3, b3))
    y = torch.relu_(F.linear(y, w4, b4))
    return F.linear(y, w5, b5)


_pack_addresses = struct.Struct("10P").pack


def addresses(tensors: Iterable[Tensor]) -> bytes:
    """csrc/lenet.h: struct LeNetParameters."""
    return _pack_addresses(*[t.data_ptr() for t in tensors])


def run(
    kernels: native.Kernels, plan: Plan, x: Tensor, parameters: tuple[Tensor, ...], training: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Logits, and what the backward pass reads: activations (float32) and pool codes."""
    n = x.shape[0]
    logits = torch.empty((n, plan.classes), dtype=x.dtype)
    saved = torch.empty(n * SAVED, dtype=torch.float32) if training else None
    codes = torch.empty(n * CODES, dtype=torch.uint8) if training else None
    status = kernels.lenet_forward(
        plan.address,
        x.data_ptr(),
        addresses(parameters),
        logits.data_ptr(),
        None if saved is None else saved.data_ptr(),
        None if codes is None else codes.data_ptr(),
    )
    native.check(status)
    return logits, saved, codes


class LeNet(torch.autograd.Function):
    """The network as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *more: Any) -> Tensor:
        """Logits [n, classes] of x, the ten parameters, plan, kernels, pool, padding."""
        parameters, (plan, kernels, pool, padding) = more[:10], more[10:]
        logits, saved, codes = run(kernels, plan, x, parameters, True)
        ctx.plan, ctx.kernels, ctx.pool, ctx.padding = plan, kernels, pool, padding
        ctx.save_for_backward(x, saved, codes, *parameters)
        return logits

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the ten parameters; by the layers where the gradient is differentiated or transformed."""
        x, saved, codes, *parameters = ctx.saved_tensors
        plan: Plan = ctx.plan
        wanted = ctx.needs_input_grad[:11]
        if torch.is_grad_enabled() or not plain_gradient(g):
            return layer_gradients(x, tuple(parameters), g, ctx.pool, ctx.padding, wanted) + (None,) * 4
        if not g.is_contiguous():
            g = g.contiguous()
        gradients = [torch.empty(p.shape, dtype=torch.float32) for p in parameters]
        status = ctx.kernels.lenet_backward(
            plan.address,
            g.data_ptr(),
            x.data_ptr(),
            addresses(parameters),
            saved.data_ptr(),
            codes.data_ptr(),
            addresses(gradients),
        )
        native.check(status)
        if x.dtype is not torch.float32:
            gradients = [t.to(x.dtype) for t in gradients]
        return (None, *gradients, None, None, None, None)


def layer_gradients(
    x: Tensor, parameters: tuple[Tensor, ...], g: Tensor, pool: str, padding: int, wanted: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """Differentiable gradients: the layers run again under autograd."""
    inputs = (x, *parameters)
    with torch.enable_grad():
        logits = layers(x, parameters, pool, padding)
    chosen = [t for t, want in zip(inputs, wanted, strict=True) if want]
    found = iter(torch.autograd.grad(logits, chosen, g, create_graph=torch.is_grad_enabled()))
    return tuple(next(found) if want else None for want in wanted)


def find_plan(x: Tensor, parameters: tuple[Tensor, ...], pool: str, padding: int) -> Plan | None:
    """The plan of a call on plain tensors, None where the layers are to run."""
    if native.KERNELS is None or type(x) not in TYPES or not (is_eager() and plain(x)):
        return None
    dtype = x.dtype
    if x.requires_grad or x.dim() != 4 or layout(x.shape, x.stride()) is not False:
        return None
    for p in parameters:
        if not (plain(p) and p.dtype is dtype and p.is_contiguous()):
            return None
    classes = parameters[9].shape[0] if parameters[9].dim() == 1 else 0
    shapes = (*SHAPES, (classes, 84), (classes,))
    if any(p.shape != shape for p, shape in zip(parameters, shapes, strict=True)):
        return None
    return plan_of(x.shape, padding, classes, pool == "avg", dtype is torch.bfloat16, torch.get_num_threads())


def forward(
    x: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    w3: Tensor,
    b3: Tensor,
    w4: Tensor,
    b4: Tensor,
    w5: Tensor,
    b5: Tensor,
    pool: str = "max",
    padding: int = 2,
) -> Tensor:
    """Logits [n, classes] of images x [n, 1, h, w]: conv1, ReLU, pool, conv2, ReLU, pool, three linear layers.

    The parameters are those of torch's two Conv2d and three Linear layers; pool is "max" or "avg" of 2x2 (ValueError
    otherwise); padding is the first convolution's. LeNet-5 itself (32x32 after padding, 6 and 16 filters, 120 and 84
    units, float32 or bfloat16) is one compiled call and one node of the graph; other sizes run layer by layer.
    """
    parameters = (w1, b1, w2, b2, w3, b3, w4, b4, w5, b5)
    if pool not in ("max", "avg"):
        raise ValueError(f"lenet: pool must be 'max' or 'avg', not {pool!r}")
    plan = find_plan(x, parameters, pool, padding)
    if plan is None:
        return layers(x, parameters, pool, padding)
    kernels = native.KERNELS
    assert kernels is not None
    how: front.Action | front.Kernel
    if torch.is_grad_enabled() and any(p.requires_grad for p in parameters):
        extra = (plan, kernels, pool, padding)
        y: Tensor = LeNet.apply(x, *parameters, *extra)  # type: ignore[no-untyped-call]
        how = front.Action(LeNet.apply, extra)
    else:
        y = run(kernels, plan, x, parameters, False)[0]
        how = front.Kernel("lenet_forward", "lenet", plan, (x.shape[0], plan.classes), (plan.classes, 1))
    front.lenet.remember((x, *parameters), (padding, pool, "relu", None), how)
    return y
