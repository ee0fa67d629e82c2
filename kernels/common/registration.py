"""One operator = one torch.library definition with every derivative, transform and dtype rule it needs.

The pattern: define + CPU, CUDA and fake implementations, one hand-written Autograd kernel, a vmap rule and an autocast
rule, behind a front that skips the dispatcher when nothing but plain tensors is involved. Against
torch.library.custom_op and register_autograd it costs a fifth per call, and it is the form under which torch.func,
forward-mode AD, compile and export all give right answers. It needs private names of torch: they are in this file, in
signature.py, and a few more in replay/, precision.py, kernels/cpu and kernels/lenet/op.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad
from torch.autograd.function import _SingleLevelFunction
from torch.library import Library
from torch.utils.flop_counter import register_flop_formula

from kernels.common.replay.learn import Pass
from kernels.common.signature import is_eager, is_plain, records

NAMESPACE = "triton_cnn"
LIBRARY = Library(NAMESPACE, "DEF")

_C = torch._C
_below_autograd = _C._AutoDispatchBelowAutograd
_transforms_active = _C._are_functorch_transforms_active


@dataclass(frozen=True)
class OpSpec:
    """What an operator is. `save`, `backward`, `jvp` and `vmap` are written with the fronts of other operators,
    so that derivatives of any order and any nesting of transforms stay inside the package.

    run(*args): computes on real tensors. fake(*args): empty outputs of the right shape, strides and dtype.
    save(ctx, args, output), backward(ctx, *grads): as in torch.autograd.Function. jvp(ctx, *tangents): reads
    ctx.jvp_args and ctx.jvp_output. vmap(info, dims, *args): as in torch.library.register_vmap.
    flops(*args, out_shape): as in torch.utils.flop_counter, shapes in place of tensors.
    """

    name: str
    schema: str
    run: Callable[..., Any]
    fake: Callable[..., Any]
    save: Callable[..., None]
    backward: Callable[..., Any]
    jvp: Callable[..., Any]
    vmap: Callable[..., Any]
    autocast: bool = False
    flops: Callable[..., int] | None = None


def any_requires_grad(args: tuple[Any, ...]) -> bool:
    """Whether autograd would record a call with these arguments: `records`, in words that torch.compile reads."""
    return torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in args)


def may_need_gradient(*args: Any) -> bool:
    """Whether a derivative of any kind may be asked of a call with these arguments."""
    return any_requires_grad(args) or _transforms_active() or forward_ad._current_level >= 0


def _has_tangent(args: tuple[Any, ...]) -> bool:
    if forward_ad._current_level < 0:
        return False
    return any(isinstance(a, Tensor) and forward_ad.unpack_dual(a).tangent is not None for a in args)


def _function_class(base: Any, spec: OpSpec, forward: Callable[..., Any]) -> Any:
    members = {
        "forward": staticmethod(forward),
        "backward": staticmethod(spec.backward),
        "jvp": staticmethod(spec.jvp),
    }
    return type(f"{spec.name}_backward", (base,), members)


def _autograd_kernel(op: Any, spec: OpSpec) -> Callable[..., Any]:
    """The operator's Autograd key: an ordinary Function, or one functorch level inside torch.func transforms."""

    def forward(ctx: Any, *args: Any) -> Any:
        with _below_autograd():
            output = op(*args)
        spec.save(ctx, args, output)
        if forward_ad._current_level >= 0:
            ctx.jvp_args, ctx.jvp_output = args, output
        return output

    def forward_level(ctx: Any, *args: Any) -> Any:
        # The levels below must go on recording, or grad(grad) and hessian are silently wrong.
        with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(True), _below_autograd():
            output = op(*args)
        spec.save(ctx, args, output)
        ctx.jvp_args, ctx.jvp_output = args, output
        return output

    ordinary = _function_class(torch.autograd.Function, spec, forward)
    level = _function_class(_SingleLevelFunction, spec, forward_level)

    def kernel(*args: Any) -> Any:
        if any_requires_grad(args) or _has_tangent(args):
            if _transforms_active():
                with enable_single_level_autograd_function():
                    return level.apply(*args)
            return ordinary.apply(*args)
        with _below_autograd():
            return op(*args)

    return kernel


