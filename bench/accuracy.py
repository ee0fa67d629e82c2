"""How far convolutions are from the exact answer: this package's error and torch's, per dtype and pass.

The maps are what a layer meets after a ReLU, so that errors of one sign add up instead of cancelling. An error is the
root mean square of the difference over that of the exact answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import kernels
from bench import long_sums
from bench.long_sums import SumRow

PASSES = ("fprop", "dgrad", "wgrad")
SIZES = {"cpu": (2, 32, 6), "cuda": (16, 256, 14)}
"""Images, channels in and out, and the side of the maps, by device: the interpreter is slow."""
CUT = "bfloat16, results cut by the interpreter"
"""Triton's interpreter drops the bits that bfloat16 lacks where a card rounds: up to twice the error."""
Three = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Row:
    """The errors of one pass in one precision; None where it does not exist on this device."""

    precision: str
    which: str
    ours: float | None
    torchs: float | None


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _operands(device: torch.device) -> Three:
    """x after a ReLU, w without negative values, dy after a ReLU, in float64."""
    random = torch.Generator().manual_seed(0)
    images, channels, side = SIZES[device.type]
    shapes = ((images, channels, side, side), (channels, channels, 3, 3), (images, channels, side, side))
    x, w, dy = (torch.randn(s, generator=random, dtype=torch.float64).to(device) for s in shapes)
    return x.relu(), w.abs() / 24, dy.relu()


def _passes(convolution: Callable[..., Tensor], operands: Three) -> Three:
    """y, dx, dw."""
    x, w = operands[0].detach().requires_grad_(), operands[1].detach().requires_grad_()
    y = convolution(x, w, padding=1)
    dx, dw = torch.autograd.grad(y, (x, w), operands[2])
    return y.detach(), dx, dw


def error(got: Tensor, exact: Tensor) -> float:
    """Root mean square of got - exact over that of exact."""
    return float((got.double() - exact).norm() / exact.norm())


def nearest_tf32(t: Tensor) -> Tensor:
    """float32 values rounded to TF32, ties away from zero."""
    return ((t.view(torch.int32) + 0x1000) & -0x2000).view(torch.float32)


def _cut_to_tf32(t: Tensor) -> Tensor:
    return (t.view(torch.int32) & -0x2000).view(torch.float32)


def _errors(convolution: Callable[..., Tensor], operands: Three, source: Three) -> list[float]:
    """The errors of the passes over `operands` against float64 over `source`, from which they were rounded."""
    exact = _passes(F.conv2d, source)
    return [error(a, b) for a, b in zip(_passes(convolution, operands), exact, strict=True)]


def _cast(operands: Three, dtype: torch.dtype) -> Three:
    x, w, dy = (t.to(dtype) for t in operands)
    return x, w, dy


def measure(device: torch.device) -> Iterator[Row]:
    """Every precision and pass. On a CPU the Triton kernels run in the interpreter, which multiplies as IEEE float32:
    TF32 is simulated there by operands that are rounded before the call, and torch has none."""
    base = _operands(device)
    bfloat16 = "bfloat16" if device.type == "cuda" else CUT
    for dtype, name in ((torch.float16, "float16"), (torch.bfloat16, bfloat16), (torch.float32, "float32")):
        operands = _cast(base, dtype)
        # Low precision is judged from the rounded operands, which both sides are given.
        source = _cast(operands, torch.float64)
        with _tf32(False), kernels.backend("triton"):
            ours = _errors(kernels.conv2d, operands, source)
        with _tf32(False):
            torchs = _errors(F.conv2d, operands, source)
        yield from (Row(name, w, a, b) for w, a, b in zip(PASSES, ours, torchs, strict=True))
    if device.type == "cuda":
        operands = _cast(base, torch.float32)
        with _tf32(False), kernels.backend("triton"), kernels.set_float32_products("tf32x3"):
            ours = _errors(kernels.conv2d, operands, _cast(operands, torch.float64))
        # The last dtype above is float32: the same sums by torch.
        yield from (Row("float32 by tf32x3", w, a, b) for w, a, b in zip(PASSES, ours, torchs, strict=True))
    yield from _measure_tf32(_cast(base, torch.float32), device)
    # Float64 has no wider reference: the two are compared with each other.
    with kernels.backend("triton"):
        apart = _errors(kernels.conv2d, base, base)
    yield from (Row("float64, ours from torch's", w, a, None) for w, a in zip(PASSES, apart, strict=True))


def measure_sums(device: torch.device) -> list[SumRow]:
    """Long float32 sums on a card."""
    with _tf32(False):
        return list(long_sums.measure(device))


def _measure_tf32(operands: Three, device: torch.device) -> Iterator[Row]:
    source = _cast(operands, torch.float64)
    if device.type == "cuda":
        with _tf32(True), kernels.backend("triton"):
            ours = _errors(kernels.conv2d, operands, source)
        with _tf32(True):
            torchs = _errors(F.conv2d, operands, source)
        yield from (Row("tf32", w, a, b) for w, a, b in zip(PASSES, ours, torchs, strict=True))
        return
    for name, cast in (
        ("tf32, operands rounded (simulated)", nearest_tf32),
        ("tf32, operands cut (simulated)", _cut_to_tf32),
    ):
        x, w, dy = (cast(t) for t in operands)
        with _tf32(False), kernels.backend("triton"):
            ours = _errors(kernels.conv2d, (x, w, dy), source)
        yield from (Row(name, which, a, None) for which, a in zip(PASSES, ours, strict=True))


def table(rows: list[Row], machine: str, versions: str, size: tuple[int, int, int]) -> str:
    """The rows as markdown."""
    images, channels, side = size
    lines = [
        f"# Errors against float64 on {machine}",
        "",
        f"{versions}. Written by `python -m bench accuracy`.",
        "",
        "Root mean square of the difference over that of the exact answer. A 3x3 convolution of "
        f"{images} x {channels} x {side} x {side}, {channels} filters; maps and weights are not negative, so "
        "that errors of one sign add up. Operands are rounded to the dtype first (TF32: to float32).",
        "",
        "| precision | pass | this package | torch |",
        "|---|---|---|---|",
    ]
    for row in rows:
        ours, torchs = ("–" if value is None else f"{value:.2e}" for value in (row.ours, row.torchs))
        lines.append(f"| {row.precision} | {row.which} | {ours} | {torchs} |")
    return "\n".join(lines) + "\n"


def worse(rows: list[Row]) -> list[Row]:
    """The rows whose error is more than 1.5 times torch's (what the interpreter cuts: 2.5 times)."""
    return [r for r in rows if r.ours and r.torchs and r.ours > (2.5 if r.precision == CUT else 1.5) * r.torchs]
