"""explain: which path, kernels, tiles and products a call would take, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from kernels.backend import CPU, TRITON, backend, current_backend, path, unsupported
from kernels.common.device import assume_card, card_of
from kernels.common.launch import Launch, record, settled
from kernels.cpu import explain as cpu
from kernels.lenet.op import ARITHMETIC
from kernels.tuned.router import Verdict, listen


@dataclass(frozen=True)
class Explanation:
    """The answer of `explain`; print it to read it. measured: what the card's table says of it.

    launches: of the call. backward: of the gradients that its tensors ask for, where no table sends them to torch.
    """

    function: str
    backend: str
    path: str
    reason: str
    launches: tuple[Launch, ...] = ()
    measured: tuple[Verdict, ...] = ()
    backward: tuple[Launch, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.function}: {self.path} path (backend {self.backend!r}): {self.reason}"]
        lines += map(_line, self.launches)
        if self.backward:
            lines += [" backward:", *map(_line, self.backward)]
        return "\n".join(lines)


def _line(call: Launch) -> str:
    tile = {name: value for name, value in call.arguments.items() if name.startswith(("BLOCK", "BOX"))}
    if call.arguments.get("PRECISION", "ieee") != "ieee":
        tile["products"] = call.arguments["PRECISION"]
    known = settled(call)
    options = ", ".join(f"{name}={value}" for name, value in {**tile, **known.options}.items())
    spilled = f", {known.spills} registers on the stack" if known.spills else ""
    return f"  {call.kernel.__name__}: {call.grid} programs, {options}{spilled}"


def explain_call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Explanation:
    """Which path, kernels and tiles `function(*args, **kwargs)` would take, without running a kernel.

    `function` is one of this package's; the arguments are checked as in the call itself, and raise as there. Where they
    require gradients, the kernels of the backward pass are named as well. A program that has run on a card here says so
    if it keeps registers on the stack.
    """
    x = args[0] if args else kwargs.get("input")
    way = path(x)
    name = getattr(function, "__name__", str(function))
    if way == CPU:
        return Explanation(name, current_backend(), way, _cpu(name, args, kwargs))
    if way != TRITON or not isinstance(x, Tensor):
        return Explanation(name, current_backend(), way, _why_torch(x))
    reason = unsupported(name, x)
    if reason is not None:
        if current_backend() == TRITON:
            raise NotImplementedError(reason)
        return Explanation(name, current_backend(), "torch", reason)
    with record() as launches, listen() as verdicts, torch.no_grad():
        function(*args, **kwargs)
    here, measured = current_backend(), tuple(verdicts)
    if any(verdict.for_torch for verdict in measured):
        return Explanation(name, here, "torch", "; ".join(map(str, measured)), (), measured)
    why = "; ".join([f"{x.dtype} on {x.device} has a Triton kernel", *map(str, measured)])
    return Explanation(name, here, way, why, tuple(launches), measured, _backward(function, args, kwargs, x))


def _backward(function: Callable[..., Any], args: Any, kwargs: Any, x: Tensor) -> tuple[Launch, ...]:
    """What the gradients that the arguments ask for would launch. Recorded on stand-ins in the CPU's memory, which
    nobody touches: the backward pass of CUDA tensors runs in a thread of its own, where nothing is recorded."""

    wanted = []

    def stand_in(t: Any) -> Any:
        if not isinstance(t, Tensor):
            return t
        made = torch.empty_strided(t.shape, t.stride(), dtype=t.dtype).requires_grad_(t.requires_grad)
        wanted.extend([made] if t.requires_grad else [])
        return made

    if not torch.is_grad_enabled():
        return ()
    args, kwargs = tree_map(stand_in, (args, kwargs))
    with backend(TRITON), assume_card(card_of(x.device)), record() as launches:
        y = function(*args, **kwargs)
        y = y[0] if isinstance(y, tuple) else y
        forward = len(launches)
        if y.requires_grad:
            torch.autograd.grad(y, wanted, torch.empty_like(y), allow_unused=True)
    return tuple(launches[forward:])


def _cpu(name: str, args: Any, kwargs: Any) -> str:
    """What the CPU path runs; the functions it does not know are torch's there."""
    if name.startswith("lenet"):
        return _lenet_on_cpu(*args, **kwargs)
    if name not in cpu.FUNCTIONS:
        return "torch's operators, as on every CPU tensor"
    with torch.no_grad():
        return str(cpu.describe(name, *args, **kwargs))


def _lenet_on_cpu(
    input: Tensor, *rest: Any, padding: int = 2, pool: str = "max", activation: str = "relu", arithmetic: Any = None
) -> str:
    """lenet, lenet_predict or lenet_loss: the compiled network, or its layers."""
    if activation == "tanh" or (arithmetic and ARITHMETIC[arithmetic] != input.dtype):
        return "the layers one by one: only ReLUs in the tensors' own dtype are compiled whole"
    with torch.no_grad():
        return str(cpu.describe("lenet", input, *rest[-1], pool, padding))


def _why_torch(x: Any) -> str:
    if current_backend() == "torch":
        return 'backend("torch") is in force'
    return f"the input is on {x.device}" if isinstance(x, Tensor) else "the input is not a tensor"
