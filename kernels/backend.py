"""Which path runs a call: Triton kernels, torch's own operators, or the CPU path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

from kernels.common.device import INTERPRET

BACKENDS = ("auto", "triton", "torch")
_current: ContextVar[str] = ContextVar("triton_cnn_backend", default="auto")


def current_backend() -> str:
    """The backend in force in this thread: "auto", "triton" or "torch"."""
    return _current.get()


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
    token = _current.set(name)
    try:
        yield
    finally:
        _current.reset(token)
