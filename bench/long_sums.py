"""How far long float32 sums are from the exact ones: by multiply-adds, and by three TF32 products on tensor cores.

Without a card both are simulated (tensor_cores.py); on a card they are measured, beside cuDNN's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

import kernels
from bench.tensor_cores import CORES, KINDS, one_by_one, operands, products_of_halves
from kernels.conv2d.plans.cost import LONG_SUM

LENGTHS = (64, 128, 288, 576, 1152, 2304, 4608)
"""Products of a sum: 3x3 windows of 32 to 512 channels, and shorter ones."""
PLAIN, THREE = "float32", "tf32x3"


@dataclass(frozen=True)
class SumRow:
    """Errors of sums of `length` products, root mean square over that of the exact sums, by how they are formed."""

    operands: str
    length: int
    errors: dict[str, float]

    @property
    def is_worse(self) -> bool:
        """Whether three TF32 products are less accurate than multiply-adds where a plan may take them."""
        three = max(error for how, error in self.errors.items() if how.startswith(THREE))
        return self.length >= LONG_SUM and three > self.errors[PLAIN]


def simulate(lengths: tuple[int, ...] = LENGTHS, sums: int = 500) -> Iterator[SumRow]:
    """A row for every kind of operands and length."""
    for kind in KINDS:
        for length in lengths:
            a, b = operands(kind, sums, length)
            exact = (a.double() * b.double()).sum(-1)
            errors = {PLAIN: _error(one_by_one(a, b), exact)}
            yield SumRow(
                kind,
                length,
                errors | {f"{THREE}, {c.cards}": _error(products_of_halves(a, b, c), exact) for c in CORES},
            )


def measure(device: torch.device) -> Iterator[SumRow]:
    """The same by 3x3 convolutions of that many products on a card; TF32 is off."""
    for kind in KINDS:
        for length in (n for n in LENGTHS if n % 9 == 0):
            channels = length // 9
            x, w = operands(kind, 512, 25 * channels)[0], operands(kind, 64, length)[1]
            x, w = x.view(-1, channels, 5, 5).to(device), w.view(-1, channels, 3, 3).to(device)
            exact = F.conv2d(x.double(), w.double())
            errors = {"cuDNN": _error(F.conv2d(x, w), exact)}
            for name, how in ((PLAIN, "fma"), (THREE, "tf32x3")):
                with kernels.backend("triton"), kernels.set_float32_products(how):
                    errors[name] = _error(kernels.conv2d(x, w), exact)
            yield SumRow(kind, length, errors)


def table(rows: list[SumRow], simulated: bool) -> str:
    """The rows as markdown."""
    names = list(rows[0].errors)
    how = (
        "Simulated: multiply-adds one by one, and tensor cores by published models of them (bench/tensor_cores.py)"
        if simulated
        else "Measured on this card: 3x3 convolutions, TF32 off"
    )
    lines = [
        "",
        "## Long float32 sums",
        "",
        f'{how}. `{PLAIN}`: multiply-adds; `{THREE}`: `set_float32_products("tf32x3")`, which takes it from '
        f"{LONG_SUM} products on.",
        "",
        f"| operands | products | {' | '.join(names)} |",
        "|---" * (2 + len(names)) + "|",
    ]
    lines += [f"| {r.operands} | {r.length} | {' | '.join(f'{r.errors[n]:.2e}' for n in names)} |" for r in rows]
    return "\n".join(lines) + "\n"


def _error(got: torch.Tensor, exact: torch.Tensor) -> float:
    return float((got.double() - exact).norm() / exact.norm())
