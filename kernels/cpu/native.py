"""The compiled CPU kernels: found, chosen by instruction set, and called through ctypes.

The environment variable TRITON_CNN_CPU is read once, at import: "auto" (default: the widest instruction set that this
processor runs), "avx512", "avx2" or "baseline" (that one), "torch" (none: torch's operators only).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

VARIABLE = "TRITON_CNN_CPU"
ISAS = ("avx512", "avx2", "baseline")
CHOICE = os.environ.get(VARIABLE, "") or "auto"

DIRECTORY = Path(__file__).parent
_FUNCTIONS = {
    "pool_forward": 4,
    "pool_backward": 4,
    "conv_forward": 6,
    "depthwise_forward": 5,
    "depthwise_weight_gradient": 4,
    "depthwise_input_gradient": 4,
    "lenet_forward": 6,
    "lenet_backward": 7,
}


def _integers(names: str) -> list[tuple[str, Any]]:
    """The fields of a structure of 64-bit integers."""
    return [(name, ctypes.c_int64) for name in names.split()]


class PoolPlan(ctypes.Structure):
    """csrc/pool.h: struct PoolPlan, field by field."""

    _fields_ = _integers("n c h w p q kh kw sh sw ph pw average relu channels_last bf16 include_pad divisor threads")


class ConvPlan(ctypes.Structure):
    """csrc/band.h: struct ConvPlan, field by field."""

    _fields_ = _integers("n c h w k r s sh sw ph pw dh dw p q po qo relu pool bf16 threads")


class LeNetPlan(ctypes.Structure):
    """csrc/lenet.h: struct LeNetPlan, field by field."""

    _fields_ = _integers("n size pad classes average bf16 threads")


class Kernels:
    """The functions of one instruction set; each takes addresses and returns a status for `check`."""

    isa: str
    addresses: dict[str, int]
    pool_forward: Callable[..., int]
    pool_backward: Callable[..., int]
    conv_forward: Callable[..., int]
    depthwise_forward: Callable[..., int]
    depthwise_weight_gradient: Callable[..., int]
    depthwise_input_gradient: Callable[..., int]
    lenet_forward: Callable[..., int]
    lenet_backward: Callable[..., int]

    def __init__(self, library: ctypes.CDLL, isa: str) -> None:
        self.isa, self.addresses = isa, {}
        for name, arguments in _FUNCTIONS.items():
            function = getattr(library, f"{name}_{isa}")
            function.argtypes = [ctypes.c_void_p] * arguments
            function.restype = ctypes.c_int
            setattr(self, name, function)
            self.addresses[name] = ctypes.cast(function, ctypes.c_void_p).value or 0


def check(status: int) -> None:
    """MemoryError when a kernel found no memory for its scratch space; every call passes its status here."""
    if status:
        raise MemoryError("the CPU kernels found no memory for their scratch space")


class StaleLibraryError(OSError):
    """The built library does not come from the C++ that lies beside it."""


def source_id(folder: str) -> str | None:
    """The hash of the C++ in this folder, as setup.py takes it; None where there is none, in an installed package."""
    files = sorted(
        (f for f in DIRECTORY.joinpath(folder).glob("*") if f.suffix in (".cpp", ".h")), key=lambda f: f.name
    )
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:16] if files else None


def _check_source(library: ctypes.CDLL) -> None:
    """StaleLibraryError where the sources are there (a checkout) and the library was built from others."""
    present = source_id("csrc")
    if present is None:
        return
    try:
        library.source_id.restype = ctypes.c_char_p
        built = library.source_id().decode()
    except AttributeError:
        built = "unknown"
    if built != present:
        raise StaleLibraryError(f"built from sources {built}, beside sources {present}; pip install -e . builds anew")


def variants() -> dict[str, Kernels]:
    """Every instruction set that the built library holds and this processor runs, widest first."""
    path = next((p for p in map(DIRECTORY.joinpath, ("_native.so", "_native.dll")) if p.exists()), None)
    if path is None:
        return {}
    library = ctypes.CDLL(str(path))
    _check_source(library)
    library.cpu_runs.argtypes = [ctypes.c_char_p]
    runnable = [isa for isa in ISAS if library.cpu_runs(isa.encode()) and hasattr(library, f"pool_forward_{isa}")]
    return {isa: Kernels(library, isa) for isa in runnable}


def _load() -> tuple[Kernels | None, str]:
    """The kernels to use, or None, and one line that says why."""
    if CHOICE == "torch":
        return None, f"{VARIABLE}=torch turns the compiled kernels off"
    if CHOICE != "auto" and CHOICE not in ISAS:
        raise ValueError(f"{VARIABLE}={CHOICE!r}: must be one of auto, torch, {', '.join(ISAS)}")
    try:
        found = variants()
    except OSError as error:
        return None, f"the compiled kernels do not load: {error}"
    if not found:
        return None, "the compiled kernels are not built (a C++ compiler at install time builds them)"
    if CHOICE == "auto":
        isa = next(iter(found))
        return found[isa], f"compiled kernels, {isa}"
    if CHOICE not in found:
        return None, f"{VARIABLE}={CHOICE}: this processor or build has only {', '.join(found)}"
    return found[CHOICE], f"compiled kernels, {CHOICE} as {VARIABLE} asks"


KERNELS, REASON = _load()


def address(plan: ctypes.Structure) -> int:
    """Where the plan's fields lie; valid while the plan lives."""
    return ctypes.addressof(plan)
