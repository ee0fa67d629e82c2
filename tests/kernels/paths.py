"""The two ways a call can run in a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace

import numpy
import torch

from kernels import backend
from kernels.backend import HAS_TRITON
from kernels.common.device import INTERPRET


@dataclass(frozen=True)
class Path:
    """Where tensors live and which backend is in force."""

    name: str
    device: str
    backend: str

    def __str__(self) -> str:
        return self.name

    def enter(self) -> AbstractContextManager[None]:
        """Put the backend in force. A new thread starts without it, and must enter it by itself."""
        return backend(self.backend)


TRITON_PATH = Path("triton", "cuda" if torch.cuda.is_available() else "cpu", "triton")
CPU_PATH = Path("cpu", "cpu", "auto")


@contextmanager
def overflow_checks(on: bool) -> Iterator[None]:
    """Whether the interpreter checks 32-bit sums and products for overflow, which doubles its time. Nothing on CUDA."""
    if not INTERPRET:
        yield
        return
    from triton.runtime import interpreter

    builder = interpreter.interpreter_builder
    before = builder.options
    builder.options = replace(before, sanitize_overflow=on)
    try:
        yield
    finally:
        builder.options = before


def why_no_triton() -> str | None:
    """Why the Triton path cannot run here, or None."""
    if not HAS_TRITON:
        return "triton is not installed"
    import triton

    version = tuple(int(v) for v in triton.__version__.split(".")[:2])
    if INTERPRET and version < (3, 7) and numpy.lib.NumpyVersion(numpy.__version__) >= "2.4.0":
        return f"the interpreter of triton {triton.__version__} does not work with numpy {numpy.__version__} (>= 2.4)"
    return None
