"""Which path runs a call: Triton kernels, torch's own operators, or the CPU path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from kernels.common.device import runs_programs
from kernels.common.launch import is_recording

BACKENDS = ("auto", "triton", "torch")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
TRITON, ATEN, CPU = "triton", "torch", "cpu"
HAS_TRITON = find_spec("triton") is not None
_current: ContextVar[str] = ContextVar("triton_cnn_backend", default="auto")
_latest = "auto"
"""The backend entered or left last in any thread. torch.compile cannot read a ContextVar, but guards a global."""


def current_backend() -> str:
    """The backend in force in this thread: "auto", "triton" or "torch"."""
    return _latest if torch.compiler.is_compiling() else _current.get()


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Choose the path of every call inside the `with` block, in this thread.

    "auto": Triton on CUDA tensors where it is supported and not measured slower, the CPU path on CPU tensors.
    "triton": Triton always (CPU tensors need TRITON_INTERPRET=1); NotImplementedError where it cannot run.
    "torch": torch's own operators. The choice of a forward call also holds for its backward.
    Raises ValueError for any other name.
    """
    if name not in BACKENDS:
        raise ValueError(f"backend: must be one of {BACKENDS}, not {name!r}")
    global _latest
    token, before = _current.set(name), _latest
    _latest = name
    try:
        yield
    finally:
        _current.reset(token)
        _latest = before


def path(x: Any) -> str:
    """The path of a call on input `x`: TRITON, ATEN or CPU."""
    name = current_backend()
    if name == "torch" or not isinstance(x, Tensor):
        return ATEN
    if name == "triton":
        return TRITON
    if x.is_cuda:
        return TRITON if HAS_TRITON else ATEN
    return CPU if x.is_cpu else ATEN


def may_route() -> bool:
    """Whether the card's measured table may send a call on the Triton path, or a pass of it, to torch's operator."""
    return current_backend() == "auto"


def unsupported(op: str, x: Tensor) -> str | None:
    """Why Triton cannot run `op` on `x`, or None."""
    if not HAS_TRITON:
        return f"{op}: triton is not installed"
    if x.dtype not in DTYPES:
        return f"{op}: {x.dtype} has no Triton kernel (supported: float16, bfloat16, float32, float64)"
    if not (x.is_meta or runs_programs(x.device) or is_recording()):
        return f"{op}: input on {x.device}; Triton needs a CUDA tensor, or TRITON_INTERPRET=1 for its interpreter"
    return None


def decline(reason: str) -> None:
    """Nothing under "auto" (the caller goes on with torch's operator); NotImplementedError under "triton"."""
    if current_backend() == "triton":
        raise NotImplementedError(reason)
