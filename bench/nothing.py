"""A Triton driver that compiles for an H100 and starts nothing: what is left of a call is what it costs the host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class _Utilities:
    """What Triton asks of a device while it loads a kernel."""

    def load_binary(self, name: str, kernel: bytes, shared: int, device: int) -> tuple[int, int, int, int, int]:
        """(module, function, registers, spills, threads at most)."""
        return 0, 0, 32, 0, 1024

    def get_device_properties(self, device: int) -> dict[str, int]:
        """An H100's."""
        return {"max_shared_mem": 232_448, "multiprocessor_count": 132, "warpSize": 32}


class NothingDriver:
    """Stands where Triton's CUDA driver stands. started: launches so far; seen: their arguments, if it is a list."""

    def __init__(self) -> None:
        self.utils = _Utilities()
        self.started = 0
        self.seen: list[tuple[Any, ...]] | None = None
        driver = self

        class Launcher:
            """With the signature of Triton's own, of 3.6 as of 3.7."""

            def __init__(self, src: Any, metadata: Any) -> None:
                pass

            def __call__(self, gridX: int, gridY: int, gridZ: int, stream: int, function: int, *args: Any) -> None:
                driver.started += 1
                if driver.seen is not None:
                    driver.seen.append((gridX, gridY, gridZ, stream, function, *args))

        self.launcher_cls = Launcher

    def get_current_device(self) -> int:
        """The only one."""
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        """The only one."""
        return 0

    def get_current_target(self) -> Any:
        """An H100."""
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_active_torch_device(self) -> torch.device:
        """Where the tensors are."""
        return torch.device("cpu")

    def map_python_to_cpp_type(self, ty: str) -> str:
        """Unused: there is no launcher to compile."""
        return ty


_NOBODY = NothingDriver()
"""One for the process: a compiled kernel keeps the launcher that it was loaded with."""


@contextmanager
def nothing() -> Iterator[NothingDriver]:
    """CPU tensors take the Triton path inside the block, as far as the launch. Needs a process without
    TRITON_INTERPRET, which replaces the compiler."""
    from triton.runtime import driver

    import kernels
    from kernels.common.device import cpu_as_card

    driver.set_active(_NOBODY)
    try:
        with kernels.backend("triton"), cpu_as_card():
            yield _NOBODY
    finally:
        _NOBODY.seen = None
        driver.set_active(None)  # the machine's own, when it is next asked for
