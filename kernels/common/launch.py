"""The one place that starts a Triton kernel, and where a launch can be recorded instead of run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor

from kernels.common.device import INTERPRET, runs_programs
from kernels.common.registers import Options, settle


@dataclass(frozen=True)
class Launch:
    """A kernel call: the @triton.jit function, its one-dimensional grid, its arguments by name, its options."""

    kernel: Any
    grid: int
    arguments: dict[str, Any]
    options: dict[str, int] = field(default_factory=dict)


class _Thread(threading.local):
    launches: list[Launch] | None = None
    """Where `record` collects."""
    planner: Callable[[Launch], None] | None = None
    """What takes launches while a call is being learnt (replay/learn.py)."""


thread = _Thread()
_interpreter = threading.Lock()


@contextmanager
def record() -> Iterator[list[Launch]]:
    """Collect the launches that this thread makes inside the block instead of running them.

    For inspection without a GPU: CPU tensors do. The backward pass of CUDA tensors runs in a thread of its own, and is
    not collected.
    """
    outer = thread.launches
    found: list[Launch] = []
    thread.launches = found
    try:
        yield found
    finally:
        thread.launches = outer


def is_recording() -> bool:
    """Whether this thread's launches are being collected instead of run."""
    return thread.launches is not None


def tensors_of(arguments: dict[str, Any]) -> Iterator[Tensor]:
    """The tensors among a launch's arguments, those behind TMA descriptors included."""
    for value in arguments.values():
        tensor = getattr(value, "base", value)
        if isinstance(tensor, Tensor):
            yield tensor


def launch(
    kernel: Any,
    grid: int,
    *,
    num_warps: int = 4,
    num_stages: int = 2,
    maxnreg: int | None = None,
    **arguments: Any,
) -> None:
    """Run `kernel` on `grid` programs of its first axis; arguments by name, in signature order.

    The programs run on the device of the tensor arguments. Axis 0 alone is used: it allows 2^31 - 1 programs, the
    other two only 65,535. maxnreg: registers a thread that NVIDIA's assembler may take; without it, they are named only
    for a program that would keep values on the stack (registers.py).
    """
    if grid == 0:
        return
    options = {"num_warps": num_warps, "num_stages": num_stages}
    if maxnreg is not None and not INTERPRET and torch.version.hip is None:
        options["maxnreg"] = maxnreg
    call = Launch(kernel, grid, arguments, options)
    if thread.launches is not None:
        thread.launches.append(call)
    elif thread.planner is not None:
        thread.planner(call)
    else:
        start(call)


def start(call: Launch) -> Any:
    """Run a launch by Triton's public interface; the compiled kernel, or None from the interpreter."""
    device = next(tensors_of(call.arguments)).device
    if INTERPRET:
        with _interpreter:  # it patches triton's own modules while it runs
            return call.kernel[(call.grid,)](**call.arguments, **call.options)
    if not runs_programs(device):
        raise NotImplementedError(f"a Triton kernel cannot run on {device}: it needs CUDA or TRITON_INTERPRET=1")
    if device.type == "cuda" and device.index != torch.cuda.current_device():
        with torch.cuda.device(device):
            return call.kernel[(call.grid,)](**call.arguments, **_settled(call, device).options)
    return call.kernel[(call.grid,)](**call.arguments, **_settled(call, device).options)


@dataclass(frozen=True)
class Settled:
    """How a program runs: its options, and the registers that it keeps on the stack by what the driver reports."""

    options: Options
    spills: int = 0


_known: dict[Any, Settled] = {}


def settled(call: Launch) -> Settled:
    """How the program of a launch runs, if it has run here; else as the launch says."""
    device = next(tensors_of(call.arguments)).device
    return _known.get((device, program_of(call))) or Settled(call.options)


def _settled(call: Launch, device: torch.device) -> Settled:
    """The same; a program that has not run is compiled and loaded, so that the driver can say what it keeps on the
    stack, and is followed by others if it does."""
    key = device, program_of(call)
    found = _known.get(key)
    if found is None:

        def load(options: Options) -> Any:
            compiled = call.kernel.warmup(grid=(call.grid,), **call.arguments, **options)
            _ = compiled.run  # what loads it
            return compiled

        def usage(compiled: Any) -> tuple[int, int]:  # AMD's compiler takes no number of registers
            return compiled.n_regs, 0 if torch.version.hip else compiled.n_spills

        options, compiled = settle(call.options, load, usage)
        found = _known[key] = Settled(options, compiled.n_spills)
    return found


def program_of(call: Launch) -> tuple[Any, ...]:
    """What of a launch sets its program apart: the kernel, what the compiler sees of the arguments, the options."""
    seen = tuple([_class(name, value) for name, value in call.arguments.items()])
    return call.kernel.__name__, seen, *call.options.items()


def _class(name: str, value: Any) -> Any:
    """What the compiler sees of an argument: a tensor's dtype, a constexpr's value, an integer's divisibility."""
    if type(value) is int:
        return value if value == 1 or name.isupper() else (value < 2**31, value % 16 == 0)
    if isinstance(value, Tensor):
        return value.dtype
    return (value.base.dtype, *value.block_shape) if hasattr(value, "block_shape") else value


# --- Triton's private way ---------------------------------------------------------------------------------------------

_KNOWN = ("3.6.", "3.7.")
_BEFORE_ARGUMENTS = ("gridX", "gridY", "gridZ", "stream", "function")
_HOOKS = ("kernel_metadata", "launch_metadata", "launch_enter_hook", "launch_exit_hook")


def fast_start(compiled: Any, arguments: int) -> tuple[Any, Any, Any] | None:
    """(start, function, metadata) of a kernel that has run once already, to be called as

        start(grid, 1, 1, stream, function, metadata, None, None, None, *arguments)

    with integers for pointers and the compile-time constants in their places. `compiled`: what `start` returned for the
    same specialisation; `arguments`: how many its kernel takes. None where Triton is not 3.6 or 3.7, where its launcher
    is another than theirs, or where a specialisation looks at more than a signature holds (AMD: at the size of the
    memory behind a pointer).

    What `kernel[grid](...)` does at each launch and this does not: bind and specialise the arguments (the signature of
    the call is the same), look for changed globals, call the kernel's own pre-run hooks, and hand empty hooks over.
    Whoever calls it sees to the current device, and takes the public way while `is_hooked`.
    """
    import triton

    if not triton.__version__.startswith(_KNOWN):
        return None
    try:
        run, function, metadata = compiled.run, compiled.function, compiled.packed_metadata
        names = [p.name for p in signature(run).parameters.values() if p.kind is not Parameter.VAR_POSITIONAL]
        expected = len(compiled.src.fn.arg_names) == arguments and compiled.metadata.target.backend == "cuda"
    except (AttributeError, TypeError, ValueError):
        return None
    if not expected or tuple(names) not in (_BEFORE_ARGUMENTS, _BEFORE_ARGUMENTS + _HOOKS):
        return None
    return run, function, metadata


def is_hooked() -> bool:
    """Whether somebody listens to launches (profilers do)."""
    runtime = _knobs().runtime
    enter, leave = runtime.launch_enter_hook, runtime.launch_exit_hook
    return bool(getattr(enter, "calls", enter)) or bool(getattr(leave, "calls", leave))


@cache
def _knobs() -> Any:
    from triton import knobs

    return knobs
