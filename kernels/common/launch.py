"""The one place that starts a Triton kernel, and where a launch can be recorded instead of run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kernels.common.device import INTERPRET


@dataclass(frozen=True)
class Launch:
    """A kernel call: the @triton.jit function, its one-dimensional grid, its arguments by name, its options."""

    kernel: Any
    grid: int
    arguments: dict[str, Any]
    options: dict[str, int] = field(default_factory=dict)


class _Recording(threading.local):
    launches: list[Launch] | None = None


_recording = _Recording()
_interpreter = threading.Lock()


@contextmanager
def record() -> Iterator[list[Launch]]:
    """Collect the launches that this thread makes inside the block instead of running them.

    For inspection without a GPU: CPU tensors do. The backward pass of CUDA tensors runs in a thread of its own, and is
    not collected.
    """
    outer = _recording.launches
    found: list[Launch] = []
    _recording.launches = found
    try:
        yield found
    finally:
        _recording.launches = outer


def is_recording() -> bool:
    """Whether this thread's launches are being collected instead of run."""
    return _recording.launches is not None


def tensors_of(arguments: dict[str, Any]) -> Iterator[Tensor]:
    """The tensors among a launch's arguments, those behind TMA descriptors included."""
    for value in arguments.values():
        tensor = getattr(value, "base", value)
        if isinstance(tensor, Tensor):
            yield tensor


def launch(kernel: Any, grid: int, *, num_warps: int = 4, num_stages: int = 2, **arguments: Any) -> None:
    """Run `kernel` on `grid` programs of its first axis; arguments by name, in signature order.

    The programs run on the device of the tensor arguments. Axis 0 alone is used: it allows 2^31 - 1 programs, the
    other two only 65,535.
    """
    if grid == 0:
        return
    if _recording.launches is not None:
        options = {"num_warps": num_warps, "num_stages": num_stages}
        _recording.launches.append(Launch(kernel, grid, arguments, options))
        return
    device = next(tensors_of(arguments)).device
    if device.type == "cuda" and device.index != torch.cuda.current_device():
        with torch.cuda.device(device):
            kernel[(grid,)](**arguments, num_warps=num_warps, num_stages=num_stages)
    elif INTERPRET:
        with _interpreter:  # it patches triton's own modules while it runs
            kernel[(grid,)](**arguments, num_warps=num_warps, num_stages=num_stages)
    elif device.type == "cuda":
        kernel[(grid,)](**arguments, num_warps=num_warps, num_stages=num_stages)
    else:
        raise NotImplementedError(f"a Triton kernel cannot run on {device}: it needs CUDA or TRITON_INTERPRET=1")