def _autocast_kernel(op: Any, device: str, key: Any) -> Callable[..., Any]:
    """torch's lower-precision rule: floating tensors go to the context's dtype, float64 stays."""

    def cast(value: Any, dtype: torch.dtype) -> Any:
        if isinstance(value, Tensor) and value.is_floating_point() and value.dtype is not torch.float64:
            return value.to(dtype)
        return value

    def kernel(*args: Any) -> Any:
        dtype = torch.get_autocast_dtype(device)
        with _C._ExcludeDispatchKeyGuard(_C.DispatchKeySet(key)):
            return op(*(cast(a, dtype) for a in args))

    return kernel


def needs_dispatcher(args: Sequence[Any]) -> bool:
    """Whether anything but an eager call on plain tensors is going on, so that the dispatcher must see the call."""
    return not is_eager() or any(isinstance(a, Tensor) and not is_plain(a) for a in args)


class Operator:
    """The front of torch.ops.triton_cnn.<name>: a call that skips the dispatcher where nothing needs it."""

    def __init__(self, spec: OpSpec, op: Any) -> None:
        self.name, self.op = spec.name, op
        self.tensors = sum(str(a.type) in ("Tensor", "Optional[Tensor]") for a in op._schema.arguments)
        self.run = Pass(spec.run, self.tensors)
        self.recorded = _recorded(self, spec)

    def __call__(self, *args: Any) -> Any:
        """The operator on any tensors."""
        program = self.run.find(args)
        if program is None and needs_dispatcher(args):
            return self.op(*args)
        tensors = args[: self.tensors]
        if records(tensors):
            return self.recorded(*tensors, (program, args[self.tensors :]))
        return self.run(*args) if program is None else program.run(tensors)


def _recorded(operator: Operator, spec: OpSpec) -> Callable[..., Any]:
    """apply(*tensors, (program or None, numbers)): the operator on plain tensors, as a node of autograd's graph."""
    count = operator.tensors

    def forward(ctx: Any, *args: Any) -> Any:
        program, numbers = args[count]
        tensors = args[:count]
        every = (*tensors, *numbers)
        output = operator.run(*every) if program is None else program.run(tensors)
        spec.save(ctx, every, output)
        return output

    def backward(ctx: Any, *gradients: Any) -> Any:
        found = spec.backward(ctx, *gradients)
        return (*found[:count], None) if isinstance(found, tuple) else (found, None)

    function = type(f"{spec.name}_backward", (torch.autograd.Function,), {})
    function.forward, function.backward = staticmethod(forward), staticmethod(backward)  # type: ignore[attr-defined]
    # What Function.apply adds are checks of what cannot be here: wrapped tensors and a setup_context.
    apply: Callable[..., Any] = super(torch.autograd.Function, function).apply  # type: ignore[misc]
    return apply


def register(spec: OpSpec) -> Operator:
    """Define the operator torch.ops.triton_cnn.<name> and return its front."""
    LIBRARY.define(spec.name + spec.schema, tags=(torch.Tag.pt2_compliant_tag,))
    op = getattr(getattr(torch.ops, NAMESPACE), spec.name).default
    qualified = f"{NAMESPACE}::{spec.name}"
    operator = Operator(spec, op)
    LIBRARY.impl(spec.name, operator.run, "CPU")
    LIBRARY.impl(spec.name, operator.run, "CUDA")
    torch.library.register_fake(qualified, spec.fake, lib=LIBRARY)
    LIBRARY.impl(spec.name, _autograd_kernel(op, spec), "Autograd")
    torch.library.register_vmap(qualified, spec.vmap, lib=LIBRARY)
    if spec.flops is not None:
        register_flop_formula(getattr(getattr(torch.ops, NAMESPACE), spec.name))(spec.flops)
    if spec.autocast:
        for device, key in (("cpu", _C.DispatchKey.AutocastCPU), ("cuda", _C.DispatchKey.AutocastCUDA)):
            LIBRARY.impl(spec.name, _autocast_kernel(op, device, key), "Autocast" + device.upper())
    return operator
