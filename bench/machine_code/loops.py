"""Main loops on sm_90 beside the fewest instructions that prototypes of the same loops had there."""

from __future__ import annotations

from dataclasses import dataclass

from bench.machine_code.compile import CARDS, compile_launch
from bench.machine_code.plans import PRECISIONS, launches, shape
from bench.machine_code.read import read
from bench.machine_code.table import products
from kernels.common.device import assume_card
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.plan import Plan, Tile

TARGET = "sm_90"
MARGIN = 1.1
"""A loop may have so many times the prototype's instructions."""
SQUARE, STRIDED = shape(128, 256, (14, 14), 256, (3, 3)), shape(128, 256, (14, 14), 256, (3, 3), 2)
FEW = shape(2, 256, (28, 28), 256, (3, 3))
POINT, STEM = shape(64, 256, (14, 14), 256, (1, 1)), shape(64, 1, (28, 28), 6, (5, 5))


@dataclass(frozen=True)
class Loop:
    """A pass with a plan, and what a prototype's loop had: instructions for so many products (HGMMA or FFMA)."""

    name: str
    which: str
    g: Conv2dGeometry
    precision: str
    plan: Plan
    instructions: int
    products: int


def _gemm(*tile: int) -> Plan:
    return Plan("gemm", Tile(*tile), True)


def _batch(*tile: int) -> Plan:
    return Plan("batch", Tile(*tile), True)


LOOPS = (
    Loop("gather 128x128", "fprop", SQUARE, "float16", _gemm(128, 128, 64, 8, 3), 111, 4),
    Loop("gather 128x64", "fprop", SQUARE, "float16", _gemm(128, 64, 64, 4, 3), 143, 8),
    Loop("gather dgrad 128x128", "dgrad", SQUARE, "float16", _gemm(128, 128, 64, 8, 3), 157, 4),
    Loop("gather wgrad 128x128", "wgrad", SQUARE, "float16", _gemm(128, 128, 64, 8, 3), 209, 4),
    Loop("batch 128x128", "fprop", SQUARE, "float16", _batch(128, 128, 64, 8, 4), 124, 4),
    Loop("batch 128x256", "fprop", SQUARE, "float16", _batch(128, 256, 64, 8, 4), 127, 4),
    Loop("batch 128x256, stride 2", "fprop", STRIDED, "float16", _batch(128, 256, 64, 8, 4), 130, 4),
    Loop("box 128x128", "fprop", FEW, "float16", _batch(128, 128, 64, 8, 4), 119, 4),
    Loop("batch 128x128 tf32", "fprop", SQUARE, "float32", _batch(128, 128, 32, 8, 4), 124, 4),
    Loop("batch dgrad 128x256", "dgrad", SQUARE, "float16", _batch(128, 256, 64, 8, 4), 117, 4),
    Loop("batch dgrad 128x128, stride 2", "dgrad", STRIDED, "float16", _batch(128, 128, 64, 8, 4), 117, 4),
    Loop("batch wgrad 128x256", "wgrad", SQUARE, "float16", _batch(128, 256, 64, 8, 4), 130, 4),
    Loop("batch pool 64x128", "fprop_pool", SQUARE, "float16", _batch(64, 128, 64, 8, 3), 219, 16),
    Loop("matrix product 128x256", "fprop", POINT, "float16", Plan("matmul", Tile(128, 256, 64, 8, 4), True), 127, 4),
    Loop("patch 5x5 pooled", "fprop_pool", STEM, "float32", Plan("patch", None), 284, 200),
    Loop("FFMA", "fprop", SQUARE, "ieee", _gemm(128, 64, 32, 8, 3), 1165, 1024),
)


def counts(loop: Loop) -> dict[str, int]:
    """The instructions of our loop by kind, as `Report.loop` has them."""
    dtype = PRECISIONS[loop.precision]
    with assume_card(CARDS[TARGET]), products(loop.precision):
        found = next(
            launch
            for launch in launches(loop.which, loop.g, dtype, True, loop.plan)
            if "pack" not in launch.kernel.__name__
        )
    return read(compile_launch(found, TARGET)).loop
